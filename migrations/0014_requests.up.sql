-- Requests: events that want an answer, and the answer that each has got. The log
-- knows both already; what is kept here is which belong together, so that the
-- second answer can be refused and the open requests can be listed.
SET LOCAL ROLE tailroom_owner;

-- The append lock comes first: an append that is under way would wait for a table
-- that this has changed, and this for one that the append has.
SELECT pg_advisory_xact_lock(1952541036, 1);

-- No data of an event is here, so what is erased from the log is not left behind.
CREATE TABLE tailroom.requests (
    position        bigint             PRIMARY KEY,
    id              uuid               NOT NULL,
    tenant          text   COLLATE "C" NOT NULL,
    namespace       text   COLLATE "C" NOT NULL,
    type            text   COLLATE "C" NOT NULL,
    correlation_id  text   COLLATE "C" NOT NULL,
    rooms           text[] COLLATE "C" NOT NULL,
    requested_at    timestamptz        NOT NULL,
    reply_by        timestamptz        NOT NULL,
    reply_type      text   COLLATE "C" NOT NULL,
    reply_when      jsonb              NOT NULL,
    answer_position bigint,
    answer_id       uuid,
    answered_at     timestamptz,
    first_room      text   COLLATE "C" NOT NULL GENERATED ALWAYS AS (rooms[1]) STORED, -- as in events
    open            boolean            NOT NULL GENERATED ALWAYS AS (answer_position IS NULL) STORED,
    CHECK (num_nulls(answer_position, answer_id, answered_at) IN (0, 3)),
    CHECK (answer_position > position)
) WITH (vacuum_truncate = off); -- it locks out the appends
COMMENT ON TABLE tailroom.requests IS
    'Events with a reply_by whose type has a reply, each with its answer: the first later event of that type with its correlation id which meets the condition.';
COMMENT ON COLUMN tailroom.requests.reply_type IS 'What the answer is, as the catalogue said when the request was made.';
COMMENT ON COLUMN tailroom.requests.reply_when IS 'Likewise, the values that fields of its data may have; {} is any.';

CREATE INDEX requests_correlation ON tailroom.requests (correlation_id, tenant, namespace, open, reply_type, position);
CREATE INDEX requests_tenant      ON tailroom.requests (tenant, position);
CREATE INDEX requests_room        ON tailroom.requests (tenant, first_room, position);
CREATE INDEX requests_rooms       ON tailroom.requests (tenant, position) WHERE cardinality(rooms) > 1;
-- Those that nobody answered stay here until retention drops them: who looks for
-- the pending ones passes them over by their time.
CREATE INDEX requests_open        ON tailroom.requests (tenant, reply_by) WHERE answer_position IS NULL;

-- What follows from an event.
CREATE INDEX events_causation ON tailroom.events (tenant, causation_id, position) WHERE causation_id IS NOT NULL;

ALTER TABLE tailroom.event_types ADD COLUMN reply jsonb;
COMMENT ON COLUMN tailroom.event_types.reply IS 'Which event answers it: {"type", "when"?, "timeoutMs"}; null when it is no request.';

ALTER TABLE tailroom.log ADD COLUMN requests_from bigint;
COMMENT ON COLUMN tailroom.log.requests_from IS 'Behind this position there may be requests that tailroom.requests lacks; null: none that anybody knows of.';

-- A request published with SQL says until when it wants its answer.
ALTER TABLE tailroom.outbox ADD COLUMN reply_by timestamptz;
ALTER TABLE tailroom.outbox_rejected ADD COLUMN reply_by timestamptz;

-- reply_met reports whether data meets the condition of a reply: each of its fields
-- has one of the values that are listed for it.
CREATE FUNCTION tailroom.reply_met(condition jsonb, data jsonb) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    field   text;
    allowed jsonb;
BEGIN
    FOR field, allowed IN SELECT * FROM jsonb_each(condition) LOOP
        -- A list contains a list, too, whose elements it has.
        IF (jsonb_typeof(data -> field) IN ('string', 'number', 'boolean') AND allowed @> (data -> field)) IS NOT TRUE THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- first_answer finds in the log what answers a request at a position, null when
-- nothing does. Of an event whose data were erased nobody can tell any more.
CREATE FUNCTION tailroom.first_answer(tenant text, namespace text, correlation_id text, reply_type text, reply_when jsonb, after bigint)
    RETURNS bigint
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan -- whatever the statistics say
AS $$
DECLARE
    -- An event that correlates only with itself is found by its id, as ever.
    own uuid := CASE WHEN correlation_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN correlation_id::uuid END;
