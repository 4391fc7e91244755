-- Which instances run, and consumers: named readers whose acknowledged cursor the
-- server keeps.
SET LOCAL ROLE tailroom_owner;

-- The instances that run, or did until lately. One is alive that was seen in the
-- last five seconds; each shows itself every second. Times are the database's.
CREATE TABLE tailroom.instances (
    incarnation uuid             PRIMARY KEY,
    name        text COLLATE "C" NOT NULL UNIQUE,
    started_at  timestamptz      NOT NULL,
    seen_at     timestamptz      NOT NULL,
    address     text             NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
COMMENT ON COLUMN tailroom.instances.address IS 'A URL: where the others reach it; empty until it listens.';

CREATE TABLE tailroom.consumers (
    tenant          text COLLATE "C" NOT NULL,
    name            text COLLATE "C" NOT NULL,
    subject         text             NOT NULL,
    role            text             NOT NULL,
    follows         jsonb            NOT NULL,
    created_at      timestamptz      NOT NULL,
    joined_epoch    bigint           NOT NULL,
    joined_position bigint           NOT NULL,
    epoch           bigint           NOT NULL,
    position        bigint           NOT NULL,
    acknowledged_at timestamptz,
    instance        uuid             NOT NULL,
    session         text             NOT NULL,
    generation      bigint           NOT NULL,
    connected_at    timestamptz      NOT NULL,
    disconnected_at timestamptz,
    lagging         boolean          NOT NULL DEFAULT false,
    PRIMARY KEY (tenant, name)
) WITH (fillfactor = 70);
COMMENT ON COLUMN tailroom.consumers.subject IS 'Whose it is: another subject cannot use the name.';
COMMENT ON COLUMN tailroom.consumers.follows IS 'The rooms in each namespace, as last subscribed; "*" is all of them.';
COMMENT ON COLUMN tailroom.consumers.joined_position IS 'Where it began: what lies up to there it was never addressed by.';
COMMENT ON COLUMN tailroom.consumers.position IS 'With the epoch, its acknowledged cursor.';
COMMENT ON COLUMN tailroom.consumers.session IS 'The one session that may acknowledge; a newer one replaces it.';
COMMENT ON COLUMN tailroom.consumers.generation IS 'How many sessions it has had. A smaller one than a session knows: the database has lost its end.';
COMMENT ON COLUMN tailroom.consumers.lagging IS 'That retention takes soon what it has not acknowledged was told.';

-- What consumers have acknowledged when, for receipts: at most a row for each
-- consumer and second in which it acknowledged an event.
CREATE TABLE tailroom.consumer_acks (
    tenant   text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    epoch    bigint           NOT NULL,
    position bigint           NOT NULL,
    at       timestamptz      NOT NULL,
    PRIMARY KEY (tenant, name, epoch, position)
);
CREATE INDEX consumer_acks_position ON tailroom.consumer_acks (position); -- to forget them by

-- consumer_states is how consumers are now. Those of an instance that died have
-- been away since it was last seen. `held` is the position they would go on from:
-- a later life of the log may have less of the one that they acknowledged in.
CREATE VIEW tailroom.consumer_states AS
    SELECT c.*, s.connected, CASE WHEN s.connected THEN i.name END AS instance_name,
        CASE WHEN s.connected THEN c.connected_at ELSE coalesce(c.disconnected_at, i.seen_at, c.connected_at) END AS since,
        least(c.position, (SELECT min(e.survived) FROM tailroom.epochs e WHERE e.epoch > c.epoch)) AS held
    FROM tailroom.consumers c
    LEFT JOIN tailroom.instances i ON i.incarnation = c.instance
    CROSS JOIN LATERAL (SELECT c.disconnected_at IS NULL
        AND coalesce(i.seen_at >= clock_timestamp() - interval '5 seconds', false) AS connected) s;

-- instance_join makes an instance known by a name. When another has that, it
-- returns when that one was last seen, and does nothing: unless it is dead, or has
-- not been seen since `silent`, which is what an earlier call returned.
CREATE FUNCTION tailroom.instance_join(incarnation uuid, name text, silent timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    holder tailroom.instances;
BEGIN
    SELECT * INTO holder FROM tailroom.instances i WHERE i.name = instance_join.name FOR UPDATE;
    IF holder.seen_at >= clock_timestamp() - interval '5 seconds' AND holder.seen_at IS DISTINCT FROM silent THEN
        RETURN holder.seen_at;
    END IF;
    PERFORM tailroom.instance_leave(holder.incarnation);
    INSERT INTO tailroom.instances (incarnation, name, started_at, seen_at)
    VALUES (instance_join.incarnation, instance_join.name, clock_timestamp(), clock_timestamp()) ON CONFLICT DO NOTHING;
    RETURN (SELECT i.seen_at FROM tailroom.instances i
        WHERE i.name = instance_join.name AND i.incarnation <> instance_join.incarnation); -- somebody was faster
END $$;

-- instance_beat shows that an instance lives, and where it is reached; it returns how
-- many do: 0 if this one is not known any more. It takes away those that have been
-- dead for a minute.
CREATE FUNCTION tailroom.instance_beat(incarnation uuid, address text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
BEGIN
    UPDATE tailroom.instances i SET seen_at = clock_timestamp(), address = instance_beat.address
    WHERE i.incarnation = instance_beat.incarnation;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    PERFORM tailroom.instance_leave(i.incarnation) FROM tailroom.instances i WHERE i.seen_at < clock_timestamp() - interval '1 minute';
    RETURN (SELECT count(*) FROM tailroom.instances i WHERE i.seen_at >= clock_timestamp() - interval '5 seconds');
END $$;

-- instance_leave takes an instance away. Consumers that it had have been away since
-- it was last seen.
CREATE FUNCTION tailroom.instance_leave(incarnation uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $$
#variable_conflict use_column
DECLARE
    gone tailroom.instances;
BEGIN
    DELETE FROM tailroom.instances i WHERE i.incarnation = instance_leave.incarnation RETURNING i.* INTO gone;
    IF FOUND THEN
        -- In the order in which everybody locks them.
        PERFORM FROM tailroom.consumers c WHERE c.instance = gone.incarnation AND c.disconnected_at IS NULL
            ORDER BY c.tenant, c.name FOR UPDATE;
        UPDATE tailroom.consumers c SET disconnected_at = greatest(gone.seen_at, c.connected_at)
        WHERE c.instance = gone.incarnation AND c.disconnected_at IS NULL;
    END IF;
END $$;

-- consumer_claim makes sessions of an instance those of consumers, whoever had them
-- before. All arrays have an element for each claim, and are in the order of
-- (tenant, name), in which everybody locks them. A consumer that is new begins
-- where its epoch and position say, or, when they are −1, behind the log's present
-- end; a company has `most` at most (a few more if they come to several instances
-- at once). A claim takes the consumer only from sessions up to the `known` generation:
-- what there was when the claim was asked for, so that one that hangs somewhere takes
-- nothing from a newer one that was faster. After a claim's deadline, by the
-- database's clock, it takes the consumer from nobody: its client may have given up
-- by then. An outcome is 0 (done), 1 (it is another subject's), 2 (no room), 3 (too
-- late) or 4 (it has a newer session).
CREATE FUNCTION tailroom.consumer_claim(instance uuid, tenants text[], names text[], subjects text[], roles text[],
    follows text[], sessions text[], known bigint[], deadlines timestamptz[],
    epochs bigint[], positions bigint[], most bigint,
    OUT outcomes bigint[], OUT made bigint[], OUT acked_epochs bigint[], OUT acked_positions bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '4s' AS $$
#variable_conflict use_column
DECLARE
    at    timestamptz := clock_timestamp();
    ends  tailroom.bounds;
    c     tailroom.consumers;
    fresh boolean;
    there bigint; -- consumers of the tenant, once they had to be counted
BEGIN
    SELECT * INTO ends FROM tailroom.bounds;
    FOR i IN 1 .. cardinality(names) LOOP
        c := NULL;
        IF tenants[i] IS DISTINCT FROM tenants[i - 1] THEN
            there := NULL;
        END IF;
        fresh := NOT EXISTS (SELECT FROM tailroom.consumers o WHERE o.tenant = tenants[i] AND o.name = names[i]);
        IF fresh THEN
            there := coalesce(there, (SELECT count(*) FROM tailroom.consumers o WHERE o.tenant = tenants[i])) + 1;
        END IF;
        IF fresh AND there > most THEN
            outcomes[i] := 2;
        ELSE
            INSERT INTO tailroom.consumers AS o (tenant, name, subject, role, follows, created_at, joined_epoch, joined_position,
                epoch, position, instance, session, generation, connected_at)
            SELECT tenants[i], names[i], subjects[i], roles[i], follows[i]::jsonb, at, b.epoch, b.position, b.epoch, b.position,
                consumer_claim.instance, sessions[i], known[i] + 1, at
            FROM (SELECT CASE WHEN positions[i] < 0 THEN ends.epoch ELSE epochs[i] END,
                CASE WHEN positions[i] < 0 THEN ends.tip ELSE positions[i] END) AS b (epoch, position)
            ON CONFLICT (tenant, name) DO UPDATE SET role = excluded.role, follows = excluded.follows, instance = excluded.instance,
                session = excluded.session, generation = greatest(o.generation, known[i]) + 1,
                connected_at = at, disconnected_at = NULL
            WHERE o.subject = excluded.subject AND clock_timestamp() <= deadlines[i]
                AND (o.session = excluded.session OR o.generation <= known[i])
            RETURNING o.* INTO c;
            outcomes[i] := CASE WHEN c.name IS NOT NULL THEN 0
                WHEN EXISTS (SELECT FROM tailroom.consumers o WHERE o.tenant = tenants[i] AND o.name = names[i] AND o.subject <> subjects[i]) THEN 1
                WHEN clock_timestamp() > deadlines[i] THEN 3 ELSE 4 END;
        END IF;
        made[i] := coalesce(c.generation, 0);
        acked_epochs[i] := coalesce(c.epoch, 0);
        acked_positions[i] := coalesce(c.position, 0);
    END LOOP;
END $$;

-- consumer_flush writes, of sessions that have `changed`, what they have acknowledged,
-- what they follow when that is another than before ('': it is not), and which have
-- ended; an acknowledged cursor never moves back. The arrays are as consumer_claim's.
-- What is `noted` goes into the history. It returns the places, from 1, of sessions
-- that are their consumers' no more: outdated ones, which a newer has replaced and which
-- change nothing, and lost ones: the database has forgotten them with its end, or was
-- told that they are gone by those who took their instance for dead.
CREATE FUNCTION tailroom.consumer_flush(tenants text[], names text[], sessions text[], generations bigint[], changed boolean[],
    epochs bigint[], positions bigint[], noted boolean[], follows text[], ended boolean[], OUT outdated bigint[], OUT lost bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET jit = off AS $$
#variable_conflict use_column
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    WITH written AS (
        UPDATE tailroom.consumers c
        SET epoch = CASE WHEN (g.epoch, g.position) > (c.epoch, c.position) THEN g.epoch ELSE c.epoch END,
            position = CASE WHEN (g.epoch, g.position) > (c.epoch, c.position) THEN g.position ELSE c.position END,
            acknowledged_at = CASE WHEN (g.epoch, g.position) > (c.epoch, c.position) THEN at ELSE c.acknowledged_at END,
            follows = coalesce(nullif(g.follows, '')::jsonb, c.follows),
            disconnected_at = CASE WHEN g.ended THEN coalesce(c.disconnected_at, at) ELSE c.disconnected_at END
        FROM unnest(tenants, names, sessions, changed, epochs, positions, noted, consumer_flush.follows, ended)
            AS g (tenant, name, session, changed, epoch, position, noted, follows, ended)
        WHERE g.changed AND c.tenant = g.tenant AND c.name = g.name AND c.session = g.session
        RETURNING c.tenant, c.name, c.epoch, c.position, g.noted)
    INSERT INTO tailroom.consumer_acks (tenant, name, epoch, position, at)
    SELECT w.tenant, w.name, w.epoch, w.position, at FROM written w WHERE w.noted
    ON CONFLICT DO NOTHING;

    SELECT coalesce(array_agg(g.place) FILTER (WHERE c.session <> g.session AND c.generation >= g.generation), '{}'),
        coalesce(array_agg(g.place) FILTER (WHERE c.session = g.session OR (c.generation >= g.generation) IS NOT TRUE), '{}')
    INTO outdated, lost
    FROM unnest(tenants, names, sessions, generations, ended) WITH ORDINALITY AS g (tenant, name, session, generation, ended, place)
    LEFT JOIN tailroom.consumers c ON c.tenant = g.tenant AND c.name = g.name
    WHERE NOT g.ended AND (c.session IS DISTINCT FROM g.session OR c.disconnected_at IS NOT NULL);
END $$;

-- consumer_lag counts the events after a position that are addressed to who follows
-- these rooms, `most` of them at most, and finds the oldest.
CREATE FUNCTION tailroom.consumer_lag(tenant text, follows jsonb, after bigint, most bigint,
    OUT events bigint, OUT oldest timestamptz)
LANGUAGE plpgsql STABLE SET max_parallel_workers_per_gather = 0 SET jit = off AS $$
DECLARE
    floor bigint := (SELECT l.floor FROM tailroom.log l);
    first bigint;
BEGIN
    SELECT count(*), min(p.position) INTO events, first FROM (
        SELECT DISTINCT hit.position
        FROM (SELECT f.key AS namespace, r.room FROM jsonb_each(follows) f CROSS JOIN LATERAL jsonb_array_elements_text(f.value) AS r (room)) topic
        CROSS JOIN LATERAL (
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room <> '*' AND e.tenant = consumer_lag.tenant AND e.namespace = topic.namespace
                AND e.first_room = topic.room AND e.position > greatest(after, floor)
             ORDER BY e.position LIMIT most)
            UNION ALL
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room <> '*' AND e.tenant = consumer_lag.tenant AND e.namespace = topic.namespace
                AND cardinality(e.rooms) > 1 AND e.rooms @> ARRAY[topic.room] AND e.position > greatest(after, floor)
             ORDER BY e.position LIMIT most)
            UNION ALL
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room = '*' AND e.tenant = consumer_lag.tenant AND e.namespace = topic.namespace
                AND e.position > greatest(after, floor)
             ORDER BY e.position LIMIT most)
        ) hit
        ORDER BY hit.position LIMIT most) p;
    oldest := (SELECT e.recorded_at FROM tailroom.events e WHERE e.position = first);
END $$;

-- consumers_lagging tells of consumers that have not acknowledged everything up to a
-- position, which retention takes next: each once until it has caught up, and `most`
-- of them in one call. It returns how many lag. One that is being written to waits for
-- the next call: nobody waits for a consumer with the append lock.
CREATE FUNCTION tailroom.consumers_lagging(upto bigint, most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    c tailroom.consumer_states;
BEGIN
    IF EXISTS (SELECT FROM tailroom.consumer_states s WHERE s.held < upto AND NOT s.lagging) THEN
        PERFORM pg_advisory_xact_lock(1952541036, 1);
        FOR c IN
            SELECT * FROM (SELECT * FROM tailroom.consumer_states s WHERE s.held < upto AND NOT s.lagging ORDER BY s.held LIMIT most) s
            ORDER BY s.tenant, s.name
        LOOP
            PERFORM FROM tailroom.consumers u WHERE u.tenant = c.tenant AND u.name = c.name AND NOT u.lagging FOR UPDATE SKIP LOCKED;
            IF FOUND THEN
                UPDATE tailroom.consumers u SET lagging = true WHERE u.tenant = c.tenant AND u.name = c.name;
                PERFORM tailroom.tell(c.tenant, 'consumerLagging', NULL, 'tailroom', jsonb_build_object('consumer', c.name,
                    'role', c.role, 'connected', c.connected, 'cursor', c.epoch || '-' || c.position, 'upto', upto,
                    'since', to_char(c.since AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')));
            END IF;
        END LOOP;
    END IF;
    UPDATE tailroom.consumers u SET lagging = false
    WHERE u.ctid = ANY (ARRAY(SELECT o.ctid FROM tailroom.consumers o WHERE o.lagging AND EXISTS (
        SELECT FROM tailroom.consumer_states s WHERE s.tenant = o.tenant AND s.name = o.name AND s.held >= upto) FOR UPDATE OF o SKIP LOCKED));
    RETURN (SELECT count(*) FROM tailroom.consumers u WHERE u.lagging);
END $$;

-- consumer_acks_forget forgets when events were acknowledged that are gone, `most` of
-- them in one call, and returns how many those were.
CREATE FUNCTION tailroom.consumer_acks_forget(most bigint) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    forgotten bigint;
BEGIN
    DELETE FROM tailroom.consumer_acks a WHERE a.ctid = ANY (ARRAY(
        SELECT o.ctid FROM tailroom.consumer_acks o WHERE o.position <= (SELECT l.floor FROM tailroom.log l) LIMIT most));
    GET DIAGNOSTICS forgotten = ROW_COUNT;
    RETURN forgotten;
END $$;

-- consumer_erase forgets a consumer that is not connected, and tells of it. The
-- outcome is 0 (done), 1 (there is none) or 2 (it is connected).
CREATE FUNCTION tailroom.consumer_erase(tenant text, name text, reason text, actor text,
    OUT outcome bigint, OUT "position" bigint, OUT epoch bigint, OUT recorded_at timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
    c tailroom.consumers;
BEGIN
    outcome := 0;
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    PERFORM set_config('lock_timeout', '200ms', true); -- appends wait with us
    SELECT * INTO c FROM tailroom.consumers o WHERE o.tenant = consumer_erase.tenant AND o.name = consumer_erase.name FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 1;
    ELSIF (SELECT s.connected FROM tailroom.consumer_states s WHERE s.tenant = c.tenant AND s.name = c.name) THEN
        outcome := 2;
    ELSE
        DELETE FROM tailroom.consumer_acks a WHERE a.tenant = c.tenant AND a.name = c.name;
        DELETE FROM tailroom.consumers o WHERE o.tenant = c.tenant AND o.name = c.name;
        "position" := tailroom.tell(c.tenant, 'consumerErased', reason, actor, jsonb_build_object('consumer', c.name,
            'subject', c.subject, 'cursor', c.epoch || '-' || c.position));
        SELECT e.epoch, e.recorded_at INTO epoch, recorded_at FROM tailroom.events e WHERE e.position = consumer_erase."position";
    END IF;
END $$;

GRANT SELECT ON tailroom.instances, tailroom.consumers, tailroom.consumer_acks, tailroom.consumer_states TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.instance_join, tailroom.instance_beat, tailroom.instance_leave, tailroom.consumer_claim,
    tailroom.consumer_flush, tailroom.consumer_lag, tailroom.consumers_lagging, tailroom.consumer_acks_forget, tailroom.consumer_erase FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.instance_join, tailroom.instance_beat, tailroom.instance_leave, tailroom.consumer_claim,
    tailroom.consumer_flush, tailroom.consumer_lag, tailroom.consumers_lagging, tailroom.consumer_acks_forget, tailroom.consumer_erase TO tailroom_writer;
