-- The instances that run.

-- name: InstanceJoin :one
-- Null when it has joined; otherwise when the one that has the name was last seen.
SELECT coalesce(tailroom.instance_join(@incarnation::uuid, @name::text, sqlc.narg('silent')::timestamptz), '0001-01-01 00:00:00Z')::timestamptz AS held;

-- name: InstanceBeat :one
SELECT tailroom.instance_beat(@incarnation::uuid, @address::text)::bigint;

-- name: InstanceLeave :exec
SELECT tailroom.instance_leave(@incarnation::uuid);

-- name: InstancePeers :many
-- The other instances that live, and where each is reached.
SELECT incarnation, address FROM tailroom.instances
WHERE incarnation <> @incarnation::uuid AND address <> '' AND seen_at >= clock_timestamp() - interval '5 seconds';