BEGIN
    RETURN (SELECT min(f.position) FROM (
        -- Apart, and the correlation id as part of a row, or a plan could walk along the
        -- positions, or through all that the company has.
        (SELECT e.position FROM (
            SELECT * FROM tailroom.events e
            WHERE (e.correlation_id, e.position) > (first_answer.correlation_id, after)
                AND (e.correlation_id, e.position) <= (first_answer.correlation_id, 9223372036854775807) AND e.correlation_id <> e.id::text
            ORDER BY e.correlation_id, e.position OFFSET 0) e
         WHERE e.tenant = first_answer.tenant AND e.namespace = first_answer.namespace AND e.type = reply_type
            AND tailroom.reply_met(reply_when, e.data)
            AND NOT EXISTS (SELECT FROM tailroom.redactions r WHERE r.position = e.position)
         ORDER BY e.correlation_id, e.position LIMIT 1)
        UNION ALL
        (SELECT e.position FROM (SELECT * FROM tailroom.events e WHERE e.id = own OFFSET 0) e
         WHERE e.correlation_id = first_answer.correlation_id AND e.position > after
            AND e.tenant = first_answer.tenant AND e.namespace = first_answer.namespace AND e.type = reply_type
            AND tailroom.reply_met(reply_when, e.data)
            AND NOT EXISTS (SELECT FROM tailroom.redactions r WHERE r.position = e.position))) f);
END $$;

-- backfill_requests takes in some requests of the log that are not known as such: those
-- that are older than their type's reply, or than this table. It takes at most so many,
-- from where it left off, and reports whether there is more to do. What answers them is
-- looked for before the append lock; under that only in what has come meanwhile. One that
-- nothing answers is left out where too many of its correlation id are open, as
-- append_batch would have refused it: an answer answers them all, under the lock.
CREATE FUNCTION tailroom.backfill_requests(most integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
DECLARE
    stretch constant bigint := 20000; -- positions
    crowd   constant bigint := 16; -- as in eventlog.MaxOpen
    start   bigint;
    beyond  bigint;
    tip     bigint;
    early   bigint[];
    answers bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 7); -- or mirror_catalogue would begin anew, and this go on
    SELECT l.requests_from, least(greatest(l.requests_from, l.floor) + stretch, b.tip), b.tip INTO start, beyond, tip
    FROM tailroom.log l, tailroom.bounds b;
    IF start IS NULL THEN
        RETURN false;
    END IF;
    SELECT array_agg(q.position ORDER BY q.position),
        array_agg(tailroom.first_answer(q.tenant, q.namespace, q.correlation_id,
            q.reply ->> 'type', coalesce(q.reply -> 'when', '{}'), q.position) ORDER BY q.position)
    INTO early, answers
    FROM (SELECT e.position, e.tenant, e.namespace, e.correlation_id, t.reply FROM tailroom.events e
        JOIN tailroom.event_types t ON t.namespace = e.namespace AND t.type = e.type AND t.reply IS NOT NULL
        WHERE e.position > start AND e.position <= beyond AND e.reply_by IS NOT NULL
            AND NOT EXISTS (SELECT FROM tailroom.requests r WHERE r.position = e.position)
        ORDER BY e.position LIMIT most) q;
    IF cardinality(early) = most THEN
        beyond := early[most];
    END IF;
    IF early IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(1952541036, 1);
        FOR i IN 1..cardinality(early) LOOP -- one sees those before it
            INSERT INTO tailroom.requests (position, id, tenant, namespace, type, correlation_id, rooms, requested_at, reply_by,
                reply_type, reply_when, answer_position, answer_id, answered_at)
            SELECT q.position, q.id, q.tenant, q.namespace, q.type, q.correlation_id, q.rooms, q.recorded_at, q.reply_by,
                t.reply ->> 'type', coalesce(t.reply -> 'when', '{}'), a.position, a.id, a.recorded_at
            FROM tailroom.events q
            JOIN tailroom.event_types t ON t.namespace = q.namespace AND t.type = q.type
            CROSS JOIN LATERAL (SELECT coalesce(answers[i], tailroom.first_answer(q.tenant, q.namespace,
                q.correlation_id, t.reply ->> 'type', coalesce(t.reply -> 'when', '{}'), tip)) AS position OFFSET 0) found
            LEFT JOIN tailroom.events a ON a.position = found.position
            WHERE q.position = early[i] AND NOT EXISTS (SELECT FROM tailroom.requests r WHERE r.position = q.position)
                AND (a.position IS NOT NULL OR crowd > (SELECT count(*) FROM (
                    SELECT FROM tailroom.requests k
                    WHERE (k.correlation_id, k.tenant, k.namespace, k.open) >= (q.correlation_id, q.tenant, q.namespace, true)
                        AND (k.correlation_id, k.tenant, k.namespace, k.open) <= (q.correlation_id, q.tenant, q.namespace, true)
                    LIMIT crowd) o));
        END LOOP;
    END IF;
    UPDATE tailroom.log SET requests_from = CASE WHEN beyond < tip THEN beyond END;
    RETURN beyond < tip;
END $$;

