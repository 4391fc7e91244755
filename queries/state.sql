-- name: StateLeadershipTry :one
-- Whether this connection leads the projection from now on.
SELECT pg_try_advisory_lock(1952541036, 8);

-- name: StateHead :one
-- The live generation (0: there is none) and the log it is of.
SELECT coalesce(generation, 0)::bigint AS generation, coalesce(epoch, 0)::bigint AS epoch, coalesce(position, 0)::bigint AS position,
    tip::bigint AS tip, floor::bigint AS floor, newest::bigint AS newest, epochs::bigint[] AS epochs, survived::bigint[] AS survived
FROM tailroom.state_head;

-- name: StateLag :one
-- How many positions the states are behind the log, and since when, in seconds:
-- the age of the first event that is not in them.
SELECT (h.tip - h.position)::bigint AS events,
    coalesce((SELECT extract(epoch FROM clock_timestamp() - e.recorded_at) FROM tailroom.events e
        WHERE e.position > h.position ORDER BY e.position LIMIT 1), 0)::double precision AS seconds
FROM tailroom.state_head h WHERE h.generation IS NOT NULL;

-- name: StateLogPage :many
-- The next events to be folded, with the data of those that matter for a state. Data
-- that are stored compressed count with what they come to.
-- floor is the log's in the same snapshot.
SELECT e.position, e.epoch, e.tenant, e.namespace, e.type, e.rooms, coalesce(e.stream, '')::text AS stream,
    coalesce(e.version, 0)::bigint AS version, e.recorded_at, e.causation_id,
    coalesce(CASE WHEN e.stream IS NOT NULL OR e.namespace = '/system' THEN e.data END, '{}')::jsonb AS data, l.floor
FROM (SELECT *, sum(page.size) OVER (ORDER BY page.position) - page.size AS before
    FROM (SELECT *, CASE WHEN pg_column_compression(x.data) IS NULL THEN pg_column_size(x.data) ELSE octet_length(x.data::text) END AS size
        FROM tailroom.events x WHERE x.position > @after AND x.position <= @upto ORDER BY x.position LIMIT sqlc.arg('max_rows')::integer) page) e
CROSS JOIN tailroom.log l
WHERE e.before < sqlc.arg('max_bytes')::bigint ORDER BY e.position;

-- name: StateList :many
-- The states of some streams, as far as they have one, by the number of the stream.
SELECT k.number::integer AS number, s.version, s.state, s.open, s.incomplete, s.rooms, s.heard, s.position, s.updated_at
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
    unnest(@streams::text[]) AS stream) k
JOIN tailroom.states s ON s.generation = @generation::bigint AND s.tenant = k.tenant AND s.namespace = k.namespace AND s.stream = k.stream;

-- name: StateSizes :many
-- How large the states of some streams are, 0 where there is none, in the order of
-- their numbers. Of generation 0 are those of the floor.
SELECT coalesce(CASE WHEN @generation::bigint = 0
    THEN (SELECT f.size FROM tailroom.state_floor f
        WHERE f.tenant = k.tenant AND f.namespace = k.namespace AND f.stream = k.stream ORDER BY f.floor DESC LIMIT 1)
    ELSE (SELECT s.size FROM tailroom.states s
        WHERE s.generation = @generation AND s.tenant = k.tenant AND s.namespace = k.namespace AND s.stream = k.stream)
    END, 0)::integer AS size
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
    unnest(@streams::text[]) AS stream) k ORDER BY k.number;

-- name: StateBases :many
-- What some streams' states up to a position can be made from, by the number of the
-- stream: the last keyframe up to there and below a version, or the state at the
-- floor. Without either, the beginning of the log.
SELECT k.number::integer AS number, b.version, b.state, b.open, b.incomplete, b.rooms, b.heard, b.position, b.updated_at
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
    unnest(@streams::text[]) AS stream, unnest(@befores::bigint[]) AS before) k
CROSS JOIN LATERAL (
    (SELECT f.version, f.state, f.open, f.incomplete, f.rooms, f.heard, f.position, f.updated_at FROM tailroom.state_keyframes f
     WHERE f.generation = @generation::bigint AND f.tenant = k.tenant AND f.namespace = k.namespace AND f.stream = k.stream
        AND f.version < k.before AND f.position <= @upto
     ORDER BY f.version DESC LIMIT 1)
    UNION ALL
    (SELECT f.version, f.state, f.open, f.incomplete, f.rooms, f.heard, f.position, f.updated_at FROM tailroom.state_floor f
     WHERE f.tenant = k.tenant AND f.namespace = k.namespace AND f.stream = k.stream AND f.floor <= (SELECT l.floor FROM tailroom.log l)
     ORDER BY f.floor DESC LIMIT 1)
    ORDER BY version DESC LIMIT 1) b;

