-- name: EpochList :many
SELECT * FROM tailroom.epochs ORDER BY epoch;

-- name: EpochOpen :one
-- 0: another epoch than newest is the newest by now, and none was opened.
SELECT coalesce(tailroom.epoch_open(sqlc.narg('survived'), @at_least, @reason, sqlc.narg('newest')), 0)::bigint;

-- name: EpochNew :one
SELECT tailroom.epoch_new(@reason, @actor)::bigint;

-- name: EventIs :one
-- Whether an event is the one at a position; what retention has dropped is
-- taken to be.
SELECT (l.floor >= @position OR EXISTS (
    SELECT FROM tailroom.events e WHERE e.position = @position AND e.id = @id))::boolean
FROM tailroom.log l;

-- name: EventLastRecorded :one
-- The last position below one that was recorded no later than a time; 0 when
-- there is none.
SELECT coalesce((SELECT e.position FROM tailroom.events e
    WHERE e.position < @position AND e.recorded_at <= @recorded_at ORDER BY e.position DESC LIMIT 1), 0)::bigint;