-- mirror_catalogue makes event_types the given array of objects, and writes
-- nothing when it is that already. Types that are requests from now on were so in
-- the log's past as well: that is for backfill_requests.
CREATE OR REPLACE FUNCTION tailroom.mirror_catalogue(types jsonb, max_event_bytes bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 7); -- two instances that start at once
    IF EXISTS (
        SELECT FROM jsonb_populate_recordset(NULL::tailroom.event_types, mirror_catalogue.types) want
        LEFT JOIN tailroom.event_types have ON have.namespace = want.namespace AND have.type = want.type
        WHERE want.reply IS NOT NULL AND have.reply IS NULL)
    THEN
        UPDATE tailroom.log SET requests_from = 0;
    END IF;
    DELETE FROM tailroom.event_types have
    WHERE NOT EXISTS (
        SELECT FROM jsonb_populate_recordset(NULL::tailroom.event_types, mirror_catalogue.types) want
        WHERE want IS NOT DISTINCT FROM have);
    INSERT INTO tailroom.event_types
    SELECT * FROM jsonb_populate_recordset(NULL::tailroom.event_types, mirror_catalogue.types)
    ON CONFLICT DO NOTHING;
    UPDATE tailroom.log l SET max_event_bytes = mirror_catalogue.max_event_bytes
    WHERE l.max_event_bytes <> mirror_catalogue.max_event_bytes;
END $$;

-- crowded_requests are those of the requests of a batch beside which too many of their
-- company, namespace and correlation id would be open: an answer answers them all, under
-- the lock. Here, too, and in judge_answers the caller holds it, and arrays are as in
-- append_batch.
CREATE FUNCTION tailroom.crowded_requests(requests integer[], tenants text[], namespaces text[], correlation_ids text[], OUT crowded integer[])
LANGUAGE plpgsql AS $$
DECLARE
    most constant bigint := 16; -- as in eventlog.MaxOpen
BEGIN
    SELECT array_agg(q.number ORDER BY q.number) INTO crowded
    FROM (SELECT m.number, tenants[m.number] AS tenant, namespaces[m.number] AS namespace, correlation_ids[m.number] AS correlation_id,
            row_number() OVER (PARTITION BY tenants[m.number], namespaces[m.number], correlation_ids[m.number] ORDER BY m.number) AS place
        FROM unnest(crowded_requests.requests) AS m (number)) q
    CROSS JOIN LATERAL (SELECT count(*) AS open FROM (
        SELECT FROM tailroom.requests k
        -- Rows are compared as wholes so that no other index will do, whatever the
        -- table's statistics were when this was planned.
        WHERE (k.correlation_id, k.tenant, k.namespace, k.open) >= (q.correlation_id, q.tenant, q.namespace, true)
            AND (k.correlation_id, k.tenant, k.namespace, k.open) <= (q.correlation_id, q.tenant, q.namespace, true)
        LIMIT most) o) there
    WHERE there.open + q.place > most;
END $$;

-- judge_answers says which requests the events of a batch answer: `taken` are the
-- positions of these, each answered by the event `takers`. An event that answers none,
-- because all it would answer have their answer already, is among `refused`, with the
-- id that the newest of these answers has. No more than the newest of those are looked
-- at: a talk may have any number, and whether they would be answered only their
-- conditions tell.
CREATE FUNCTION tailroom.judge_answers(may_answer integer[],
    tenants text[], namespaces text[], types text[], correlation_ids text[], datas jsonb[],
    OUT taken bigint[], OUT takers integer[], OUT refused integer[], OUT refused_ids uuid[])
LANGUAGE plpgsql AS $$
DECLARE
    newest constant bigint := 16;
BEGIN
    SELECT array_agg(hit.position), array_agg(hit.number) INTO taken, takers
    FROM (SELECT DISTINCT ON (k.position) k.position, c.number
        FROM (SELECT m.number, tenants[m.number] AS tenant, namespaces[m.number] AS namespace, types[m.number] AS type,
                correlation_ids[m.number] AS correlation_id, datas[m.number] AS data
            FROM unnest(may_answer) AS m (number)) c
        CROSS JOIN LATERAL (SELECT k.position, k.reply_when FROM tailroom.requests k
            WHERE (k.correlation_id, k.tenant, k.namespace, k.open, k.reply_type) >= (c.correlation_id, c.tenant, c.namespace, true, c.type)
                AND (k.correlation_id, k.tenant, k.namespace, k.open, k.reply_type) <= (c.correlation_id, c.tenant, c.namespace, true, c.type)
            OFFSET 0) k
        WHERE tailroom.reply_met(k.reply_when, c.data)
        ORDER BY k.position, c.number) hit;

    SELECT array_agg(c.number), array_agg(late.answer_id) INTO refused, refused_ids
    FROM (SELECT m.number, tenants[m.number] AS tenant, namespaces[m.number] AS namespace, types[m.number] AS type,
            correlation_ids[m.number] AS correlation_id, datas[m.number] AS data
        FROM unnest(may_answer) AS m (number)
        WHERE m.number <> ALL (coalesce(takers, '{}'))) c
    CROSS JOIN LATERAL (
        SELECT k.answer_id FROM (
            SELECT k.position, k.reply_when, k.answer_id FROM tailroom.requests k
            WHERE (k.correlation_id, k.tenant, k.namespace, k.open, k.reply_type) >= (c.correlation_id, c.tenant, c.namespace, false, c.type)
                AND (k.correlation_id, k.tenant, k.namespace, k.open, k.reply_type) <= (c.correlation_id, c.tenant, c.namespace, false, c.type)
            ORDER BY k.correlation_id DESC, k.tenant DESC, k.namespace DESC, k.open DESC, k.reply_type DESC, k.position DESC LIMIT newest) k
        WHERE tailroom.reply_met(k.reply_when, c.data)
        ORDER BY k.position DESC LIMIT 1) late;
