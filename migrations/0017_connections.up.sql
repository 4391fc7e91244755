-- Who is connected, at every instance.
SET LOCAL ROLE tailroom_owner;

-- What follows is not logged: the instances would write it again. It is empty after a
-- crash of the database, and that shows: nothing is left of its showings.

-- How often each instance has shown its sessions. One that gives a showing up tries
-- again, with what was changed meanwhile; the one before may then come late.
CREATE UNLOGGED TABLE tailroom.connection_showings (
    instance uuid   PRIMARY KEY REFERENCES tailroom.instances ON DELETE CASCADE,
    first    bigint NOT NULL,
    last     bigint NOT NULL
) WITH (fillfactor = 50);
COMMENT ON COLUMN tailroom.connection_showings.first IS 'By the instance''s own count. The table has forgotten what was shown before.';

-- The sessions there are, as their instances have last shown them: about a second ago.
-- They end with their instance.
CREATE UNLOGGED TABLE tailroom.connections (
    instance    uuid             NOT NULL REFERENCES tailroom.connection_showings ON DELETE CASCADE,
    number      bigint           NOT NULL,
    session     text             NOT NULL,
    connection  text             NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    subject     text             NOT NULL,
    role        text             NOT NULL,
    transport   text             NOT NULL,
    engine      jsonb,
    address     text             NOT NULL,
    client      text             NOT NULL,
    version     text             NOT NULL,
    consumer    text             NOT NULL,
    rooms       jsonb            NOT NULL,
    since       timestamptz      NOT NULL,
    PRIMARY KEY (instance, number)
) WITH (fillfactor = 80);
COMMENT ON COLUMN tailroom.connections.number IS 'The instance''s own count.';
COMMENT ON COLUMN tailroom.connections.connection IS 'Names the network connection: over Socket.IO each joined namespace is a session of its own.';
COMMENT ON COLUMN tailroom.connections.tenant IS 'Empty: every company.';
COMMENT ON COLUMN tailroom.connections.rooms IS 'The rooms that are joined in each namespace.';
COMMENT ON COLUMN tailroom.connections.since IS 'By the clock of the instance.';

-- present_connections are the sessions of instances that live.
CREATE VIEW tailroom.present_connections AS
    SELECT c.*, i.name AS instance_name
    FROM tailroom.connections c
    JOIN tailroom.instances i ON i.incarnation = c.instance
    WHERE i.seen_at >= clock_timestamp() - interval '5 seconds';

-- connections_seen are those that are meant: '' is each. With a room, those that have
-- joined it in the namespace, or in any.
CREATE FUNCTION tailroom.connections_seen(tenant text, instance text, namespace text, room text, role text, subject text, transport text)
RETURNS SETOF tailroom.present_connections LANGUAGE plpgsql STABLE SET jit = off AS $$
BEGIN
    RETURN QUERY SELECT c.* FROM tailroom.present_connections c
    WHERE (connections_seen.tenant = '' OR c.tenant = connections_seen.tenant)
        AND (connections_seen.instance = '' OR c.instance_name = connections_seen.instance)
        AND (connections_seen.role = '' OR c.role = connections_seen.role)
        AND (connections_seen.subject = '' OR c.subject = connections_seen.subject)
        AND (connections_seen.transport = '' OR c.transport = connections_seen.transport)
        AND (namespace = '' AND room = '' OR EXISTS (SELECT FROM jsonb_each(c.rooms) n
            WHERE (namespace = '' OR n.key = namespace) AND (room = '' OR n.value @> to_jsonb(room))));
END $$;

-- connections_show writes of an instance how sessions are, and takes away those that have
-- `ended`. It returns the first of the instance's showings that the table knows: when that
-- is another than before, all others have to be shown again. 0: nothing is done, for the
-- instance is not known. One that is not the last any more is an error: what it says is old.
CREATE FUNCTION tailroom.connections_show(incarnation uuid, showing bigint, ended bigint[], sessions jsonb) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
DECLARE
    begun bigint;
BEGIN
    PERFORM FROM tailroom.instances i WHERE i.incarnation = connections_show.incarnation FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    -- Whoever else shows them waits here.
    INSERT INTO tailroom.connection_showings AS s (instance, first, last) VALUES (incarnation, showing, showing)
    ON CONFLICT (instance) DO UPDATE SET last = excluded.last WHERE s.last < excluded.last RETURNING s.first INTO begun;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the instance has shown its connections again since then';
    END IF;
    INSERT INTO tailroom.connections (instance, number, session, connection, tenant, subject, role, transport, engine, address, client,
        version, consumer, rooms, since)
    SELECT incarnation, s.number, s.session, s.connection, s.tenant, s.subject, s.role, s.transport, s.engine, s.address, s.client,
        s.version, s.consumer, s.rooms, s.since
    FROM jsonb_to_recordset(sessions) AS s (number bigint, session text, connection text, tenant text, subject text, role text,
        transport text, engine jsonb, address text, client text, version text, consumer text, rooms jsonb, since timestamptz)
    ON CONFLICT (instance, number) DO UPDATE SET tenant = excluded.tenant, subject = excluded.subject, role = excluded.role,
        engine = excluded.engine, consumer = excluded.consumer, rooms = excluded.rooms;
    DELETE FROM tailroom.connections c WHERE c.instance = incarnation AND c.number = ANY (ended);
    RETURN begun;
END $$;

GRANT SELECT ON tailroom.connection_showings, tailroom.connections, tailroom.present_connections TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.connections_seen, tailroom.connections_show FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.connections_seen, tailroom.connections_show TO tailroom_writer;
