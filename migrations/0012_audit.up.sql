-- What operators do to the outbox and to the log's epochs is told in the log, as
-- redactions and revocations are.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.outbox_retry(bigint[]), tailroom.outbox_discard(bigint[]);

-- outbox_retry puts rejected rows (null: all) back into the outbox, in their old
-- order and behind what waits there; outbox_discard throws them away. Both return
-- which there were. The append lock comes first, because the event that tells of
-- it needs it; nothing is told when there were none.
CREATE FUNCTION tailroom.outbox_retry(ids bigint[], reason text, actor text) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    PERFORM pg_current_xact_id(); -- as in publish
    WITH back AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING *),
    queued AS (
        INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor,
            correlation_id, causation_id, data, submitted_at)
        SELECT b.event_id, b.tenant, b.namespace, b.type, b.schema_version, b.rooms, b.stream,
            b.occurred_at, b.actor, b.correlation_id, b.causation_id, b.data, clock_timestamp()
        FROM back b ORDER BY b.id)
    SELECT array_agg(b.id ORDER BY b.id) INTO gone FROM back b;
    PERFORM tailroom.tell_rows('outboxRetried', gone, reason, actor);
    PERFORM pg_notify('tailroom_outbox', '');
    RETURN gone;
END $$;

CREATE FUNCTION tailroom.outbox_discard(ids bigint[], reason text, actor text) RETURNS bigint[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    gone bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    WITH thrown AS (DELETE FROM tailroom.outbox_rejected r WHERE ids IS NULL OR r.id = ANY (ids) RETURNING r.id)
    SELECT array_agg(t.id ORDER BY t.id) INTO gone FROM thrown t;
    PERFORM tailroom.tell_rows('outboxDiscarded', gone, reason, actor);
    RETURN gone;
END $$;

-- tell_rows tells what was done to some rows: how many, and the first thousand of
-- their numbers.
CREATE FUNCTION tailroom.tell_rows(type text, ids bigint[], reason text, actor text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(ids) > 0 THEN
        PERFORM tailroom.tell(NULL, type, reason, actor, jsonb_build_object('count', cardinality(ids), 'rows', ids[:1000]));
    END IF;
END $$;

-- epoch_new opens an epoch by hand, behind the last event there is. The first event
-- of it tells so.
CREATE FUNCTION tailroom.epoch_new(reason text, actor text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number bigint := tailroom.epoch_open(NULL, 0, reason);
BEGIN
    PERFORM tailroom.tell(NULL, 'epochOpened', reason, actor, (SELECT jsonb_build_object('epoch', e.epoch, 'survived', e.survived)
        FROM tailroom.epochs e WHERE e.epoch = number));
    RETURN number;
END $$;

REVOKE ALL ON FUNCTION tailroom.tell_rows, tailroom.outbox_retry, tailroom.outbox_discard, tailroom.epoch_new FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.outbox_retry, tailroom.outbox_discard, tailroom.epoch_new TO tailroom_writer;
