-- The outbox: what transactions have published with SQL, on its way into the log.

-- name: OutboxLead :one
-- Whether this connection leads the relay from now on.
SELECT pg_try_advisory_lock(1952541036, 5);

-- name: OutboxPage :many
-- The lowest visible rows, in order: those in some gaps, and those above a number.
-- It stops before the row with which the data would pass max_bytes, compressed ones
-- counted with what they come to, but returns at least one.
SELECT id, event_id, tenant, namespace, type, schema_version, rooms, coalesce(stream, '')::text AS stream, occurred_at, actor,
    correlation_id, causation_id, reply_by, data, extract(epoch FROM clock_timestamp() - submitted_at)::double precision AS age_seconds
FROM (SELECT *, sum(size) OVER (ORDER BY id) - size AS before
    FROM (SELECT *, CASE WHEN pg_column_compression(data) IS NULL THEN pg_column_size(data) ELSE octet_length(data::text) END AS size FROM (
        SELECT late.* FROM (SELECT unnest(@firsts::bigint[]) AS first, unnest(@lasts::bigint[]) AS last) gap
        CROSS JOIN LATERAL (SELECT * FROM tailroom.outbox o WHERE o.id BETWEEN gap.first AND gap.last
            ORDER BY o.id LIMIT sqlc.arg('max_rows')::integer) late
        UNION ALL
        (SELECT * FROM tailroom.outbox o WHERE o.id > @above::bigint ORDER BY o.id LIMIT sqlc.arg('max_rows')::integer)
        ORDER BY id LIMIT sqlc.arg('max_rows')::integer) page) measured) o
WHERE before < sqlc.arg('max_bytes')::bigint ORDER BY id;

-- name: OutboxSettle :exec
SELECT tailroom.outbox_settle(@ids::bigint[], @codes::text[], @reasons::text[]);

-- name: OutboxHorizon :one
SELECT upto::bigint AS upto, before::bigint AS before FROM tailroom.outbox_horizon();

-- name: OutboxHorizonReached :one
-- Whether every transaction below a number is over.
SELECT (pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= @before::bigint)::boolean;

-- name: OutboxCount :one
-- How many rows wait from a number on, counted no further than to most.
SELECT count(*) FROM (SELECT FROM tailroom.outbox WHERE id >= @first::bigint ORDER BY id LIMIT @most::integer) o;

-- name: OutboxState :one
-- How many rows wait, how old the first is, and how many are rejected.
SELECT (SELECT count(*) FROM tailroom.outbox)::bigint AS waiting,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - submitted_at) FROM tailroom.outbox ORDER BY id LIMIT 1), 0)::double precision AS age_seconds,
    (SELECT count(*) FROM tailroom.outbox_rejected)::bigint AS rejected;

-- name: RejectedList :many
SELECT id, event_id, tenant, namespace, type, coalesce(stream, '')::text AS stream, actor, submitted_at, code, reason, rejected_at
FROM tailroom.outbox_rejected WHERE id > @after::bigint ORDER BY id LIMIT @max_rows;

-- name: RejectedRetry :one
-- Null is all; the result is which there were.
SELECT coalesce(tailroom.outbox_retry(sqlc.narg('ids')::bigint[], sqlc.narg('reason')::text, @actor::text), '{}')::bigint[];

-- name: RejectedDiscard :one
SELECT coalesce(tailroom.outbox_discard(sqlc.narg('ids')::bigint[], sqlc.narg('reason')::text, @actor::text), '{}')::bigint[];

-- name: CatalogueMirror :exec
SELECT tailroom.mirror_catalogue(@types::jsonb, @max_event_bytes::bigint);
