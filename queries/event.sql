-- Reading the log. A page is read in two steps: which positions match (from
-- indexes alone, together with the tip and the floor that the same snapshot
-- sees), then the events at those positions. An empty page so still says how
-- far it has looked, and a partition that retention detached in between is
-- noticed, because its events are missing.

-- Both readings stop before the row with which the data would pass max_bytes, but
-- return at least one: what is read at once is bounded in memory. Data that are stored
-- compressed count with what they come to.

-- name: EventTail :many
SELECT position, epoch, id, tenant, namespace, type, schema_version, rooms, stream, version, occurred_at,
    recorded_at, actor, correlation_id, causation_id, reply_by, data
FROM (SELECT *, sum(size) OVER (ORDER BY position) - size AS before
    FROM (SELECT *, CASE WHEN pg_column_compression(data) IS NULL THEN pg_column_size(data) ELSE octet_length(data::text) END AS size
        FROM tailroom.events WHERE position > @after ORDER BY position LIMIT sqlc.arg('max_rows')::integer) page) e
WHERE before < sqlc.arg('max_bytes')::bigint ORDER BY position;

-- name: EventListByPosition :many
SELECT position, epoch, id, tenant, namespace, type, schema_version, rooms, stream, version, occurred_at,
    recorded_at, actor, correlation_id, causation_id, reply_by, data
FROM (SELECT *, sum(size) OVER (ORDER BY position) - size AS before
    FROM (SELECT *, CASE WHEN pg_column_compression(data) IS NULL THEN pg_column_size(data) ELSE octet_length(data::text) END AS size
        FROM tailroom.events WHERE position = ANY(@positions::bigint[])) page) e
WHERE before < sqlc.arg('max_bytes')::bigint ORDER BY position;

-- name: EventGetByID :many
SELECT position, epoch, id, tenant, namespace, type, schema_version, rooms, stream, version, occurred_at,
    recorded_at, actor, correlation_id, causation_id, reply_by, data
FROM tailroom.events WHERE id = @id AND (@tenant::text = '' OR tenant = @tenant) ORDER BY position;

-- name: EventPageTopics :one
-- Each topic is scanned in order and no further than a page: its first rooms,
-- the few events with several, or the whole namespace where the room is empty. And
-- no scan goes beyond upto, however little it finds.
SELECT
    b.tip::bigint AS tip, b.floor::bigint AS floor, b.epoch::bigint AS epoch,
    coalesce((SELECT array_agg(p.position ORDER BY p.position) FROM (
        SELECT DISTINCT hit.position
        FROM (SELECT unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
                unnest(@rooms::text[]) AS room) topic
        CROSS JOIN LATERAL (
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room <> '' AND e.tenant = topic.tenant AND e.namespace = topic.namespace
                AND e.first_room = topic.room AND e.position > @after AND e.position <= @upto
             ORDER BY e.position LIMIT sqlc.arg('max_rows')::integer)
            UNION ALL
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room <> '' AND e.tenant = topic.tenant AND e.namespace = topic.namespace
                AND cardinality(e.rooms) > 1 AND e.rooms @> ARRAY[topic.room] AND e.position > @after AND e.position <= @upto
             ORDER BY e.position LIMIT sqlc.arg('max_rows')::integer)
            UNION ALL
            (SELECT e.position FROM tailroom.events e
             WHERE topic.room = '' AND e.tenant = topic.tenant AND e.namespace = topic.namespace
                AND e.position > @after AND e.position <= @upto
             ORDER BY e.position LIMIT sqlc.arg('max_rows')::integer)
        ) hit
        ORDER BY hit.position LIMIT sqlc.arg('max_rows')::integer) p), '{}')::bigint[] AS positions
FROM tailroom.bounds b;

-- name: EventPageNamespaces :one
-- The operators' page: namespaces of every tenant.
SELECT
    b.tip::bigint AS tip, b.floor::bigint AS floor, b.epoch::bigint AS epoch,
    coalesce((SELECT array_agg(p.position ORDER BY p.position) FROM (
        SELECT e.position FROM tailroom.events e
        WHERE e.namespace = ANY(@namespaces::text[]) AND e.position > @after AND e.position <= @upto
        ORDER BY e.position LIMIT sqlc.arg('max_rows')::integer) p), '{}')::bigint[] AS positions
FROM tailroom.bounds b;

-- name: LogBounds :one
SELECT tip::bigint AS tip, floor::bigint AS floor, epoch::bigint AS epoch FROM tailroom.bounds;

-- name: EventHistory :one
SELECT b.tip::bigint AS tip, b.floor::bigint AS floor, b.epoch::bigint AS epoch,
    tailroom.history(@tenant, coalesce(@namespaces::text[], '{}'), coalesce(@rooms::text[], '{}'),
        coalesce(@types::text[], '{}'), @stream, @correlation_id, sqlc.narg('recorded_from'), sqlc.narg('recorded_to'),
        @after, @before, @descending, sqlc.arg('max_rows'))::bigint[] AS positions
FROM tailroom.bounds b;