END $$;

DROP FUNCTION tailroom.append_batch, tailroom.append, tailroom.publish, tailroom.drafted;

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
-- `requests` are the numbers of the events that want an answer, each with the type
-- and the condition of its reply ({}: none), and `may_answer` those of the events
-- that may be one. When one of these would be a second answer, nothing is appended
-- either: `answered` says which, with the ids of the first answers. Nor when too many
-- requests of a correlation id would be open: those are `crowded`. No two events of a
-- batch may answer the same request, and none a request before it: neither would show.
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
    requests integer[] DEFAULT '{}', reply_types text[] DEFAULT '{}', reply_whens jsonb[] DEFAULT '{}', may_answer integer[] DEFAULT '{}',
    OUT first_position bigint, OUT epoch bigint, OUT base_versions bigint[],
    OUT known integer[], OUT known_positions bigint[], OUT conflicts integer[], OUT current_versions bigint[],
    OUT answered integer[], OUT answered_ids uuid[], OUT crowded integer[],
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
    moved       bigint;
    taken       bigint[];
    takers      integer[];
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

    IF cardinality(may_answer) > 0 THEN
        SELECT j.taken, j.takers, j.refused, j.refused_ids INTO taken, takers, answered, answered_ids
        FROM tailroom.judge_answers(may_answer, tenants, namespaces, types, correlation_ids, datas) j;
    END IF;
    IF cardinality(append_batch.requests) > 0 THEN
        crowded := tailroom.crowded_requests(append_batch.requests, tenants, namespaces, correlation_ids);
    END IF;

    -- A known id decides before a version or an answer does: whoever repeats a
    -- conditional append meets the version that he made himself.
    IF judge_ids OR conflicts IS NOT NULL OR answered IS NOT NULL OR crowded IS NOT NULL THEN
        SELECT array_agg(e.number ORDER BY e.number), array_agg(r.position ORDER BY e.number)
        INTO known, known_positions
        FROM unnest(tenants, ids) WITH ORDINALITY AS e (tenant, id, number)
        JOIN tailroom.recent_ids r ON r.tenant = e.tenant AND r.id = e.id;
    END IF;

    IF known IS NULL AND conflicts IS NULL AND answered IS NULL AND crowded IS NULL THEN
        IF cardinality(relayed) > 0 THEN
            DELETE FROM tailroom.outbox WHERE id = ANY (relayed);
            GET DIAGNOSTICS moved = ROW_COUNT;
            IF moved < cardinality(relayed) THEN
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

        IF cardinality(append_batch.requests) > 0 THEN
            INSERT INTO tailroom.requests (position, id, tenant, namespace, type, correlation_id, rooms, requested_at,
                reply_by, reply_type, reply_when)
            SELECT first_position + q.number - 1, ids[q.number], tenants[q.number], namespaces[q.number], types[q.number],
                correlation_ids[q.number], string_to_array(rooms[q.number], E'\x1f'), recorded_at, reply_bys[q.number],
                q.reply_type, q.reply_when
            FROM unnest(append_batch.requests, reply_types, reply_whens) AS q (number, reply_type, reply_when);
        END IF;
        IF cardinality(taken) > 0 THEN
            UPDATE tailroom.requests r
            SET answer_position = first_position + a.number - 1, answer_id = ids[a.number], answered_at = recorded_at
            FROM unnest(taken, takers) AS a (position, number)
            WHERE r.position = a.position;
        END IF;

        -- Not undone by a rollback: whatever fails should have failed by now.
        PERFORM setval('tailroom.positions', first_position + cardinality(ids) - 1);
        PERFORM pg_notify('tailroom', first_position || ':' || first_position + cardinality(ids) - 1);
    END IF;
    clock := clock_timestamp();
    worked_us := 1000000 * extract(epoch FROM clock - locked);
END $$;

-- drafted judges what SQL can judge of an event, fills in what was left out, and
-- returns it as a row of the outbox, without an id of its own. The JSON Schema is
-- judged by the relay.
CREATE FUNCTION tailroom.drafted(tenant text, namespace text, type text, data jsonb, rooms text[], stream text,
    id uuid, correlation_id text, causation_id uuid, actor text, occurred_at timestamptz, reply_by timestamptz) RETURNS tailroom.outbox
LANGUAGE plpgsql AS $$
DECLARE
    -- Lengths are not in the patterns: with {1,128} a match takes several times as long.
    unprintable constant text := '[\u0001-\u001f\u007f-\u009f\ufffd]';
    nil         constant uuid := '00000000-0000-0000-0000-000000000000';
    known tailroom.event_types;
    draft tailroom.outbox;
    room  text;
