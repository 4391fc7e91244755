-- Consumers: their live sessions and what they have acknowledged.

-- name: ConsumerClaim :one
SELECT outcomes::bigint[] AS outcomes, made::bigint[] AS generations, acked_epochs::bigint[] AS epochs, acked_positions::bigint[] AS positions
FROM tailroom.consumer_claim(@instance::uuid, @tenants::text[], @names::text[], @subjects::text[], @roles::text[], @follows::text[],
    @sessions::text[], @known::bigint[], @deadlines::timestamptz[],
    @start_epochs::bigint[], @start_positions::bigint[], @most::bigint);

-- name: ConsumerStanding :one
-- The database's clock, and the generations of some consumers, 0 where there is none.
SELECT clock_timestamp()::timestamptz AS at, (SELECT array_agg(coalesce(c.generation, 0) ORDER BY k.number)
    FROM (SELECT unnest(@numbers::integer[]) AS number, unnest(@tenants::text[]) AS tenant, unnest(@names::text[]) AS name) k
    LEFT JOIN tailroom.consumers c ON c.tenant = k.tenant AND c.name = k.name)::bigint[] AS generations;

-- name: ConsumerFlush :one
SELECT outdated::bigint[] AS outdated, lost::bigint[] AS lost
FROM tailroom.consumer_flush(@tenants::text[], @names::text[], @sessions::text[], @generations::bigint[], @changed::boolean[],
    @epochs::bigint[], @positions::bigint[], @noted::boolean[], @follows::text[], @ended::boolean[]);

-- name: ConsumerList :many
-- Consumers behind (after_tenant, after_name), with what they have not acknowledged.
-- '' is every tenant, every name, and every subject; rooms are none, or some of which it follows one.
SELECT c.tenant, c.name, c.subject, c.role, c.connected::boolean AS connected, coalesce(c.instance_name, '')::text AS instance,
    c.since::timestamptz AS since, c.epoch, c.position, lag.events::bigint AS lag_events, coalesce(lag.oldest, '0001-01-01 00:00:00Z')::timestamptz AS oldest,
    coalesce(greatest(extract(epoch FROM now() - lag.oldest), 0), 0)::double precision AS lag_seconds
FROM (
    SELECT s.* FROM tailroom.consumer_states s
    WHERE (@tenant::text = '' OR s.tenant = @tenant) AND (@name::text = '' OR s.name = @name)
        AND (@subject::text = '' OR s.subject = @subject)
        AND (cardinality(@rooms::text[]) = 0 OR EXISTS (SELECT FROM jsonb_each(s.follows) AS f WHERE f.value ?| @rooms::text[]))
        AND (s.tenant, s.name) > (@after_tenant::text, @after_name::text)
        AND (sqlc.narg('connected')::boolean IS NULL OR s.connected = sqlc.narg('connected')::boolean)
    ORDER BY s.tenant, s.name LIMIT @max_rows::integer) c
CROSS JOIN LATERAL tailroom.consumer_lag(c.tenant, c.follows, c.held, @max_lag::bigint) AS lag
ORDER BY c.tenant, c.name;

-- name: ConsumerReceipts :many
-- The consumers behind a name that follow one of the rooms of an event, and when
-- each acknowledged it. Rooms hold '*' as well.
SELECT c.name, c.role, c.connected::boolean AS connected, c.since::timestamptz AS since,
    ((c.joined_epoch, c.joined_position) < (@epoch::bigint, @position::bigint))::boolean AS addressed,
    ((c.epoch, c.position) >= (@epoch::bigint, @position::bigint))::boolean AS acknowledged,
    coalesce((SELECT a.at FROM tailroom.consumer_acks a
     WHERE a.tenant = c.tenant AND a.name = c.name AND (a.epoch, a.position) >= (@epoch::bigint, @position::bigint)
     ORDER BY a.epoch, a.position LIMIT 1), '0001-01-01 00:00:00Z')::timestamptz AS acknowledged_at
FROM tailroom.consumer_states c
WHERE c.tenant = @tenant AND c.name > @after_name::text AND (@subject::text = '' OR c.subject = @subject)
    AND (cardinality(@within::text[]) = 0 OR EXISTS (SELECT FROM jsonb_each(c.follows) AS f WHERE f.value ?| @within::text[]))
    AND c.follows -> @namespace::text ?| @rooms::text[]
ORDER BY c.name LIMIT @max_rows::integer;

-- name: ConsumerErase :one
SELECT outcome::bigint AS outcome, coalesce(position, 0)::bigint AS position, coalesce(epoch, 0)::bigint AS epoch,
    coalesce(recorded_at, now())::timestamptz AS recorded_at
FROM tailroom.consumer_erase(@tenant::text, @name::text, sqlc.narg('reason')::text, @actor::text);

-- name: ConsumersLagging :one
SELECT tailroom.consumers_lagging(@upto::bigint, @most::bigint)::bigint;

-- name: ConsumerAcksForget :one
SELECT tailroom.consumer_acks_forget(@most::bigint)::bigint;
