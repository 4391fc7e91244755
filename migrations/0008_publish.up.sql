-- Publishing with SQL, inside the application's own transaction.
SET LOCAL ROLE tailroom_owner;

-- The append lock comes first: an append that is under way would wait for a table
-- that this has changed, and this for one that the append has.
SELECT pg_advisory_xact_lock(1952541036, 1);

-- The catalogue, as the instances know it: for SQL publishers and analysts.
CREATE TABLE tailroom.event_types (
    namespace      text COLLATE "C" NOT NULL,
    type           text COLLATE "C" NOT NULL,
    schema_version integer          NOT NULL,
    description    text             NOT NULL,
    publish        text[]           NOT NULL,
    rooms          text[]           NOT NULL,
    stream         text,
    schema         jsonb            NOT NULL,
    PRIMARY KEY (namespace, type)
);
COMMENT ON TABLE tailroom.event_types IS
    'The registered event types. Rooms and stream are templates: {companyId} and {data.field} are replaced.';
ALTER TABLE tailroom.log ADD COLUMN max_event_bytes bigint NOT NULL DEFAULT 262144 CHECK (max_event_bytes > 0);

-- mirror_catalogue makes event_types the given array of objects, and writes
-- nothing when it is that already.
CREATE FUNCTION tailroom.mirror_catalogue(types jsonb, max_event_bytes bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 7); -- two instances that start at once
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

-- The outbox: what transactions have published and the relay has not yet moved
-- into the log.
CREATE TABLE tailroom.outbox (
    id             bigint           GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id       uuid             NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    namespace      text COLLATE "C" NOT NULL,
    type           text COLLATE "C" NOT NULL,
    schema_version integer          NOT NULL,
    rooms          text[]           NOT NULL,
    stream         text,
    occurred_at    timestamptz      NOT NULL,
    actor          text             NOT NULL,
    correlation_id text             NOT NULL,
    causation_id   uuid,
    data           jsonb            NOT NULL,
    submitted_at   timestamptz      NOT NULL DEFAULT clock_timestamp()
)
-- It is empty most of the time, and a vacuum that gave its end back to the disk
-- would keep publishers waiting.
WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, vacuum_truncate = off);

-- What the relay could not move, with the reason, until somebody retries or
-- discards it.
CREATE TABLE tailroom.outbox_rejected (
    id             bigint           PRIMARY KEY,
    event_id       uuid             NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    namespace      text COLLATE "C" NOT NULL,
    type           text COLLATE "C" NOT NULL,
    schema_version integer          NOT NULL,
    rooms          text[]           NOT NULL,
    stream         text,
    occurred_at    timestamptz      NOT NULL,
    actor          text             NOT NULL,
    correlation_id text             NOT NULL,
    causation_id   uuid,
    data           jsonb            NOT NULL,
    submitted_at   timestamptz      NOT NULL,
    code           text             NOT NULL,
    reason         text             NOT NULL,
    rejected_at    timestamptz      NOT NULL DEFAULT clock_timestamp()
);

-- The functions from here to drafted are called by publish and append alone, which
-- have made the search path safe: to make it so in each costs as much again.

-- expand replaces {companyId} and {data.field.field} in a template, as the
-- instances do. What stands in the way is an exception that names the field.
CREATE FUNCTION tailroom.expand(template text, tenant text, data jsonb) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    expanded text := '';
    rest     text := template;
    name     text;
    field    text;
    value    jsonb;