BEGIN
    IF tenant IS NULL OR length(tenant) > 64 OR tenant !~ '^[A-Za-z0-9_-]+$' THEN
        RAISE EXCEPTION 'invalid_parameter: tenant is 1 to 64 of A-Z a-z 0-9 _ -, not %', coalesce(quote_literal(left(tenant, 100)), 'null')
            USING ERRCODE = 'TR015';
    END IF;
    SELECT * INTO known FROM tailroom.event_types t WHERE t.namespace = drafted.namespace AND t.type = drafted.type;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM tailroom.event_types t WHERE t.namespace = drafted.namespace) THEN
            RAISE EXCEPTION 'unknown_type: % has no type %', namespace, coalesce(quote_literal(left(type, 100)), 'null')
                USING ERRCODE = 'TR011', HINT = (SELECT 'It has ' || string_agg(t.type, ', ' ORDER BY t.type) || '.'
                    FROM tailroom.event_types t WHERE t.namespace = drafted.namespace);
        END IF;
        RAISE EXCEPTION 'unknown_namespace: there is no namespace %', coalesce(quote_literal(left(namespace, 100)), 'null')
            USING ERRCODE = 'TR010', HINT = coalesce((SELECT 'There are ' || string_agg(DISTINCT t.namespace, ', ') || '.'
                FROM tailroom.event_types t), 'No instance has published its catalogue in this database yet.');
    END IF;
    PERFORM tailroom.refuse_data(data);

    draft.event_id := coalesce(id, tailroom.new_id());
    draft.tenant := tenant;
    draft.namespace := namespace;
    draft.type := type;
    draft.schema_version := known.schema_version;
    draft.occurred_at := coalesce(occurred_at, clock_timestamp());
    draft.actor := coalesce(actor, 'sql:' || session_user);
    draft.correlation_id := coalesce(correlation_id, draft.event_id::text);
    draft.causation_id := causation_id;
    draft.data := data;
    draft.submitted_at := clock_timestamp();
    draft.reply_by := reply_by;
    IF nil IN (id, causation_id) THEN
        RAISE EXCEPTION 'invalid_parameter: id and causation_id are not the nil UUID' USING ERRCODE = 'TR015';
    END IF;
    IF length(draft.correlation_id) NOT BETWEEN 1 AND 128 OR draft.correlation_id ~ unprintable THEN
        RAISE EXCEPTION 'invalid_parameter: correlation_id is 1 to 128 printable characters' USING ERRCODE = 'TR015';
    END IF;
    IF length(draft.actor) NOT BETWEEN 1 AND 200 OR draft.actor ~ unprintable THEN
        RAISE EXCEPTION 'invalid_parameter: actor is 1 to 200 printable characters' USING ERRCODE = 'TR015';
    END IF;
    IF NOT draft.occurred_at BETWEEN '0001-01-02Z' AND '9999-12-31Z' THEN
        RAISE EXCEPTION 'invalid_parameter: occurred_at is a time of the years 1 to 9999' USING ERRCODE = 'TR015';
    END IF;
    IF NOT draft.reply_by BETWEEN '0001-01-02Z' AND '9999-12-31Z' THEN
        RAISE EXCEPTION 'invalid_parameter: reply_by is a time of the years 1 to 9999' USING ERRCODE = 'TR015';
    END IF;

    draft.stream := coalesce(stream, tailroom.expand(known.stream, tenant, data));
    IF length(draft.stream) > 200 OR draft.stream !~ '^[^:]+:.' OR draft.stream ~ unprintable THEN
        IF stream IS NULL THEN
            RAISE EXCEPTION 'schema_violation: data gives no stream in %: at most 200 characters, none of them a control character, and not empty',
                known.stream USING ERRCODE = 'TR013', HINT = 'Name the stream.';
        END IF;
        RAISE EXCEPTION 'invalid_parameter: % is no stream: {category}:{id}, at most 200 characters, none of them a control character',
            quote_literal(left(stream, 200)) USING ERRCODE = 'TR015';
    END IF;

    draft.rooms := '{}';
    IF cardinality(rooms) > 100 THEN
        RAISE EXCEPTION 'too_large: an event goes to at most 100 rooms, not %', cardinality(rooms) USING ERRCODE = 'TR014';
    END IF;
    FOREACH room IN ARRAY coalesce(rooms, (SELECT array_agg(tailroom.expand(t, tenant, data)) FROM unnest(known.rooms) AS t), '{}') LOOP
        room := regexp_replace(room, '^(company|branch)_', '\1:');
        IF room IS NULL OR length(split_part(room, ':', 2)) > 64 OR room !~ '^(company|branch):[A-Za-z0-9_-]+$' THEN
            RAISE EXCEPTION 'invalid_room: % is no room: company:{id} or branch:{id}, where {id} is 1 to 64 of A-Z a-z 0-9 _ -',
                coalesce(quote_literal(left(room, 100)), 'null') USING ERRCODE = 'TR012';
        END IF;
        IF room LIKE 'company:%' AND room <> 'company:' || tenant THEN
            RAISE EXCEPTION 'invalid_room: % is another company''s; an event goes to rooms of its own', room USING ERRCODE = 'TR012';
        END IF;
        IF room <> ALL (draft.rooms) THEN
            draft.rooms := draft.rooms || room;
        END IF;
    END LOOP;
    IF cardinality(draft.rooms) = 0 THEN
        RAISE EXCEPTION 'invalid_room: an event goes to at least one room' USING ERRCODE = 'TR012', HINT = 'Name rooms'
            || CASE WHEN rooms IS NULL THEN ': ' || type || ' has no default.' ELSE ', or leave the parameter out for the type''s default.' END;
    END IF;
    RETURN draft;
