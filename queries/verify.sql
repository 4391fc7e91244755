-- Reading the log to verify it: pages in short statements, each with what must
-- be seen in one snapshot with it. An old snapshot would stop vacuum, so what
-- two pages seem to say against each other is looked up once more, in one.

-- name: VerifyAccess :one
-- What of the log is not there, and what the role may not read.
SELECT current_user::text AS role,
    coalesce(array_agg(wanted.name) FILTER (WHERE c.oid IS NULL), '{}')::text[] AS missing,
    coalesce(array_agg(wanted.name) FILTER (WHERE NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'))), '{}')::text[] AS forbidden
FROM (SELECT unnest(@relations::text[]) AS name) wanted
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'tailroom'
LEFT JOIN pg_catalog.pg_class c ON c.relname = wanted.name AND c.relnamespace = n.oid;

-- name: VerifyState :one
SELECT b.floor::bigint AS floor, b.tip::bigint AS tip, b.epoch::bigint AS epoch,
    pg_sequence_last_value('tailroom.positions'::regclass)::bigint AS numbered,
    coalesce((SELECT max(position) FROM tailroom.events), 0)::bigint AS last_event
FROM tailroom.bounds b;

-- name: VerifyPartitionList :many
-- PostgreSQL's partitions beside those that tailroom.partitions lists, in order.
-- One that is not attached, or not listed, has zeros for what it lacks.
SELECT coalesce(p.name, a.name)::text AS name,
    (p.name IS NOT NULL)::boolean AS listed, (a.name IS NOT NULL)::boolean AS attached,
    coalesce(p.first, 0)::bigint AS listed_first, coalesce(p.beyond, 0)::bigint AS listed_beyond,
    coalesce(a.bounds[1], '0')::bigint AS first, coalesce(a.bounds[2], '0')::bigint AS beyond,
    coalesce(p.events, -1)::bigint AS counted, l.floor
FROM tailroom.partitions p
FULL JOIN (SELECT c.relname AS name,
        regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('(\d+)'\) TO \('(\d+)'\)$$) AS bounds
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'tailroom.events'::regclass AND NOT i.inhdetachpending) a ON a.name = p.name
CROSS JOIN tailroom.log l
ORDER BY coalesce(a.bounds[1]::bigint, p.first);

-- name: VerifyWindowPage :many
-- Ids of one of the window's two tables, with the event that each points to
-- (position 0: none), and whether the other table knows the id as well.
SELECT w.tenant::text AS tenant, w.id::uuid AS id, w.position::bigint AS position, l.floor,
    coalesce(e.position, 0)::bigint AS event_position, coalesce(e.tenant, '')::text AS event_tenant, e.id AS event_id,
    (@which::integer = 0 AND EXISTS (SELECT FROM tailroom.recent_ids_1 o WHERE o.tenant = w.tenant AND o.id = w.id))::boolean AS twice
FROM (
    (SELECT r.tenant, r.id, r.position FROM tailroom.recent_ids_0 r
     WHERE @which = 0 AND (r.tenant, r.id) > (@after_tenant::text, @after_id::uuid)
     ORDER BY r.tenant, r.id LIMIT sqlc.arg('max_rows')::integer)
    UNION ALL
    (SELECT r.tenant, r.id, r.position FROM tailroom.recent_ids_1 r
     WHERE @which = 1 AND (r.tenant, r.id) > (@after_tenant, @after_id)
     ORDER BY r.tenant, r.id LIMIT sqlc.arg('max_rows'))) w
CROSS JOIN tailroom.log l
LEFT JOIN tailroom.events e ON e.position = w.position
ORDER BY w.tenant, w.id;

-- name: VerifyEventPage :many
-- The events of a stretch, the newest first, with a hash of all that never
-- changes, and what else in the log speaks of them: whether the window knows the
-- id (if asked), where the stream's head says that this version is (0: it is at
-- another version), and which version is the one before among the events from
-- `near` to this one (0: none), and whether it wants an answer and is not known as a
-- request, though the maintenance has been there and not so many others of its talk are
-- open that it would leave it out. It is sorted by, so that no other index will do.
SELECT e.position, e.epoch, e.id, e.tenant, e.namespace, e.rooms, coalesce(e.first_room, '')::text AS first_room,
    e.stream, e.version, e.recorded_at, l.ids_rotated_at,
    hash_record_extended(ROW(e.position, e.id, e.tenant, e.namespace, e.type, e.schema_version, e.rooms, e.stream, e.version,
        e.occurred_at, e.recorded_at, e.actor, e.correlation_id, e.causation_id, e.reply_by), 0)::bigint AS hash,
    CASE WHEN @ids::boolean THEN coalesce(
        (SELECT r.position FROM tailroom.recent_ids_0 r WHERE r.tenant = e.tenant AND r.id = e.id),
        (SELECT r.position FROM tailroom.recent_ids_1 r WHERE r.tenant = e.tenant AND r.id = e.id), 0) > 0
        ELSE false END::boolean AS known,
    coalesce((SELECT s.last_position FROM tailroom.streams s
        WHERE s.tenant = e.tenant AND s.namespace = e.namespace AND s.stream = e.stream AND s.version = e.version), 0)::bigint AS head,
    CASE WHEN e.version > 1 THEN coalesce((SELECT p.version FROM tailroom.events p
        WHERE p.tenant = e.tenant AND p.namespace = e.namespace AND p.stream = e.stream AND p.version < e.version
            AND p.position >= @near AND p.position <= @upto AND p.position < e.position
        ORDER BY p.version DESC LIMIT 1), 0) ELSE 0 END::bigint AS previous,
    (e.reply_by IS NOT NULL AND EXISTS (SELECT FROM tailroom.event_types t WHERE t.namespace = e.namespace AND t.type = e.type AND t.reply IS NOT NULL)
        AND NOT EXISTS (SELECT FROM tailroom.requests r WHERE r.position = e.position)
        AND e.position <= coalesce(l.requests_from, e.position)
        AND 16 > (SELECT count(*) FROM (SELECT FROM tailroom.requests k WHERE k.correlation_id = e.correlation_id
            AND k.tenant = e.tenant AND k.namespace = e.namespace AND k.open LIMIT 16) o))::boolean AS unasked
