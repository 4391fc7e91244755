-- Back to the append of before: heads updated in place, one table of ids. What
-- is in the younger table of ids is kept.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.append_batch, tailroom.rotate_ids;
DROP VIEW tailroom.recent_ids;
INSERT INTO tailroom.recent_ids_0 SELECT * FROM tailroom.recent_ids_1 ON CONFLICT DO NOTHING;
DROP TABLE tailroom.recent_ids_1;
ALTER TABLE tailroom.recent_ids_0 RESET (autovacuum_enabled);
ALTER TABLE tailroom.recent_ids_0 RENAME TO recent_ids;
ALTER INDEX tailroom.recent_ids_0_pkey RENAME TO recent_ids_pkey;
ALTER TABLE tailroom.log DROP COLUMN ids_table, DROP COLUMN ids_rotated_at;
ALTER TABLE tailroom.streams DROP CONSTRAINT streams_pkey, ADD PRIMARY KEY (tenant, namespace, stream);
ALTER TABLE tailroom.streams SET (fillfactor = 70);
COMMENT ON TABLE tailroom.streams IS NULL;

CREATE FUNCTION tailroom.epoch_now() RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    present text := (SELECT system_identifier FROM pg_control_system())
        || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || '/' || 'tailroom.events'::regclass::oid;
    latest  tailroom.epochs;
    tip     bigint;
BEGIN
    SELECT * INTO latest FROM tailroom.epochs ORDER BY epoch DESC LIMIT 1;
    IF latest.identity = present THEN
        RETURN latest.epoch;
    END IF;
    tip := greatest((SELECT max(position) FROM tailroom.events), (SELECT floor FROM tailroom.log), 0);
    PERFORM setval('tailroom.positions', tip);
    INSERT INTO tailroom.epochs (epoch, survived, identity, reason, opened_at)
    VALUES (coalesce(latest.epoch, 0) + 1, tip, present,
        CASE WHEN latest.epoch IS NULL THEN 'first event' ELSE 'the database is another one than before' END,
        clock_timestamp());
    RETURN coalesce(latest.epoch, 0) + 1;
END $$;

CREATE FUNCTION tailroom.append_batch(
    judge_ids boolean, head_tenants text[], head_namespaces text[], head_streams text[], head_counts bigint[], head_lasts integer[],
    head_expected bigint[],
    tenants text[], namespaces text[], types text[], schema_versions integer[], ids uuid[], rooms text[],
    heads integer[], ordinals bigint[], occurred_ats timestamptz[], actors text[],
    correlation_ids text[], causation_ids uuid[], reply_bys timestamptz[], datas jsonb[],
    OUT first_position bigint, OUT epoch bigint, OUT versions bigint[],
    OUT known integer[], OUT known_positions bigint[], OUT conflicts integer[], OUT current_versions bigint[])
LANGUAGE plpgsql
-- A probe for each id must stay an index scan: the window may grow by a million
-- rows between the statistics that a cached plan was made with and the next. The
-- penalties that forbid the rest look expensive enough to compile for: not that.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    fresh       integer;
    recorded_at timestamptz;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'append_batch needs READ COMMITTED: under % the snapshot is older than the lock',
            current_setting('transaction_isolation') USING ERRCODE = 'TR003';
    END IF;
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    -- Durable before anybody sees it, whatever the session or the role says.
    PERFORM set_config('synchronous_commit', 'on', true);

    IF (SELECT max(expected) FROM unnest(head_expected) AS expected) >= 0 THEN
        SELECT array_agg(h.number ORDER BY h.number), array_agg(coalesce(s.version, 0) ORDER BY h.number)
        INTO conflicts, current_versions
        FROM unnest(head_tenants, head_namespaces, head_streams, head_expected)
            WITH ORDINALITY AS h (tenant, namespace, stream, expected, number)
        LEFT JOIN tailroom.streams s
            ON s.tenant = h.tenant AND s.namespace = h.namespace AND s.stream = h.stream
        WHERE h.expected >= 0 AND h.expected <> coalesce(s.version, 0);
    END IF;

    -- A known id decides before a version does: whoever repeats a conditional
    -- append meets the version that he made himself.
    IF judge_ids OR conflicts IS NOT NULL THEN
        SELECT array_agg(e.number ORDER BY e.number), array_agg(r.position ORDER BY e.number)
        INTO known, known_positions
        FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number)
        JOIN tailroom.recent_ids r ON r.tenant = e.tenant AND r.id = e.id;
    END IF;

    IF known IS NOT NULL OR conflicts IS NOT NULL THEN
        RETURN;
    END IF;

    epoch := tailroom.epoch_now();
    recorded_at := clock_timestamp();
    first_position := (SELECT last_value FROM tailroom.positions) + 1;
    INSERT INTO tailroom.recent_ids (tenant, id, position)
    SELECT e.tenant, e.id, first_position + e.number - 1
    FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number)
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS fresh = ROW_COUNT;
    IF fresh < cardinality(ids) THEN
        RAISE EXCEPTION 'some ids of the batch are known' USING ERRCODE = 'TR004';
    END IF;

    IF cardinality(head_streams) > 0 THEN
        WITH head AS (
            INSERT INTO tailroom.streams AS s (tenant, namespace, stream, version, last_position)
            SELECT h.tenant, h.namespace, h.stream, h.count, first_position + h.last - 1
            FROM unnest(head_tenants, head_namespaces, head_streams, head_counts, head_lasts)
                AS h (tenant, namespace, stream, count, last)
            ON CONFLICT (tenant, namespace, stream) DO UPDATE
                SET version = s.version + excluded.version, last_position = excluded.last_position
            RETURNING s.tenant, s.namespace, s.stream, s.version)
        SELECT array_agg(version ORDER BY tenant, namespace, stream) INTO versions FROM head;
    END IF;

    PERFORM setval('tailroom.positions', first_position + cardinality(ids) - 1);
    INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms,
        stream, version, occurred_at, recorded_at, actor, correlation_id, causation_id, reply_by, data)
    SELECT first_position + e.number - 1, epoch, e.id, e.tenant, e.namespace, e.type, e.schema_version,
        string_to_array(e.rooms, E'\x1f'),
        head_streams[e.head], versions[e.head] - head_counts[e.head] + e.ordinal,
        e.occurred_at, recorded_at, nullif(e.actor, ''), e.correlation_id,
        e.causation_id, nullif(e.reply_by, '0001-01-01 00:00:00Z'), e.data
    FROM unnest(tenants, namespaces, types, schema_versions, ids, rooms, heads, ordinals, occurred_ats, actors,
            correlation_ids, causation_ids, reply_bys, datas)
        WITH ORDINALITY AS e (tenant, namespace, type, schema_version, id, rooms, head, ordinal, occurred_at, actor,
            correlation_id, causation_id, reply_by, data, number);

    PERFORM pg_notify('tailroom', first_position || ':' || first_position + cardinality(ids) - 1);
END $$;

REVOKE ALL ON FUNCTION tailroom.epoch_now(), tailroom.append_batch FROM PUBLIC;