END $$;

-- publish puts an event into the outbox. It becomes one when the caller's
-- transaction has committed, and never if it does not. It takes no lock that
-- anybody waits for and works at every isolation level.
CREATE FUNCTION tailroom.publish(tenant text, namespace text, type text, data jsonb, rooms text[] DEFAULT NULL,
    stream text DEFAULT NULL, id uuid DEFAULT NULL, correlation_id text DEFAULT NULL, causation_id uuid DEFAULT NULL,
    actor text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL, reply_by timestamptz DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    draft tailroom.outbox := tailroom.drafted(tenant, namespace, type, data, rooms, stream, id,
        correlation_id, causation_id, actor, occurred_at, reply_by);
BEGIN
    -- A transaction number before the row's: when every transaction below some
    -- number is over, every row numbered until then is visible or will never be.
    PERFORM pg_current_xact_id();
    INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
        correlation_id, causation_id, data, submitted_at, reply_by)
    VALUES (draft.event_id, draft.tenant, draft.namespace, draft.type, draft.schema_version, draft.rooms, draft.stream,
        draft.occurred_at, draft.actor, draft.correlation_id, draft.causation_id, draft.data, draft.submitted_at,
        draft.reply_by);
    -- NOTIFY makes commits wait for each other, so only one transaction at a time
    -- sends one; the relay looks by itself besides. A transaction that has sent
    -- one cannot be prepared: who uses PREPARE TRANSACTION turns it off.
    IF current_setting('tailroom.outbox_notify', true) IS DISTINCT FROM 'off' AND pg_try_advisory_xact_lock(1952541036, 6) THEN
        PERFORM pg_notify('tailroom_outbox', '');
    END IF;
    RETURN draft.event_id;
END $$;

