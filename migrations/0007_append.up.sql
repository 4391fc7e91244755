-- The append, with heads that are never updated in place, an id window that
-- rotates, a deadline, and the outbox's rows moved in the same transaction.
SET LOCAL ROLE tailroom_owner;

-- The append lock comes first: an append that is under way would wait for a table
-- that this has changed, and this for one that the append has.
SELECT pg_advisory_xact_lock(1952541036, 1);

-- Heads: a new version is a new row, and the row before it is deleted. While
-- somebody holds an old snapshot nothing dead can be removed: a row updated in
-- place then has ever more dead versions in front of the living one, and a hot
-- stream slows down without end. Here the newest version is the last of its
-- stream in the index, and the dead ones lie behind it.
ALTER TABLE tailroom.streams RESET (fillfactor);
ALTER TABLE tailroom.streams SET (vacuum_truncate = off); -- it locks out the appends
ALTER TABLE tailroom.streams DROP CONSTRAINT streams_pkey,
    ADD PRIMARY KEY (tenant, namespace, stream, version);
COMMENT ON TABLE tailroom.streams IS 'Heads: the version each stream has reached; one row for each stream.';

-- The idempotency window: the ids that a retry may repeat, in two tables. New
-- ids go into the present one; when that is full of a window's ids, the other
-- one is emptied and becomes the present one. Neither is vacuumed: nothing in
-- them dies, and a vacuum would stand in the way of the rotation.
ALTER TABLE tailroom.recent_ids RENAME TO recent_ids_0;
ALTER INDEX tailroom.recent_ids_pkey RENAME TO recent_ids_0_pkey;
ALTER TABLE tailroom.recent_ids_0 SET (autovacuum_enabled = off);
CREATE TABLE tailroom.recent_ids_1 (
    tenant   text COLLATE "C" NOT NULL,
    id       uuid             NOT NULL,
    position bigint           NOT NULL,
    PRIMARY KEY (tenant, id)
) WITH (autovacuum_enabled = off);
CREATE VIEW tailroom.recent_ids AS
    SELECT tenant, id, position FROM tailroom.recent_ids_0 UNION ALL SELECT tenant, id, position FROM tailroom.recent_ids_1;
ALTER TABLE tailroom.log
    ADD COLUMN ids_table      integer     NOT NULL DEFAULT 0 CHECK (ids_table IN (0, 1)),
    ADD COLUMN ids_rotated_at timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN tailroom.log.ids_table IS 'Which of recent_ids_0 and recent_ids_1 takes new ids.';