FROM tailroom.events e CROSS JOIN tailroom.log l
WHERE e.position > @after AND e.position <= @upto AND e.position > l.floor
ORDER BY e.position DESC;

-- name: VerifyEventDigest :one
-- The events of a stretch as three numbers that do not depend on their order.
SELECT l.floor, d.events::bigint AS events, d.positions::bigint AS positions, d.hash::bigint AS hash
FROM tailroom.log l CROSS JOIN LATERAL (
    SELECT count(*) AS events, coalesce(bit_xor(e.position), 0) AS positions,
        coalesce(bit_xor(hash_record_extended(ROW(e.position, e.id, e.tenant, e.namespace, e.type, e.schema_version, e.rooms,
            e.stream, e.version, e.occurred_at, e.recorded_at, e.actor, e.correlation_id, e.causation_id, e.reply_by), 0)), 0) AS hash
    FROM tailroom.events e WHERE e.position > @after AND e.position <= @upto) d;

-- name: VerifyEventList :many
SELECT e.position, e.epoch, e.id, e.tenant, e.namespace, e.stream
FROM tailroom.events e WHERE e.position = ANY(@positions::bigint[]);

-- name: VerifyIDPage :many
SELECT e.id FROM tailroom.events e WHERE e.id >= @since ORDER BY e.id OFFSET sqlc.arg('skip')::integer LIMIT sqlc.arg('max_rows')::integer;

-- name: VerifyIDUses :many
SELECT e.position, e.tenant, e.namespace, e.stream, e.recorded_at
FROM tailroom.events e CROSS JOIN tailroom.log l
WHERE e.id = @id AND e.position > l.floor ORDER BY e.tenant, e.position;

-- name: VerifyVersionPage :many
SELECT e.tenant, e.namespace, e.stream::text AS stream, e.version::bigint AS version FROM tailroom.events e
WHERE e.stream IS NOT NULL AND e.version IS NOT NULL
    AND (e.tenant, e.namespace, e.stream, e.version) >= (@tenant::text, @namespace::text, @stream::text, @version::bigint)
ORDER BY e.tenant, e.namespace, e.stream, e.version OFFSET sqlc.arg('skip')::integer LIMIT sqlc.arg('max_rows')::integer;