BEGIN
    LOOP
        expanded := expanded || split_part(rest, '{', 1);
        EXIT WHEN position('{' IN rest) = 0;
        name := split_part(split_part(rest, '{', 2), '}', 1);
        rest := substr(rest, position('}' IN rest) + 1);
        IF name = 'companyId' THEN
            expanded := expanded || tenant;
            CONTINUE;
        END IF;
        name := substr(name, 6); -- behind "data."
        value := data;
        FOREACH field IN ARRAY string_to_array(name, '.') LOOP
            value := CASE jsonb_typeof(value) WHEN 'object' THEN value -> field END;
        END LOOP;
        IF jsonb_typeof(value) = 'string' THEN
            expanded := expanded || (value #>> '{}');
        ELSIF jsonb_typeof(value) = 'number' AND scale(value::numeric) = 0 THEN
            expanded := expanded || (value #>> '{}');
        ELSIF jsonb_typeof(value) = 'number' AND trunc(value::numeric) = value::numeric AND abs(value::numeric) <= 2::numeric ^ 53 THEN
            expanded := expanded || trunc(value::numeric);
        ELSE
            RAISE EXCEPTION 'schema_violation: data.% must be a string or an integer, because the event is addressed by %', name, template
                USING ERRCODE = 'TR013', HINT = 'Give it, or name rooms and stream.';
        END IF;
    END LOOP;
    RETURN expanded;
END $$;

-- refuse_data refuses what is no object, what clients of the log cannot hold
-- though jsonb can (the instances refuse the same), and what is too large. The
-- size is that of the text which is delivered: jsonb's own, without its spaces.
CREATE FUNCTION tailroom.refuse_data(data jsonb) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    written text   := data::text;
    bytes   bigint := octet_length(written);
    allowed bigint := (SELECT l.max_event_bytes FROM tailroom.log l);
    bare    text;
BEGIN
    IF data IS NULL OR jsonb_typeof(data) <> 'object' THEN
        RAISE EXCEPTION 'schema_violation: data is a JSON object, not %', coalesce('a JSON ' || jsonb_typeof(data), 'null')
            USING ERRCODE = 'TR013';
    END IF;
    -- Both begin with a test that is cheap, and true of hardly any data.
    IF bytes - octet_length(translate(written, '{[', '')) > 64
        AND jsonb_path_exists(data, 'strict $.**{64} ? (@.type() == "object" || @.type() == "array")') THEN
        RAISE EXCEPTION 'schema_violation: data is nested deeper than 64 levels' USING ERRCODE = 'TR013';
    END IF;
    IF bytes > 170 AND written ~ '[0-9]{170}'
        AND EXISTS (SELECT FROM jsonb_path_query(data, 'strict $.** ? (@.type() == "number")') AS n (value)
            WHERE length(n.value::text) > 350 OR abs(n.value::numeric) >= 1.7976931348623158079e308) THEN
        RAISE EXCEPTION 'schema_violation: data has a number beyond the range of an IEEE double, or of more than 350 characters'
            USING ERRCODE = 'TR013';
    END IF;
    IF bytes > allowed AND bytes < 2 * allowed THEN
        bare := regexp_replace(written, '"([^"\\]|\\.)*"', '""', 'g');
        bytes := bytes - length(bare) + length(replace(bare, ' ', ''));
    END IF;
    IF bytes > allowed THEN
        RAISE EXCEPTION 'too_large: the data of an event has at most % bytes, not %', allowed, bytes USING ERRCODE = 'TR014';
    END IF;
END $$;

-- new_id is a UUID of version 7 (RFC 9562): its first 48 bits are the time in
-- milliseconds, so that ids made one after another lie close in an index.
CREATE FUNCTION tailroom.new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT encode(set_byte(
        overlay(uuid_send(gen_random_uuid())
            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        6, get_byte(uuid_send(gen_random_uuid()), 6) & 15 | 112), 'hex')::uuid
$$;

-- drafted judges what SQL can judge of an event, fills in what was left out, and
-- returns it as a row of the outbox, without an id of its own. The JSON Schema is
-- judged by the relay.
CREATE FUNCTION tailroom.drafted(tenant text, namespace text, type text, data jsonb, rooms text[], stream text,
    id uuid, correlation_id text, causation_id uuid, actor text, occurred_at timestamptz) RETURNS tailroom.outbox
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
    actor text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL) RETURNS uuid
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    draft tailroom.outbox := tailroom.drafted(tenant, namespace, type, data, rooms, stream, id,
        correlation_id, causation_id, actor, occurred_at);
BEGIN
    -- A transaction number before the row's: when every transaction below some
    -- number is over, every row numbered until then is visible or will never be.
    PERFORM pg_current_xact_id();
    INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
        correlation_id, causation_id, data, submitted_at)
    VALUES (draft.event_id, draft.tenant, draft.namespace, draft.type, draft.schema_version, draft.rooms, draft.stream,
        draft.occurred_at, draft.actor, draft.correlation_id, draft.causation_id, draft.data, draft.submitted_at);
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
-- it has.
CREATE FUNCTION tailroom.append(tenant text, namespace text, type text, data jsonb, rooms text[] DEFAULT NULL,
    stream text DEFAULT NULL, id uuid DEFAULT NULL, correlation_id text DEFAULT NULL, causation_id uuid DEFAULT NULL,
    actor text DEFAULT NULL, occurred_at timestamptz DEFAULT NULL, expected_version bigint DEFAULT NULL)
    RETURNS TABLE ("position" bigint, version bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    draft tailroom.outbox := tailroom.drafted(tenant, namespace, type, data, rooms, stream, id,
        correlation_id, causation_id, actor, occurred_at);
    heads integer := (draft.stream IS NOT NULL)::integer;
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
        ARRAY[draft.correlation_id], ARRAY[draft.causation_id], ARRAY['0001-01-01 00:00:00Z'::timestamptz], ARRAY[draft.data]);
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
    ELSE
        "position" := done.first_position;
        version := done.base_versions[1] + 1;
    END IF;
    RETURN NEXT;
END $$;

-- outbox_settle takes rows out of the outbox that need not, or cannot, become
-- events: with an empty code they are events already, with another they go to
-- the rejected ones.
CREATE FUNCTION tailroom.outbox_settle(ids bigint[], codes text[], reasons text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH judged AS (SELECT * FROM unnest(ids, codes, reasons) AS j (id, code, reason)),
    gone AS (DELETE FROM tailroom.outbox o USING judged j WHERE o.id = j.id RETURNING o.*, j.code, j.reason)
    INSERT INTO tailroom.outbox_rejected (id, event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at,
        actor, correlation_id, causation_id, data, submitted_at, code, reason)
    SELECT id, event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at,
        actor, correlation_id, causation_id, data, submitted_at, code, reason
    FROM gone WHERE code <> ''
$$;

-- outbox_horizon returns the newest number of a row, and then a transaction
-- number. Who has drawn a row's number until then had his transaction's before
-- (see publish), and that one is lower. So when every transaction below `before`
-- is over, the rows up to `upto` are visible, or will never be. A number of our
-- own, because the greatest of a snapshot is the last *ended* transaction's:
-- others may be running above it.
CREATE FUNCTION tailroom.outbox_horizon(OUT upto bigint, OUT before bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    upto := (SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END FROM tailroom.outbox_id_seq s);
    before := pg_current_xact_id()::text::bigint;
END $$;

-- outbox_retry puts rejected rows (null: all) back into the outbox, in their old
-- order and behind what waits there; outbox_discard throws them away. Both
-- return which there were.
CREATE FUNCTION tailroom.outbox_retry(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint[];
BEGIN
    PERFORM pg_current_xact_id(); -- as in publish
    WITH back AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING *),
    queued AS (
        INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
            correlation_id, causation_id, data, submitted_at)
        SELECT b.event_id, b.tenant, b.namespace, b.type, b.schema_version, b.rooms, b.stream,
            b.occurred_at, b.actor, b.correlation_id, b.causation_id, b.data, clock_timestamp()
        FROM back b ORDER BY b.id)
    SELECT array_agg(b.id ORDER BY b.id) INTO gone FROM back b;
    PERFORM pg_notify('tailroom_outbox', '');
    RETURN gone;
END $$;
CREATE FUNCTION tailroom.outbox_discard(ids bigint[]) RETURNS bigint[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING r.id)
    SELECT array_agg(id ORDER BY id) FROM gone
$$;

GRANT SELECT ON tailroom.event_types TO tailroom_writer, tailroom_reader;
GRANT SELECT ON tailroom.outbox, tailroom.outbox_rejected TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.mirror_catalogue, tailroom.expand, tailroom.refuse_data, tailroom.new_id, tailroom.drafted,
    tailroom.publish, tailroom.append, tailroom.outbox_settle, tailroom.outbox_horizon, tailroom.outbox_retry,
    tailroom.outbox_discard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.publish, tailroom.append TO tailroom_publisher;
GRANT EXECUTE ON FUNCTION tailroom.mirror_catalogue, tailroom.publish, tailroom.append, tailroom.outbox_settle,
    tailroom.outbox_horizon, tailroom.outbox_retry, tailroom.outbox_discard TO tailroom_writer;