-- name: StateEvents :many
-- The next events of some streams behind the positions they have come to, up to a
-- position, by the number of the stream. An empty result means that there are none.
SELECT e.number::integer AS number, e.position, e.type, e.rooms, e.version, e.recorded_at, e.data
FROM (SELECT page.*, sum(page.size) OVER (ORDER BY page.number, page.position) - page.size AS before
    FROM (SELECT k.number, e.position, e.type, e.rooms, e.version::bigint AS version, e.recorded_at, e.data,
        CASE WHEN pg_column_compression(e.data) IS NULL THEN pg_column_size(e.data) ELSE octet_length(e.data::text) END AS size
        FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
            unnest(@streams::text[]) AS stream, unnest(@versions::bigint[]) AS version, unnest(@positions::bigint[]) AS position) k
        CROSS JOIN LATERAL (SELECT * FROM tailroom.events e
            WHERE e.tenant = k.tenant AND e.namespace = k.namespace AND e.stream = k.stream AND e.version > k.version
                AND e.position > k.position AND e.position <= @upto
            ORDER BY e.version LIMIT 100) e) page) e
WHERE e.before < sqlc.arg('max_bytes')::bigint ORDER BY e.number, e.position;

-- name: StateStreamAt :many
-- The stream of the event at a position, if it has one and is there.
SELECT e.tenant, e.namespace, e.stream::text AS stream, e.version::bigint AS version FROM tailroom.events e
WHERE e.position = @position AND e.stream IS NOT NULL;

-- name: StatePage :many
SELECT p.tenant, p.namespace, p.stream, p.version, p.state, p.open, p.incomplete, p.rooms, p.heard, p.position, p.updated_at, p.size
FROM tailroom.state_page(@generation, @checkpoint, @asof, @tenant, @namespaces::text[], @rooms::text[], @prefix, sqlc.narg('open'),
    @after_tenant, @after_namespace, @after_stream, sqlc.arg('max_rows'), sqlc.arg('max_bytes')) p;

-- name: StateFold :one
SELECT tailroom.state_fold(@generation, @from_epoch, @from_position, @to_epoch, @to_position,
    @forgotten_tenants::text[], @forgotten_namespaces::text[], @forgotten_streams::text[], @forgotten_versions::bigint[],
    @keyframes::boolean[], @tenants::text[], @namespaces::text[], @streams::text[], @versions::bigint[], @datas::jsonb[], @opens::boolean[],
    @incompletes::boolean[], @rooms::text[], @heards::text[], @positions::bigint[], @updated_ats::timestamptz[])::boolean;

-- name: StateBegin :one
SELECT tailroom.state_begin(@epoch, @position)::bigint;

-- name: StateSeed :one
SELECT seeded::bigint AS seeded, coalesce(tenant, '')::text AS tenant, coalesce(namespace, '')::text AS namespace, coalesce(stream, '')::text AS stream
FROM tailroom.state_seed(@generation, sqlc.arg('max_rows'), @tenant, @namespace, @stream);

-- name: StateSwitch :one
SELECT tailroom.state_switch(@generation, @force)::boolean;

-- name: StateRemove :one
SELECT tailroom.state_remove(sqlc.arg('max_rows'))::bigint;

-- name: StatePositionAt :one
SELECT tailroom.position_at(@at)::bigint;

-- name: StateGeneration :many
SELECT epoch, position FROM tailroom.state_generations WHERE generation = @generation AND status = 'building';

-- The states of a new floor are the owner's to write, as the floor is.

-- name: StateFloorProgress :one
SELECT p.target, p.position, p.redacted, l.floor,
    coalesce((SELECT max(r.record) FROM tailroom.redactions r), 0)::bigint AS newest_redaction
FROM tailroom.state_floor_progress p CROSS JOIN tailroom.log l;

-- name: StateFloorForget :exec
-- The rows that count for nothing yet.
DELETE FROM tailroom.state_floor f WHERE f.floor > (SELECT l.floor FROM tailroom.log l);

