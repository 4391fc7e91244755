-- name: EventRedact :one
-- The position of the event that tells of it.
SELECT tailroom.redact(@position, @reason, @actor, @replacement::jsonb)::bigint;

-- name: PartitionHolding :one
SELECT name FROM tailroom.partitions WHERE first <= @position AND beyond > @position;