-- rotate_ids forgets the older ids when the younger ones are a window old, so
-- that an id is known for one window at least and two at most. It waits for
-- nobody but the appends before it: false says that it is not time yet, or that
-- somebody reads the older table; try again.
CREATE FUNCTION tailroom.rotate_ids(after interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    older integer;
BEGIN
    IF clock_timestamp() < (SELECT ids_rotated_at FROM tailroom.log) + after THEN
        RETURN false;
    END IF;
    -- The append lock first: an append that holds it may need the table.
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    SELECT 1 - ids_table INTO older FROM tailroom.log WHERE clock_timestamp() >= ids_rotated_at + after;
    IF older IS NULL THEN
        RETURN false;
    END IF;
    BEGIN
        EXECUTE format('LOCK TABLE tailroom.recent_ids_%s IN ACCESS EXCLUSIVE MODE NOWAIT', older);
    EXCEPTION WHEN lock_not_available THEN
        RETURN false;
    END;
    EXECUTE format('TRUNCATE tailroom.recent_ids_%s', older);
    UPDATE tailroom.log SET ids_table = older, ids_rotated_at = clock_timestamp();
    RETURN true;
END $$;

-- append_batch appends a batch of events, all of them or none.
--
-- Heads are the distinct streams of the batch, sorted bytewise by (tenant,
-- namespace, stream), each with the number of its events, the number of its last
-- one, and the version it is expected to have (-1: any). Each event names its
-- head by number from 1 (0: no stream) and its place among that head's events
-- from 1. Rooms come as one text, joined by the unit separator; '' is no actor,
-- the first instant of year 1 no reply_by. Within a batch ids are distinct.
--
-- When some ids are known already or some head has another version than the
-- expected one, nothing is appended: `known` (event numbers, with the positions
-- they have) and `conflicts` (head numbers, with the versions they have) say
-- which, and the caller sends the rest again. Looking ids up hardly ever finds
-- one: without judge_ids, and when no version conflicts, a known one is an error
-- (a unique violation of the id window, or SQLSTATE TR004), and the caller comes
-- again with it. Otherwise positions run from first_position in the order of the
-- events, and base_versions holds what each head had before.
--
-- `relayed` are the outbox rows that these events come from: they go in the same
-- transaction. If somebody else took one, that is SQLSTATE TR006.
--
-- seen_position is the highest one that the caller knows to be committed, in
-- seen_epoch; if the log does not reach it, it has lost its end (see epoch_now). After `deadline`, by
-- the database's clock, nothing is appended (SQLSTATE TR005): a statement that was
-- held up on its way must not run when its sender has given it up. `clock` lets
-- him tell the time here.
--
-- The lock is a statement of its own and comes first: whatever follows has a
-- snapshot that is younger than the lock. Postgres releases it after the commit
-- is visible, so whoever sees a position sees, or will never see, all below it.
CREATE FUNCTION tailroom.append_batch(
    judge_ids boolean, seen_epoch bigint, seen_position bigint, deadline timestamptz, relayed bigint[],
    head_tenants text[], head_namespaces text[], head_streams text[], head_counts bigint[], head_lasts integer[],
    head_expected bigint[],
    tenants text[], namespaces text[], types text[], schema_versions integer[], ids uuid[], rooms text[],
    heads integer[], ordinals bigint[], occurred_ats timestamptz[], actors text[],
    correlation_ids text[], causation_ids uuid[], reply_bys timestamptz[], datas jsonb[],
    OUT first_position bigint, OUT epoch bigint, OUT base_versions bigint[],
    OUT known integer[], OUT known_positions bigint[], OUT conflicts integer[], OUT current_versions bigint[],
    OUT waited_us bigint, OUT worked_us bigint, OUT clock timestamptz)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A probe for each id must stay an index scan: the window may grow by a million
-- rows between the statistics that a cached plan was made with and the next. The
-- penalties that forbid the rest look expensive enough to compile for: not that.
-- And the planner knows how long the arrays are: it would plan anew for each
-- batch, which costs a single event more than all the rest.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    arrived     timestamptz := clock_timestamp();
    locked      timestamptz;
    recorded_at timestamptz;
    taken       bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'an append needs READ COMMITTED: under % the snapshot is older than the lock',
            current_setting('transaction_isolation') USING ERRCODE = 'TR003';
    END IF;
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    locked := clock_timestamp();
    waited_us := 1000000 * extract(epoch FROM locked - arrived);
    IF locked > deadline THEN
        RAISE EXCEPTION 'the append came too late' USING ERRCODE = 'TR005';
    END IF;
    -- Durable before anybody sees it, whatever the session or the role says.
    PERFORM set_config('synchronous_commit', 'on', true);

    IF cardinality(head_streams) > 0 THEN
        SELECT array_agg(coalesce(s.version, 0) ORDER BY h.number)
        INTO base_versions
        FROM unnest(head_tenants, head_namespaces, head_streams) WITH ORDINALITY AS h (tenant, namespace, stream, number)
        LEFT JOIN LATERAL (
            SELECT s.version FROM tailroom.streams s
            WHERE s.tenant = h.tenant AND s.namespace = h.namespace AND s.stream = h.stream
            ORDER BY s.version DESC LIMIT 1) s ON true;
    END IF;
    IF 0 <= ANY (head_expected) THEN
        SELECT array_agg(h.number ORDER BY h.number), array_agg(h.version ORDER BY h.number)
        INTO conflicts, current_versions
        FROM unnest(base_versions, head_expected) WITH ORDINALITY AS h (version, expected, number)
        WHERE h.expected >= 0 AND h.expected <> h.version;
    END IF;

    -- A known id decides before a version does: whoever repeats a conditional
    -- append meets the version that he made himself.
    IF judge_ids OR conflicts IS NOT NULL THEN
        SELECT array_agg(e.number ORDER BY e.number), array_agg(r.position ORDER BY e.number)
        INTO known, known_positions
        FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number)
        JOIN tailroom.recent_ids r ON r.tenant = e.tenant AND r.id = e.id;
    END IF;

    IF known IS NULL AND conflicts IS NULL THEN
        IF cardinality(relayed) > 0 THEN
            DELETE FROM tailroom.outbox WHERE id = ANY (relayed);
            GET DIAGNOSTICS taken = ROW_COUNT;
            IF taken < cardinality(relayed) THEN
                RAISE EXCEPTION 'another relay has moved some of these rows' USING ERRCODE = 'TR006';
            END IF;
        END IF;

        epoch := tailroom.epoch_now(seen_epoch, seen_position);
        recorded_at := clock_timestamp();
        first_position := (SELECT last_value FROM tailroom.positions) + 1;

        IF (SELECT ids_table FROM tailroom.log) = 0 THEN
            INSERT INTO tailroom.recent_ids_0 (tenant, id, position)
            SELECT e.tenant, e.id, first_position + e.number - 1
            FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number);
            PERFORM FROM unnest(tenants, ids) AS e (tenant, id)
            JOIN tailroom.recent_ids_1 r ON r.tenant = e.tenant AND r.id = e.id;
        ELSE
            INSERT INTO tailroom.recent_ids_1 (tenant, id, position)
            SELECT e.tenant, e.id, first_position + e.number - 1
            FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number);
            PERFORM FROM unnest(tenants, ids) AS e (tenant, id)
            JOIN tailroom.recent_ids_0 r ON r.tenant = e.tenant AND r.id = e.id;
        END IF;
        IF FOUND THEN
            RAISE EXCEPTION 'some ids of the batch are known' USING ERRCODE = 'TR004';
        END IF;

        IF cardinality(head_streams) > 0 THEN
            INSERT INTO tailroom.streams (tenant, namespace, stream, version, last_position)
            SELECT h.tenant, h.namespace, h.stream, h.base + h.count, first_position + h.last - 1
            FROM unnest(head_tenants, head_namespaces, head_streams, base_versions, head_counts, head_lasts)
                AS h (tenant, namespace, stream, base, count, last);
        END IF;
        IF 0 < ANY (base_versions) THEN
            DELETE FROM tailroom.streams s
            USING unnest(head_tenants, head_namespaces, head_streams, base_versions) AS h (tenant, namespace, stream, base)
            WHERE h.base > 0
                AND s.tenant = h.tenant AND s.namespace = h.namespace AND s.stream = h.stream AND s.version = h.base;
        END IF;

        INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms,
            stream, version, occurred_at, recorded_at, actor, correlation_id, causation_id, reply_by, data)
        SELECT first_position + e.number - 1, epoch, e.id, e.tenant, e.namespace, e.type, e.schema_version,
            string_to_array(e.rooms, E'\x1f'),
            head_streams[e.head], base_versions[e.head] + e.ordinal,
            e.occurred_at, recorded_at, nullif(e.actor, ''), e.correlation_id,
            e.causation_id, nullif(e.reply_by, '0001-01-01 00:00:00Z'), e.data
        FROM unnest(tenants, namespaces, types, schema_versions, ids, rooms, heads, ordinals, occurred_ats, actors,
                correlation_ids, causation_ids, reply_bys, datas)
            WITH ORDINALITY AS e (tenant, namespace, type, schema_version, id, rooms, head, ordinal, occurred_at, actor,
                correlation_id, causation_id, reply_by, data, number);

        -- Not undone by a rollback: whatever fails should have failed by now.
        PERFORM setval('tailroom.positions', first_position + cardinality(ids) - 1);
        PERFORM pg_notify('tailroom', first_position || ':' || first_position + cardinality(ids) - 1);
    END IF;
    clock := clock_timestamp();
    worked_us := 1000000 * extract(epoch FROM clock - locked);
END $$;

DROP FUNCTION tailroom.append_batch(boolean, text[], text[], text[], bigint[], integer[], bigint[], text[], text[], text[],
    integer[], uuid[], text[], integer[], bigint[], timestamptz[], text[], text[], uuid[], timestamptz[], jsonb[]);
DROP FUNCTION tailroom.epoch_now();

GRANT SELECT ON tailroom.streams TO tailroom_writer, tailroom_reader;
REVOKE ALL ON FUNCTION tailroom.rotate_ids(interval), tailroom.append_batch FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.rotate_ids(interval), tailroom.append_batch TO tailroom_writer;
