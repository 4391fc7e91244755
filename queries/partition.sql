-- name: PartitionMakeAhead :one
SELECT tailroom.partitions_ahead(@ahead::integer)::integer;

-- name: PartitionSeal :one
SELECT tailroom.seal_partition(@first)::boolean;

-- name: PartitionList :many
-- Every partition in order, with what retention has not finished: one that is
-- not attached any more, or detached but for the transactions that still know it.
-- The size of such a one is not asked for: that would wait for a lock, and make a
-- deadlock with who detaches it.
SELECT p.name, p.first, (p.beyond - 1)::bigint AS last, b.tip::bigint AS tip, b.floor::bigint AS floor, now()::timestamptz AS read_at,
    p.events, p.recorded_from, p.recorded_to, (p.sealed_at IS NOT NULL)::boolean AS sealed,
    coalesce(CASE WHEN NOT i.inhdetachpending THEN pg_total_relation_size(c.oid) END, 0)::bigint AS bytes,
    (i.inhrelid IS NOT NULL)::boolean AS attached, coalesce(i.inhdetachpending, false)::boolean AS pending
FROM tailroom.partitions p
CROSS JOIN tailroom.bounds b
LEFT JOIN pg_catalog.pg_class c ON c.relname = p.name AND c.relnamespace = 'tailroom'::regnamespace
LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'tailroom.events'::regclass
ORDER BY p.first;

-- name: PartitionForget :exec
DELETE FROM tailroom.partitions WHERE first = @first;

-- name: PartitionMayDetach :one
-- Whether the role has the rights of the owner of the log, and who that is.
SELECT pg_has_role(c.relowner, 'USAGE')::boolean AS may, pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role
FROM pg_catalog.pg_class c WHERE c.oid = 'tailroom.events'::regclass;

-- name: TransactionList :many
-- The transactions of this database but for this one. They have a lock on
-- themselves, which everybody can see, unlike their snapshots. Vacuum, which
-- belongs to no user, looks into no other table.
SELECT l.virtualtransaction::text
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND a.datname = current_database()
    AND a.usesysid IS NOT NULL AND l.pid <> pg_backend_pid();

-- name: RecentIDRotate :one
SELECT tailroom.rotate_ids(make_interval(secs => @seconds::double precision))::boolean;

-- name: LeadershipTry :one
-- Whether this connection leads the maintenance from now on.
SELECT pg_try_advisory_lock(1952541036, 4);