-- append puts an event into the log at once and returns its place. From then on
-- the transaction holds the log's lock until it ends: everybody else's appends
-- wait for its COMMIT. An id that is known, with the same content, gives the place
-- it has. A second answer to a request is refused.
CREATE FUNCTION tailroom.append(tenant text, namespace text, type text, data jsonb, rooms text[] DEFAULT NULL,
    stream text DEFAULT NULL, id uuid DEFAULT NULL, correlation_id text DEFAULT NULL, causation_id uuid DEFAULT NULL,
    actor text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL, expected_version bigint DEFAULT NULL,
    reply_by timestamptz DEFAULT NULL)
    RETURNS TABLE ("position" bigint, version bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    draft tailroom.outbox := tailroom.drafted(tenant, namespace, type, data, rooms, stream, id,
        correlation_id, causation_id, actor, occurred_at, reply_by);
    heads integer := (draft.stream IS NOT NULL)::integer;
    reply jsonb := (SELECT t.reply FROM tailroom.event_types t WHERE t.namespace = draft.namespace AND t.type = draft.type);
    asks  integer := (draft.reply_by IS NOT NULL AND reply IS NOT NULL)::integer;
    done  record;
    same  boolean;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'tailroom.append needs READ COMMITTED, not %: the snapshot of this transaction is older than the log''s lock',
            upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'TR003', HINT = 'tailroom.publish works at every isolation level.';
    END IF;
    IF expected_version IS NOT NULL AND (heads = 0 OR expected_version < 0) THEN
        RAISE EXCEPTION 'invalid_parameter: expected_version needs a stream, and is 0 (it must not exist) or the version it has'
            USING ERRCODE = 'TR015';
    END IF;
    SELECT * INTO done FROM tailroom.append_batch(
        true, 0, 0, 'infinity', '{}',
        array_fill(draft.tenant, ARRAY[heads]), array_fill(draft.namespace, ARRAY[heads]), array_fill(draft.stream, ARRAY[heads]),
        array_fill(1::bigint, ARRAY[heads]), array_fill(1, ARRAY[heads]), array_fill(coalesce(expected_version, -1), ARRAY[heads]),
        ARRAY[draft.tenant], ARRAY[draft.namespace], ARRAY[draft.type], ARRAY[draft.schema_version], ARRAY[draft.event_id],
        ARRAY[array_to_string(draft.rooms, E'\x1f')], ARRAY[heads], ARRAY[heads::bigint], ARRAY[draft.occurred_at], ARRAY[draft.actor],
        ARRAY[draft.correlation_id], ARRAY[draft.causation_id], ARRAY[coalesce(draft.reply_by, '0001-01-01 00:00:00Z')], ARRAY[draft.data],
        array_fill(1, ARRAY[asks]), array_fill(reply ->> 'type', ARRAY[asks]), array_fill(coalesce(reply -> 'when', '{}'), ARRAY[asks]),
        CASE WHEN EXISTS (SELECT FROM tailroom.event_types t WHERE t.namespace = draft.namespace AND t.reply ->> 'type' = draft.type)
            THEN '{1}'::integer[] ELSE '{}' END);
    IF done.known IS NOT NULL THEN
        SELECT done.known_positions[1], e.version,
            e.namespace = draft.namespace AND e.type = draft.type AND e.rooms @> draft.rooms AND e.rooms <@ draft.rooms
            AND e.stream IS NOT DISTINCT FROM draft.stream AND e.correlation_id = draft.correlation_id
            AND (e.data = draft.data OR EXISTS (SELECT FROM tailroom.redactions r WHERE r.position = e.position)) -- erased: see redact
        INTO "position", version, same
        FROM tailroom.events e WHERE e.position = done.known_positions[1];
        IF NOT same THEN
            RAISE EXCEPTION 'id_reused: the id % was used before, with other content', draft.event_id USING ERRCODE = 'TR016';
        END IF;
        "position" := done.known_positions[1]; -- also when retention has dropped it
    ELSIF done.conflicts IS NOT NULL THEN
        RAISE EXCEPTION 'version_conflict: % is at version %, not %', draft.stream, done.current_versions[1], expected_version
            USING ERRCODE = 'TR001', DETAIL = done.current_versions[1]::text;
    ELSIF done.answered IS NOT NULL THEN
        RAISE EXCEPTION 'already_answered: the event % has answered this request', done.answered_ids[1]
            USING ERRCODE = 'TR019', DETAIL = done.answered_ids[1]::text;
    ELSIF done.crowded IS NOT NULL THEN
        RAISE EXCEPTION 'too_large: 16 requests with this correlation id are open, and no more may be' USING ERRCODE = 'TR014',
            HINT = 'One answer answers them all. Another request needs a correlation id of its own.';
    ELSE
        "position" := done.first_position;
        version := done.base_versions[1] + 1;
    END IF;
    RETURN NEXT;
END $$;

-- outbox_settle takes rows out of the outbox that need not, or cannot, become
-- events: with an empty code they are events already, with another they go to
-- the rejected ones.
CREATE OR REPLACE FUNCTION tailroom.outbox_settle(ids bigint[], codes text[], reasons text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH judged AS (SELECT * FROM unnest(ids, codes, reasons) AS j (id, code, reason)),
    gone AS (DELETE FROM tailroom.outbox o USING judged j WHERE o.id = j.id RETURNING o.*, j.code, j.reason)
    INSERT INTO tailroom.outbox_rejected (id, event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at,
        actor, correlation_id, causation_id, data, submitted_at, reply_by, code, reason)
    SELECT id, event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at,
        actor, correlation_id, causation_id, data, submitted_at, reply_by, code, reason
    FROM gone WHERE code <> ''
$$;

-- outbox_retry puts rejected rows (null: all) back into the outbox, in their old
-- order and behind what waits there; outbox_discard throws them away. Both return
-- which there were. The append lock comes first, because the event that tells of
-- it needs it; nothing is told when there were none.
CREATE OR REPLACE FUNCTION tailroom.outbox_retry(ids bigint[], reason text, actor text) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    PERFORM pg_current_xact_id(); -- as in publish
    WITH back AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING *),
    queued AS (
        INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
            correlation_id, causation_id, data, submitted_at, reply_by)
        SELECT b.event_id, b.tenant, b.namespace, b.type, b.schema_version, b.rooms, b.stream,
            b.occurred_at, b.actor, b.correlation_id, b.causation_id, b.data, clock_timestamp(), b.reply_by
        FROM back b ORDER BY b.id)
    SELECT array_agg(b.id ORDER BY b.id) INTO gone FROM back b;
    PERFORM tailroom.tell_rows('outboxRetried', gone, reason, actor);
    PERFORM pg_notify('tailroom_outbox', '');
    RETURN gone;
END $$;

