-- name: EventAppendBatch :one
SELECT
    coalesce(first_position, 0)::bigint AS first_position,
    coalesce(epoch, 0)::bigint AS epoch,
    coalesce(base_versions, '{}')::bigint[] AS base_versions,
    coalesce(known, '{}')::integer[] AS known,
    coalesce(known_positions, '{}')::bigint[] AS known_positions,
    coalesce(conflicts, '{}')::integer[] AS conflicts,
    coalesce(current_versions, '{}')::bigint[] AS current_versions,
    coalesce(answered, '{}')::integer[] AS answered,
    coalesce(answered_ids, '{}')::uuid[] AS answered_ids,
    coalesce(crowded, '{}')::integer[] AS crowded,
    waited_us::bigint AS waited_us, worked_us::bigint AS worked_us, clock::timestamptz AS clock
FROM tailroom.append_batch(
    @judge_ids, @seen_epoch, @seen_position, @deadline, @relayed::bigint[],
    @head_tenants::text[], @head_namespaces::text[], @head_streams::text[], @head_counts::bigint[], @head_lasts::integer[], @head_expected::bigint[],
    @tenants::text[], @namespaces::text[], @types::text[], @schema_versions::integer[], @ids::uuid[], @rooms::text[],
    @heads::integer[], @ordinals::bigint[], @occurred_ats::timestamptz[], @actors::text[],
    @correlation_ids::text[], @causation_ids::uuid[], @reply_bys::timestamptz[], @datas::jsonb[],
    @requests::integer[], @reply_types::text[], @reply_whens::jsonb[], @may_answer::integer[]);

-- name: EventMatchDrafts :many
-- Whether events that are in the log already have the content of the drafts
-- that brought their ids again. Data that were erased are not compared.
SELECT e.position, e.epoch, e.stream, e.version,
    (e.namespace = d.namespace AND e.type = d.type
        AND e.rooms @> string_to_array(d.rooms, E'\x1f') AND e.rooms <@ string_to_array(d.rooms, E'\x1f')
        AND coalesce(e.stream, '') = d.stream AND e.correlation_id = d.correlation_id
        AND (e.data = d.data OR EXISTS (SELECT FROM tailroom.redactions r WHERE r.position = e.position)))::boolean AS same
FROM (SELECT unnest(@positions::bigint[]) AS position, unnest(@namespaces::text[]) AS namespace,
        unnest(@types::text[]) AS type, unnest(@rooms::text[]) AS rooms, unnest(@streams::text[]) AS stream,
        unnest(@correlation_ids::text[]) AS correlation_id, unnest(@datas::jsonb[]) AS data) d
JOIN tailroom.events e ON e.position = d.position;
