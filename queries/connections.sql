-- Who is connected.

-- name: ConnectionsShow :one
SELECT tailroom.connections_show(@incarnation::uuid, @showing::bigint, @ended::bigint[], @sessions::jsonb)::bigint AS first;

-- name: ConnectionCounts :many
-- How many network connections there are in all, and in each of several ways to tell
-- them apart; of the rooms, those with the most. Numbers are faster to tell apart than
-- names.
WITH seen AS MATERIALIZED (
    SELECT dense_rank() OVER (ORDER BY c.instance, c.connection) AS id, c.instance_name, c.role, c.transport, c.rooms
    FROM tailroom.connections_seen(@tenant::text, @instance::text, @namespace::text, @room::text, @role::text, @subject::text, @transport::text) c)
SELECT 'total'::text AS what, ''::text AS name, count(DISTINCT s.id) AS connections FROM seen s
UNION ALL
SELECT 'instance', i.name, count(DISTINCT s.id) FROM tailroom.instances i LEFT JOIN seen s ON s.instance_name = i.name
WHERE i.seen_at >= clock_timestamp() - interval '5 seconds' AND (@instance = '' OR i.name = @instance) GROUP BY i.name
UNION ALL
SELECT 'role', s.role, count(DISTINCT s.id) FROM seen s GROUP BY s.role
UNION ALL
SELECT 'transport', s.transport, count(DISTINCT s.id) FROM seen s GROUP BY s.transport
UNION ALL
SELECT 'namespace', n.namespace, count(DISTINCT s.id) FROM seen s CROSS JOIN jsonb_object_keys(s.rooms) AS n (namespace) GROUP BY n.namespace
UNION ALL
(SELECT 'room', r.room, count(DISTINCT s.id) FROM seen s CROSS JOIN jsonb_each(s.rooms) AS n (namespace, rooms)
CROSS JOIN jsonb_array_elements_text(n.rooms) AS r (room) GROUP BY r.room ORDER BY 3 DESC, 2 LIMIT @max_rooms::int);

-- name: ConnectionList :many
SELECT c.* FROM tailroom.connections_seen(@tenant::text, @instance::text, @namespace::text, @room::text, @role::text, @subject::text, @transport::text) c
WHERE (c.instance, c.number) > (@after_instance::uuid, @after_number::bigint)
ORDER BY c.instance, c.number
LIMIT @max_rows::int;
