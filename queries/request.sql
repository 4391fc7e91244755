-- Requests: events that want an answer.

-- name: RequestAnswers :many
-- The answers to some requests; position 0 where there is none yet. A request that is
-- missing is not in the log: it has lost its end.
SELECT r.position, coalesce(r.answer_position, 0)::bigint AS answer, r.answer_id
FROM (SELECT unnest(@positions::bigint[]) AS position, unnest(@ids::uuid[]) AS id) w
JOIN tailroom.requests r ON r.position = w.position AND r.id = w.id;

-- name: RequestList :many
-- Some requests and what has become of each by now.
SELECT r.position, r.tenant, r.correlation_id, r.reply_by, coalesce(r.answer_position, 0)::bigint AS answer,
    CASE WHEN r.answer_position IS NOT NULL THEN 'answered' WHEN r.reply_by <= statement_timestamp() THEN 'expired' ELSE 'pending' END::text AS status
FROM tailroom.bounds b
CROSS JOIN LATERAL (SELECT unnest(tailroom.request_list(@tenant, coalesce(@namespaces::text[], '{}'), coalesce(@rooms::text[], '{}'),
    coalesce(@types::text[], '{}'), coalesce(@statuses::text[], '{}'), @correlation_id,
    statement_timestamp() - make_interval(secs => @older_than_seconds::double precision),
    greatest(@after::bigint, b.floor), @newest_first, sqlc.arg('max_rows'))) AS position) p
JOIN tailroom.requests r ON r.position = p.position
ORDER BY CASE WHEN @newest_first THEN -r.position ELSE r.position END;

-- name: EventStory :one
SELECT tailroom.story(@tenant, @correlation_id, sqlc.arg('max_rows'))::bigint[];

-- name: RequestForget :execrows
-- Drops some of what lies at or below the floor.
DELETE FROM tailroom.requests WHERE position IN (
    SELECT r.position FROM tailroom.requests r WHERE r.position <= @floor ORDER BY r.position LIMIT sqlc.arg('max_rows')::integer);

-- name: RequestBackfill :one
SELECT tailroom.backfill_requests(@most::integer)::boolean;