-- name: StateFloorBegin :exec
UPDATE tailroom.state_floor_progress SET target = @target, position = @position, redacted = @redacted;

-- name: StateFloorList :many
-- The states of some streams at the floor, or as far as those of the next floor
-- are written, by the number of the stream.
SELECT k.number::integer AS number, f.version, f.state, f.open, f.incomplete, f.rooms, f.heard, f.position, f.updated_at
FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace,
    unnest(@streams::text[]) AS stream) k
CROSS JOIN LATERAL (SELECT * FROM tailroom.state_floor f
    WHERE f.tenant = k.tenant AND f.namespace = k.namespace AND f.stream = k.stream ORDER BY f.floor DESC LIMIT 1) f;

-- name: StateFloorWrite :exec
INSERT INTO tailroom.state_floor (tenant, namespace, stream, floor, version, state, open, incomplete, rooms, heard, position, updated_at)
SELECT r.tenant, r.namespace, r.stream, @target, r.version, r.data, r.open, r.incomplete, string_to_array(r.rooms, E'\x1f'), string_to_array(r.heard, E'\x1e'), r.position, r.updated_at
FROM (SELECT unnest(@tenants::text[]) AS tenant, unnest(@namespaces::text[]) AS namespace, unnest(@streams::text[]) AS stream,
    unnest(@versions::bigint[]) AS version, unnest(@datas::jsonb[]) AS data, unnest(@opens::boolean[]) AS open,
    unnest(@incompletes::boolean[]) AS incomplete, unnest(@rooms::text[]) AS rooms, unnest(@heards::text[]) AS heard, unnest(@positions::bigint[]) AS position,
    unnest(@updated_ats::timestamptz[]) AS updated_at) r
ON CONFLICT (tenant, namespace, stream, floor) DO UPDATE SET version = excluded.version, state = excluded.state, open = excluded.open,
    incomplete = excluded.incomplete, rooms = excluded.rooms, heard = excluded.heard, position = excluded.position, updated_at = excluded.updated_at;

-- name: StateFloorRaise :execrows
-- Nothing happens when an event was redacted whose old data may be in the states.
UPDATE tailroom.log l SET floor = p.target FROM tailroom.state_floor_progress p
WHERE l.floor < p.target AND p.target = @target AND p.position >= p.target
    AND NOT EXISTS (SELECT FROM tailroom.redactions r WHERE r.position > l.floor AND r.position <= p.target AND r.record > p.redacted);

-- name: AppendLock :exec
SELECT pg_advisory_xact_lock(1952541036, 1);

-- name: StateFloorPrune :many
-- Deletes the rows that the present floor's have replaced, of some streams behind
-- one, and returns the last of these; nothing when there are no more. The floor is a
-- range, so that its index gives the order, and not the primary key that has them all.
WITH page AS MATERIALIZED (SELECT n.tenant, n.namespace, n.stream, n.floor FROM tailroom.state_floor n
    WHERE n.floor BETWEEN (SELECT l.floor FROM tailroom.log l) AND (SELECT l.floor FROM tailroom.log l)
        AND (n.tenant, n.namespace, n.stream) > (@tenant::text, @namespace::text, @stream::text)
    ORDER BY n.floor, n.tenant, n.namespace, n.stream LIMIT sqlc.arg('max_rows')::integer),
gone AS (DELETE FROM tailroom.state_floor WHERE ctid = ANY (ARRAY(SELECT old.ctid FROM page p CROSS JOIN LATERAL (
    SELECT o.ctid FROM tailroom.state_floor o
    WHERE o.tenant = p.tenant AND o.namespace = p.namespace AND o.stream = p.stream AND o.floor < p.floor ORDER BY o.floor LIMIT 100) old)))
SELECT p.tenant, p.namespace, p.stream FROM page p ORDER BY p.tenant DESC, p.namespace DESC, p.stream DESC LIMIT 1;

-- name: StateKeyframePrune :execrows
-- Deletes some of the keyframes that nobody goes back to, because the floor is
-- above them.
DELETE FROM tailroom.state_keyframes WHERE ctid = ANY (ARRAY(SELECT k.ctid FROM tailroom.state_keyframes k
    WHERE k.position <= (SELECT l.floor FROM tailroom.log l) LIMIT sqlc.arg('max_rows')::integer));
