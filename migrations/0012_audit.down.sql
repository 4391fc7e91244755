-- The outbox's functions as they were.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.epoch_new, tailroom.outbox_discard, tailroom.outbox_retry, tailroom.tell_rows;

-- outbox_retry puts rejected rows (null: all) back into the outbox, in their old
-- order and behind what waits there; outbox_discard throws them away. Both
-- return which there were.
CREATE FUNCTION tailroom.outbox_retry(ids bigint[]) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    gone bigint[];
BEGIN
    PERFORM pg_current_xact_id(); -- as in publish
    WITH back AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING *),
    queued AS (
        INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
            correlation_id, causation_id, data, submitted_at)
        SELECT b.event_id, b.tenant, b.namespace, b.type, b.schema_version, b.rooms, b.stream,
            b.occurred_at, b.actor, b.correlation_id, b.causation_id, b.data, clock_timestamp()
        FROM back b ORDER BY b.id)
    SELECT array_agg(b.id ORDER BY b.id) INTO gone FROM back b;
    PERFORM pg_notify('tailroom_outbox', '');
    RETURN gone;
END $$;
CREATE FUNCTION tailroom.outbox_discard(ids bigint[]) RETURNS bigint[]
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING r.id)
    SELECT array_agg(id ORDER BY id) FROM gone
$$;

REVOKE ALL ON FUNCTION tailroom.outbox_retry, tailroom.outbox_discard FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.outbox_retry, tailroom.outbox_discard TO tailroom_writer;
