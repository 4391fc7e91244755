-- Revoked tokens, and sessions that an operator ends.

-- name: TokensRevoke :one
-- Before is null, or the first instant of year 1, for one token, whenever it was issued.
SELECT position::bigint AS position, epoch::bigint AS epoch,
    CASE WHEN isfinite(upto) THEN upto ELSE '0001-01-01 00:00:00Z' END::timestamptz AS before, recorded_at::timestamptz AS recorded_at
FROM tailroom.revoke_tokens(sqlc.narg('tenant')::text, sqlc.narg('subject')::text, sqlc.narg('token_id')::text,
    sqlc.narg('before')::timestamptz, sqlc.narg('reason')::text, @actor::text);

-- name: SessionsDisconnect :one
SELECT position::bigint AS position, epoch::bigint AS epoch, recorded_at::timestamptz AS recorded_at
FROM tailroom.disconnect_sessions(sqlc.narg('tenant')::text, sqlc.narg('subject')::text, sqlc.narg('session')::text,
    sqlc.narg('reason')::text, @actor::text);

-- name: RevocationState :one
-- The newest epoch and the newest revocation, 0 when there is none.
SELECT coalesce((SELECT max(e.epoch) FROM tailroom.epochs e), 0)::bigint AS epoch,
    coalesce((SELECT max(r.position) FROM tailroom.revocations r), 0)::bigint AS newest;

-- name: RevocationList :many
-- Those after a position, in order. '' is every company; before is the first instant
-- of year 1 for one token, whenever it was issued.
SELECT position, coalesce(tenant, '')::text AS tenant, coalesce(subject, '')::text AS subject,
    coalesce(token_id, '')::text AS token_id, CASE WHEN isfinite(before) THEN before ELSE '0001-01-01 00:00:00Z' END::timestamptz AS before
FROM tailroom.revocations WHERE position > @after ORDER BY position LIMIT @max_rows;

-- name: RevocationForget :one
SELECT tailroom.forget_revocations(make_interval(secs => @seconds::double precision))::bigint;