-- request_list finds the positions of requests, in order, at most max_rows of them,
-- after a position. Empty arrays and texts and a null time do not filter; an empty
-- tenant is every tenant. As in history, each combination of filters gets its plan.
CREATE FUNCTION tailroom.request_list(tenant text, namespaces text[], rooms text[], types text[], statuses text[],
    correlation_id text, requested_before timestamptz, after bigint, descending boolean, max_rows integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
DECLARE
    present timestamptz := statement_timestamp(); -- the caller's, who says what each is
    states  text[] := '{}';
    wanted  text := 'r.position > $7 AND r.namespace = ANY($2)';
    sorted  text := CASE WHEN descending THEN ' ORDER BY position DESC LIMIT $9' ELSE ' ORDER BY position LIMIT $9' END;
    source  text;
    found   bigint[];
BEGIN
    IF tenant <> '' THEN
        wanted := wanted || ' AND r.tenant = $1';
    END IF;
    IF cardinality(types) > 0 THEN
        wanted := wanted || ' AND r.type = ANY($4)';
    END IF;
    IF correlation_id <> '' THEN
        wanted := wanted || ' AND r.correlation_id = $5';
    END IF;
    IF requested_before IS NOT NULL THEN
        wanted := wanted || ' AND r.requested_at <= $6';
    END IF;
    IF cardinality(statuses) > 0 THEN
        IF 'pending' = ANY (statuses) THEN
            states := states || 'r.answer_position IS NULL AND r.reply_by > $8'::text;
        END IF;
        IF 'expired' = ANY (statuses) THEN
            states := states || 'r.answer_position IS NULL AND r.reply_by <= $8'::text;
        END IF;
        IF 'answered' = ANY (statuses) THEN
            states := states || 'r.answer_position IS NOT NULL'::text;
        END IF;
        wanted := wanted || ' AND (' || array_to_string(states, ' OR ') || ')';
    END IF;

    IF cardinality(rooms) = 0 OR correlation_id <> '' OR tenant = '' THEN
        source := 'SELECT r.position FROM tailroom.requests r WHERE (cardinality($3) = 0 OR r.rooms && $3) AND ' || wanted;
    ELSE
        source := 'SELECT DISTINCT hit.position FROM unnest($3) AS room (name)'
            || ' CROSS JOIN LATERAL ((SELECT r.position FROM tailroom.requests r WHERE r.first_room = room.name AND ' || wanted || sorted
            || ') UNION ALL (SELECT r.position FROM tailroom.requests r WHERE cardinality(r.rooms) > 1'
            || ' AND r.rooms @> ARRAY[room.name] AND ' || wanted || sorted || ')) hit';
    END IF;
    EXECUTE 'SELECT array_agg(p.position) FROM (' || source || sorted || ') p'
        INTO found
        USING tenant, namespaces, rooms, types, correlation_id, requested_before, after, present, max_rows;
    RETURN coalesce(found, '{}');
END $$;

-- story finds what belongs to a correlation id of a tenant: the events that have it,
-- and those that they caused, and so on. At most max_rows positions, in order; an
-- event is found after what caused it.
CREATE FUNCTION tailroom.story(tenant text, correlation_id text, max_rows integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE
SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
DECLARE
    own       uuid := CASE WHEN correlation_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN correlation_id::uuid END;
    positions bigint[];
    causes    uuid[];
    more      bigint[];
BEGIN
    SELECT array_agg(f.position), array_agg(f.id) INTO positions, causes FROM (
        SELECT * FROM (
            (SELECT e.position, e.id FROM tailroom.events e
             WHERE e.tenant = story.tenant AND e.correlation_id = story.correlation_id AND e.correlation_id <> e.id::text
             ORDER BY e.position LIMIT max_rows)
            UNION ALL
            (SELECT e.position, e.id FROM tailroom.events e
             WHERE e.tenant = story.tenant AND e.id = own AND e.correlation_id = story.correlation_id
             ORDER BY e.position LIMIT max_rows)) two
        ORDER BY position LIMIT max_rows) f;
    WHILE causes IS NOT NULL AND cardinality(positions) < max_rows LOOP
        SELECT array_agg(f.position), array_agg(f.id) INTO more, causes FROM (
            SELECT DISTINCT e.position, e.id FROM unnest(causes) AS cause (id)
            CROSS JOIN LATERAL (SELECT e.position, e.id FROM tailroom.events e
                WHERE e.tenant = story.tenant AND e.causation_id = cause.id
                ORDER BY e.position LIMIT max_rows) e
            WHERE e.position <> ALL (positions)
            ORDER BY e.position LIMIT max_rows - cardinality(positions)) f;
        positions := positions || more;
    END LOOP;
    RETURN coalesce((SELECT array_agg(p ORDER BY p) FROM unnest(positions) AS p), '{}');
END $$;

GRANT SELECT ON tailroom.requests TO tailroom_writer, tailroom_reader;
REVOKE ALL ON FUNCTION tailroom.reply_met, tailroom.first_answer, tailroom.backfill_requests, tailroom.crowded_requests,
    tailroom.judge_answers, tailroom.append_batch, tailroom.drafted, tailroom.publish, tailroom.append, tailroom.request_list, tailroom.story FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.append_batch, tailroom.publish, tailroom.append, tailroom.backfill_requests TO tailroom_writer;
GRANT EXECUTE ON FUNCTION tailroom.publish, tailroom.append TO tailroom_publisher;
GRANT EXECUTE ON FUNCTION tailroom.request_list, tailroom.story TO tailroom_writer, tailroom_reader;
