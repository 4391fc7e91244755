-- The states of streams: what their events' data come to, merged. They are made
-- of the log by one leader among the instances, and can be made again at any time.
SET LOCAL ROLE tailroom_owner;

-- A generation is one making of all states. One is live; another may be building.
-- Its states are true at its checkpoint.
CREATE TABLE tailroom.state_generations (
    generation bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status     text        NOT NULL CHECK (status IN ('building', 'live', 'retired')),
    epoch      bigint      NOT NULL,
    position   bigint      NOT NULL,
    began_at   timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
COMMENT ON COLUMN tailroom.state_generations.position IS 'All events up to here are in the states, and none behind it.';
CREATE UNIQUE INDEX state_generations_status ON tailroom.state_generations (status) WHERE status <> 'retired';
INSERT INTO tailroom.state_generations (status, epoch, position) VALUES ('live', 1, 0);

CREATE TABLE tailroom.states (
    generation bigint             NOT NULL,
    tenant     text   COLLATE "C" NOT NULL,
    namespace  text   COLLATE "C" NOT NULL,
    stream     text   COLLATE "C" NOT NULL,
    version    bigint             NOT NULL,
    state      jsonb              NOT NULL,
    open       boolean            NOT NULL,
    incomplete boolean            NOT NULL,
    rooms      text[] COLLATE "C" NOT NULL,
    heard      text[] COLLATE "C" NOT NULL CHECK (cardinality(heard) > 0),
    position   bigint             NOT NULL,
    updated_at timestamptz        NOT NULL,
    size       integer            NOT NULL GENERATED ALWAYS AS (octet_length(state::text)) STORED,
    room       text   COLLATE "C" GENERATED ALWAYS AS (CASE WHEN cardinality(heard) = 1 AND strpos(heard[1], E'\x1f') = 0 THEN heard[1] END) STORED,
    PRIMARY KEY (generation, tenant, namespace, stream)
) WITH (fillfactor = 70);
COMMENT ON TABLE tailroom.states IS 'What each stream comes to; version, rooms, position and updated_at are its last event''s.';
COMMENT ON COLUMN tailroom.states.heard IS 'The rooms of its events, of each joined by the unit separator, the narrowest alone: who is in one of each could read them all.';
COMMENT ON COLUMN tailroom.states.room IS 'The room that says it all, as it mostly does.';
COMMENT ON COLUMN tailroom.states.open IS 'No event has closed it yet.';
COMMENT ON COLUMN tailroom.states.incomplete IS 'The data of some event are not in it: they would have made it too large, or were no object.';
-- None of these columns changes while a stream lives on where it is, so that a new state of it
-- touches no index.
CREATE INDEX states_open  ON tailroom.states (generation, tenant, namespace, stream) WHERE open;
CREATE INDEX states_room  ON tailroom.states (generation, tenant, namespace, room, stream);
CREATE INDEX states_rooms ON tailroom.states (generation, tenant, namespace, stream) WHERE room IS NULL;

-- Earlier states of long streams, one for each so many versions: what a stream was
-- at some cursor is made of the one before it and a few events.
CREATE TABLE tailroom.state_keyframes (
    generation bigint             NOT NULL,
    tenant     text   COLLATE "C" NOT NULL,
    namespace  text   COLLATE "C" NOT NULL,
    stream     text   COLLATE "C" NOT NULL,
    version    bigint             NOT NULL,
    state      jsonb              NOT NULL,
    open       boolean            NOT NULL,
    incomplete boolean            NOT NULL,
    rooms      text[] COLLATE "C" NOT NULL,
    heard      text[] COLLATE "C" NOT NULL CHECK (cardinality(heard) > 0),
    position   bigint             NOT NULL,
    updated_at timestamptz        NOT NULL,
    PRIMARY KEY (generation, tenant, namespace, stream, version)
);
CREATE INDEX state_keyframes_position ON tailroom.state_keyframes (position);

-- The states at the log's floor, without which those events would be missed that
-- retention has dropped. A row counts when the floor has come to it, and of
-- several the one with the highest: so a new floor's are written before it counts.
CREATE TABLE tailroom.state_floor (
    tenant     text   COLLATE "C" NOT NULL,
    namespace  text   COLLATE "C" NOT NULL,
    stream     text   COLLATE "C" NOT NULL,
    floor      bigint             NOT NULL,
    version    bigint             NOT NULL,
    state      jsonb              NOT NULL,
    open       boolean            NOT NULL,
    incomplete boolean            NOT NULL,
    rooms      text[] COLLATE "C" NOT NULL,
    heard      text[] COLLATE "C" NOT NULL CHECK (cardinality(heard) > 0),
    position   bigint             NOT NULL,
    updated_at timestamptz        NOT NULL,
    size       integer            NOT NULL GENERATED ALWAYS AS (octet_length(state::text)) STORED,
    PRIMARY KEY (tenant, namespace, stream, floor)
);
CREATE INDEX state_floor_floor ON tailroom.state_floor (floor, tenant, namespace, stream);

-- How far the states of the next floor are written. One row.
CREATE TABLE tailroom.state_floor_progress (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    target    bigint  NOT NULL DEFAULT 0,
    position  bigint  NOT NULL DEFAULT 0,
    redacted  bigint  NOT NULL DEFAULT 0
);
COMMENT ON COLUMN tailroom.state_floor_progress.redacted IS 'The newest redaction''s record when it began.';
INSERT INTO tailroom.state_floor_progress DEFAULT VALUES;

-- state_head is what a reader of states, or who makes them, must know in one
-- snapshot: the live generation, and the log it is of.
CREATE VIEW tailroom.state_head AS
    SELECT g.generation, g.epoch, g.position, b.tip, b.floor, b.epoch AS newest,
        coalesce((SELECT array_agg(e.epoch ORDER BY e.epoch) FROM tailroom.epochs e), '{}') AS epochs,
        coalesce((SELECT array_agg(e.survived ORDER BY e.epoch) FROM tailroom.epochs e), '{}') AS survived
    FROM tailroom.bounds b LEFT JOIN tailroom.state_generations g ON g.status = 'live';

-- state_fold moves a generation's checkpoint, and puts states in the place of what
-- they were. Rooms come joined by the unit separator, those of several events by the
-- record separator; where keyframes is true the row is a keyframe. Of the forgotten streams the keyframes from a version on go
-- first. When the checkpoint is not where the caller believes, somebody else has
-- the lead, or another generation is live: then nothing happens, and the result is
-- false.
--
-- A crash may take the newest checkpoints back, with their states. They are made
-- again then, so nobody need wait for the disk.
CREATE FUNCTION tailroom.state_fold(
    which bigint, from_epoch bigint, from_position bigint, to_epoch bigint, to_position bigint,
    forgotten_tenants text[], forgotten_namespaces text[], forgotten_streams text[], forgotten_versions bigint[],
    keyframes boolean[], tenants text[], namespaces text[], streams text[], versions bigint[], datas jsonb[], opens boolean[],
    incompletes boolean[], rooms text[], heards text[], positions bigint[], updated_ats timestamptz[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    UPDATE tailroom.state_generations g SET epoch = to_epoch, position = to_position
    WHERE g.generation = which AND g.status <> 'retired' AND g.epoch = from_epoch AND g.position = from_position;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF cardinality(forgotten_streams) > 0 THEN
        DELETE FROM tailroom.state_keyframes k
        USING unnest(forgotten_tenants, forgotten_namespaces, forgotten_streams, forgotten_versions) AS f (tenant, namespace, stream, version)
        WHERE k.generation = which AND k.tenant = f.tenant AND k.namespace = f.namespace AND k.stream = f.stream AND k.version >= f.version;
    END IF;
    INSERT INTO tailroom.states AS s
        (generation, tenant, namespace, stream, version, state, open, incomplete, rooms, heard, position, updated_at)
    SELECT which, r.tenant, r.namespace, r.stream, r.version, r.data, r.open, r.incomplete,
        string_to_array(r.rooms, E'\x1f'), string_to_array(r.heard, E'\x1e'), r.position, r.updated_at
    FROM unnest(keyframes, tenants, namespaces, streams, versions, datas, opens, incompletes, rooms, heards, positions, updated_ats)
        AS r (keyframe, tenant, namespace, stream, version, data, open, incomplete, rooms, heard, position, updated_at)
    WHERE NOT r.keyframe
    ON CONFLICT (generation, tenant, namespace, stream) DO UPDATE SET version = excluded.version, state = excluded.state,
        open = excluded.open, incomplete = excluded.incomplete, rooms = excluded.rooms, heard = excluded.heard, position = excluded.position,
        updated_at = excluded.updated_at;
    IF true = ANY (keyframes) THEN
        INSERT INTO tailroom.state_keyframes AS k
            (generation, tenant, namespace, stream, version, state, open, incomplete, rooms, heard, position, updated_at)
        SELECT which, r.tenant, r.namespace, r.stream, r.version, r.data, r.open, r.incomplete,
            string_to_array(r.rooms, E'\x1f'), string_to_array(r.heard, E'\x1e'), r.position, r.updated_at
        FROM unnest(keyframes, tenants, namespaces, streams, versions, datas, opens, incompletes, rooms, heards, positions, updated_ats)
            AS r (keyframe, tenant, namespace, stream, version, data, open, incomplete, rooms, heard, position, updated_at)
        WHERE r.keyframe
        ON CONFLICT (generation, tenant, namespace, stream, version) DO UPDATE SET state = excluded.state,
            open = excluded.open, incomplete = excluded.incomplete, rooms = excluded.rooms, heard = excluded.heard, position = excluded.position,
            updated_at = excluded.updated_at;
    END IF;
    RETURN true;
END $$;

-- state_begin begins a generation at a cursor; one that was building is given up.
CREATE FUNCTION tailroom.state_begin(epoch bigint, "position" bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    begun bigint;
BEGIN
    UPDATE tailroom.state_generations g SET status = 'retired' WHERE g.status = 'building';
    INSERT INTO tailroom.state_generations (status, epoch, position) VALUES ('building', epoch, "position")
    RETURNING generation INTO begun;
    RETURN begun;
END $$;

-- state_seed copies states of the floor into a generation that is building, some at
-- a time in the order of their streams, and returns how many and the last of them.
CREATE FUNCTION tailroom.state_seed(which bigint, max_rows integer,
    INOUT tenant text, INOUT namespace text, INOUT stream text, OUT seeded bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    WITH page AS (
        SELECT DISTINCT ON (f.tenant, f.namespace, f.stream) f.* FROM tailroom.state_floor f, tailroom.log l
        WHERE f.floor <= l.floor AND (f.tenant, f.namespace, f.stream) > (state_seed.tenant, state_seed.namespace, state_seed.stream)
        ORDER BY f.tenant, f.namespace, f.stream, f.floor DESC LIMIT max_rows),
    copied AS (
        INSERT INTO tailroom.states (generation, tenant, namespace, stream, version, state, open, incomplete, rooms, heard, position, updated_at)
        SELECT which, p.tenant, p.namespace, p.stream, p.version, p.state, p.open, p.incomplete, p.rooms, p.heard, p.position, p.updated_at
        FROM page p WHERE EXISTS (SELECT FROM tailroom.state_generations g WHERE g.generation = which AND g.status = 'building')
        RETURNING tenant, namespace, stream)
    SELECT count(*) OVER (), c.tenant, c.namespace, c.stream INTO seeded, tenant, namespace, stream
    FROM copied c ORDER BY c.tenant DESC, c.namespace DESC, c.stream DESC LIMIT 1;
    seeded := coalesce(seeded, 0);
END $$;

-- state_switch makes a generation the live one, if it has come as far as that has.
CREATE FUNCTION tailroom.state_switch(which bigint, force boolean) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    present tailroom.state_generations;
BEGIN
    SELECT * INTO present FROM tailroom.state_generations g WHERE g.status = 'live' FOR UPDATE;
    PERFORM FROM tailroom.state_generations g
    WHERE g.generation = which AND g.status = 'building' AND (force OR g.position >= present.position) FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE tailroom.state_generations g SET status = 'retired' WHERE g.generation = present.generation;
    UPDATE tailroom.state_generations g SET status = 'live' WHERE g.generation = which;
    RETURN true;
END $$;

-- state_remove removes some rows of generations that are retired, and returns how
-- many: 0 when nothing is left of them.
CREATE FUNCTION tailroom.state_remove(max_rows integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone    bigint := (SELECT min(g.generation) FROM tailroom.state_generations g WHERE g.status = 'retired');
    removed bigint;
BEGIN
    IF gone IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM tailroom.states WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM tailroom.states s WHERE s.generation = gone LIMIT max_rows));
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed = 0 THEN
        DELETE FROM tailroom.state_keyframes
        WHERE ctid = ANY (ARRAY(SELECT k.ctid FROM tailroom.state_keyframes k WHERE k.generation = gone LIMIT max_rows));
        GET DIAGNOSTICS removed = ROW_COUNT;
    END IF;
    IF removed = 0 THEN
        DELETE FROM tailroom.state_generations WHERE generation = gone;
        removed := 1;
    END IF;
    RETURN removed;
END $$;

-- state_page finds states behind one, in the order of company, namespace and stream:
-- those that match, and those that may have matched at the position asof, because
-- something has happened to them since (their position is behind it then). Empty
-- arrays and texts, and a null open, do not filter; an empty tenant is every one.
-- Of rooms those match all of whose events could be heard in them.
-- It stops behind the row with which the states come to max_bytes.
--
-- Not long ago, what has happened since is looked up in the log. Longer ago that
-- would be most of the log: then every state is looked at.
CREATE FUNCTION tailroom.state_page(
    which bigint, checkpoint bigint, asof bigint, tenant text, namespaces text[], rooms text[], prefix text, open boolean,
    after_tenant text, after_namespace text, after_stream text, max_rows integer, max_bytes bigint) RETURNS SETOF tailroom.states
LANGUAGE plpgsql STABLE
SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
DECLARE
    recent constant bigint := 20000;
    match  text := 'true';
    wanted text := '';
    slice  text;
    source text;
BEGIN
    IF open IS NOT NULL THEN
        match := CASE WHEN open THEN 's.open' ELSE 'NOT s.open' END;
    END IF;
    IF cardinality(rooms) > 0 THEN
        match := match || ' AND NOT EXISTS (SELECT FROM unnest(s.heard) h WHERE NOT string_to_array(h, E''\x1f'') && $6)';
    END IF;
    IF prefix <> '' THEN -- a stream has at most 200 characters
        wanted := ' AND X.stream >= $7 AND X.stream <= $7 || repeat(chr(1114111), 200) AND starts_with(X.stream, $7)';
    END IF;
    IF tenant = '' THEN
        source := 'SELECT s.tenant, s.namespace, s.stream FROM tailroom.states s WHERE s.generation = $1'
            || ' AND (s.tenant, s.namespace, s.stream) > ($8, $9, $10) AND s.namespace = ANY ($5)' || replace(wanted, 'X.', 's.')
            || ' AND (s.position > $3 OR ' || match || ') ORDER BY s.tenant, s.namespace, s.stream LIMIT $11';
    ELSE
        slice := ' AND X.stream > CASE WHEN n.namespace = $9 THEN $10 ELSE '''' END' || wanted;
        source := 'SELECT s.tenant, s.namespace, s.stream FROM tailroom.states s WHERE s.generation = $1 AND s.tenant = $4'
            || ' AND s.namespace = n.namespace' || replace(slice, 'X.', 's.');
        IF asof < checkpoint - recent THEN
            source := source || ' AND (s.position > $3 OR ' || match || ') ORDER BY s.stream LIMIT $11';
        ELSIF cardinality(rooms) > 0 AND open IS DISTINCT FROM true THEN
            source := 'SELECT room.* FROM unnest($6) AS r (room) CROSS JOIN LATERAL ((' || source || ' AND s.room = r.room AND '
                || match || ' ORDER BY s.stream LIMIT $11) UNION ALL (' || source || ' AND s.room IS NULL AND '
                || match || ' ORDER BY s.stream LIMIT $11)) room';
        ELSE
            source := source || ' AND ' || match || ' ORDER BY s.stream LIMIT $11';
        END IF;
        IF asof < checkpoint AND asof >= checkpoint - recent THEN
            source := '(' || source || ') UNION ALL (SELECT DISTINCT e.tenant, e.namespace, e.stream FROM tailroom.events e'
                || ' WHERE e.tenant = $4 AND e.namespace = n.namespace AND e.position > $3 AND e.position <= $2'
                || ' AND e.stream IS NOT NULL' || replace(slice, 'X.', 'e.') || ' ORDER BY e.stream LIMIT $11)';
        END IF;
        source := 'SELECT hit.* FROM unnest($5) AS n (namespace) CROSS JOIN LATERAL (' || source || ') hit WHERE n.namespace >= $9';
    END IF;
    RETURN QUERY EXECUTE 'SELECT (p.s).* FROM (SELECT s, sum(s.size) OVER (ORDER BY s.tenant, s.namespace, s.stream)'
        || ' - s.size AS before FROM (SELECT DISTINCT tenant, namespace, stream FROM (' || source
        || ') k ORDER BY tenant, namespace, stream LIMIT $11) k JOIN tailroom.states s ON s.generation = $1'
        || ' AND s.tenant = k.tenant AND s.namespace = k.namespace AND s.stream = k.stream) p'
        || ' WHERE p.before < $12 ORDER BY (p.s).tenant, (p.s).namespace, (p.s).stream'
        USING which, checkpoint, asof, tenant, namespaces, rooms, prefix, after_tenant, after_namespace, after_stream, max_rows, max_bytes;
END $$;

-- position_at is the last position that was recorded at a time or before, as far as
-- the clock ran forward; at the least the floor.
CREATE FUNCTION tailroom.position_at("time" timestamptz) RETURNS bigint
LANGUAGE plpgsql STABLE SET max_parallel_workers_per_gather = 0 SET jit = off AS $$
DECLARE
    floor    bigint;
    low      bigint;
    high     bigint;
    middle   bigint;
    recorded timestamptz;
BEGIN
    SELECT b.floor, b.floor, b.tip INTO floor, low, high FROM tailroom.bounds b;
    WHILE low < high LOOP
        middle := (low + high + 1) / 2;
        SELECT e.recorded_at INTO recorded FROM tailroom.events e
        WHERE e.position <= middle AND e.position > low ORDER BY e.position DESC LIMIT 1;
        IF recorded IS NULL OR recorded <= "time" THEN
            low := middle; -- what no event has says nothing against it
        ELSE
            high := middle - 1;
        END IF;
    END LOOP;
    RETURN coalesce((SELECT e.position FROM tailroom.events e
        WHERE e.position <= low AND e.position > floor ORDER BY e.position DESC LIMIT 1), floor);
END $$;

GRANT SELECT ON tailroom.states, tailroom.state_generations, tailroom.state_head TO tailroom_writer, tailroom_reader;
GRANT SELECT ON tailroom.state_keyframes, tailroom.state_floor TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.state_fold, tailroom.state_begin, tailroom.state_seed, tailroom.state_switch,
    tailroom.state_remove, tailroom.state_page, tailroom.position_at FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.state_fold, tailroom.state_begin, tailroom.state_seed, tailroom.state_switch,
    tailroom.state_remove TO tailroom_writer;
GRANT EXECUTE ON FUNCTION tailroom.state_page, tailroom.position_at TO tailroom_writer, tailroom_reader;