-- name: VerifyHeadPage :many
SELECT s.tenant, s.namespace, s.stream, s.version, s.last_position, l.floor
FROM tailroom.streams s CROSS JOIN tailroom.log l
WHERE (s.tenant, s.namespace, s.stream, s.version) > (@tenant::text, @namespace::text, @stream::text, @version::bigint)
ORDER BY s.tenant, s.namespace, s.stream, s.version LIMIT sqlc.arg('max_rows')::integer;

-- name: VerifyHead :one
-- A stream's head, or heads, and its last event; zeros are none.
SELECT l.floor, heads.count::integer AS heads, coalesce(heads.version, 0)::bigint AS version,
    coalesce(heads.last_position, 0)::bigint AS last_position,
    coalesce(e.version, 0)::bigint AS event_version, coalesce(e.position, 0)::bigint AS event_position
FROM tailroom.log l
CROSS JOIN (SELECT count(*), max(s.version) AS version, max(s.last_position) AS last_position FROM tailroom.streams s
    WHERE s.tenant = @tenant AND s.namespace = @namespace AND s.stream = @stream) heads
LEFT JOIN LATERAL (SELECT e.version, e.position FROM tailroom.events e
    WHERE e.tenant = @tenant AND e.namespace = @namespace AND e.stream = @stream AND e.position > l.floor
    ORDER BY e.version DESC LIMIT 1) e ON true;

-- name: VerifyVersionPlaces :many
-- For some versions of streams: how many events have it and where, and the
-- version before it that there is (0: none). As above, sorted for the index.
SELECT v.number::integer AS number, l.floor, here.events::integer AS events, coalesce(here.lowest, 0)::bigint AS lowest,
    coalesce(here.highest, 0)::bigint AS highest,
    coalesce(before.version, 0)::bigint AS before_version, coalesce(before.position, 0)::bigint AS before_position
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
        unnest(@streams::text[]) AS stream, unnest(@versions::bigint[]) AS version) v
CROSS JOIN tailroom.log l
CROSS JOIN LATERAL (SELECT count(*) AS events, min(same.position) AS lowest, max(same.position) AS highest FROM (
    SELECT e.position FROM tailroom.events e
    WHERE e.tenant = v.tenant AND e.namespace = v.namespace AND e.stream = v.stream
        AND e.version >= v.version AND e.version <= v.version AND e.position > l.floor
    ORDER BY e.version) same) here
LEFT JOIN LATERAL (SELECT e.version, e.position FROM tailroom.events e
    WHERE e.tenant = v.tenant AND e.namespace = v.namespace AND e.stream = v.stream AND e.version < v.version
        AND e.position > l.floor
    ORDER BY e.version DESC, e.position LIMIT 1) before ON true;

-- name: VerifyRequestPage :many
-- Requests, with what the log says of them: whether the event is the one, whether the
-- answer's event may be one, whether its data were erased, and where the first answer
-- is (0: none).
SELECT r.position, r.id, r.tenant, r.namespace, l.floor, coalesce(r.answer_position, 0)::bigint AS answer,
    (q.id IS NOT NULL AND (q.id, q.tenant, q.namespace, q.type, q.correlation_id, q.rooms, q.reply_by)
        IS NOT DISTINCT FROM (r.id, r.tenant, r.namespace, r.type, r.correlation_id, r.rooms, r.reply_by))::boolean AS asked,
    (a.id IS NOT NULL AND (a.id, a.tenant, a.namespace, a.type, a.correlation_id)
        IS NOT DISTINCT FROM (r.answer_id, r.tenant, r.namespace, r.reply_type, r.correlation_id))::boolean AS answered,
    EXISTS (SELECT FROM tailroom.redactions e WHERE e.position = r.answer_position)::boolean AS erased,
    coalesce(tailroom.first_answer(r.tenant, r.namespace, r.correlation_id, r.reply_type, r.reply_when, r.position), 0)::bigint AS first
FROM (SELECT * FROM tailroom.requests p WHERE p.position > @after AND p.position <= @upto ORDER BY p.position LIMIT @max_rows) r
CROSS JOIN tailroom.log l
LEFT JOIN tailroom.events q ON q.position = r.position
LEFT JOIN tailroom.events a ON a.position = r.answer_position
ORDER BY r.position;
