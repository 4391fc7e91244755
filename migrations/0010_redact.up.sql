-- Erasing what one event says, as the law may ask: the one change of an event
-- that is meant, and an event itself.
SET LOCAL ROLE tailroom_owner;

-- The events whose data are not what was published. A retry of such a publish is
-- compared without them.
CREATE TABLE tailroom.redactions (
    position bigint PRIMARY KEY,
    record   bigint NOT NULL
);
COMMENT ON COLUMN tailroom.redactions.record IS 'The position of the newest event that tells of it.';

-- tell appends an event of the namespace /system, by which the log says for ever
-- what an operator did, why (null: he did not say) and who he is, and returns its
-- position. What concerns no single company (a null tenant) is the tenant "*",
-- which no token and no publisher can have: only who may read every company's
-- events reads it. The append lock is taken here at the latest; whoever locks
-- anything else before takes it first.
CREATE FUNCTION tailroom.tell(tenant text, type text, reason text, actor text, data jsonb, causation_id uuid DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    concerns text := coalesce(tenant, '*');
    id       uuid := tailroom.new_id();
BEGIN
    IF reason !~ '\S' OR length(reason) > 1000 THEN
        RAISE EXCEPTION 'invalid_parameter: reason is 1 to 1000 characters that say why; it stays in the log for ever'
            USING ERRCODE = 'TR015';
    END IF;
    IF coalesce(actor, '') !~ '\S' OR actor ~ '[[:cntrl:]]' OR length(actor) > 300 THEN
        RAISE EXCEPTION 'invalid_parameter: actor is 1 to 300 printable characters that say who; it stays in the log for ever'
            USING ERRCODE = 'TR015';
    END IF;
    RETURN (SELECT a.first_position FROM tailroom.append_batch(
        false, 0, 0, 'infinity', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
        ARRAY[concerns], '{/system}', ARRAY[type], '{1}', ARRAY[id], ARRAY['company:' || concerns],
        '{0}', '{0}', ARRAY[clock_timestamp()], ARRAY[actor], ARRAY[id::text], ARRAY[causation_id], '{0001-01-01 00:00:00Z}',
        ARRAY[data || jsonb_build_object('reason', reason, 'actor', actor)]) a);
END $$;

-- redact puts `replacement` in the place of an event's data, and keeps all else of
-- it. The log tells of it for ever, with the reason and the actor, in an event
-- eventRedacted of the namespace /system, by which every instance forgets what it
-- held of the data; redact returns the position of that. It is the owner's: nobody
-- else may execute it unless he grants it.
--
-- The append lock comes first, as ever: then nothing waits for a row that this
-- transaction has while it waits for the lock. What it might wait for behind
-- the lock has a limit, because every append would wait with it.
CREATE FUNCTION tailroom.redact("position" bigint, reason text, actor text, replacement jsonb DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    target tailroom.events;
    told   bigint;
BEGIN
    IF reason IS NULL THEN
        RAISE EXCEPTION 'invalid_parameter: reason is 1 to 1000 characters that say why; it stays in the log for ever'
            USING ERRCODE = 'TR015';
    END IF;
    PERFORM tailroom.refuse_data(replacement);

    PERFORM pg_advisory_xact_lock(1952541036, 1);
    IF "position" <= (SELECT l.floor FROM tailroom.log l) THEN
        RAISE EXCEPTION 'not_found: the event at position % is gone: retention keeps only those above %', "position",
            (SELECT l.floor FROM tailroom.log l) USING ERRCODE = 'TR017';
    END IF;
    SELECT * INTO target FROM tailroom.events e WHERE e.position = redact."position";
    IF NOT FOUND THEN
        RAISE EXCEPTION 'not_found: there is no event at position %', coalesce("position"::text, 'null') USING ERRCODE = 'TR017';
    END IF;
    IF target.namespace = '/system' THEN
        RAISE EXCEPTION 'invalid_parameter: the event at position % tells of what an operator did, and stays as it is', "position"
            USING ERRCODE = 'TR015';
    END IF;

    PERFORM set_config('tailroom.change', 'redact', true);
    UPDATE tailroom.events e SET data = replacement WHERE e.position = target.position;
    PERFORM set_config('tailroom.change', '', true);

    told := tailroom.tell(target.tenant, 'eventRedacted', reason, actor, jsonb_build_object('position', target.position,
        'cursor', target.epoch || '-' || target.position, 'id', target.id, 'namespace', target.namespace, 'type', target.type),
        target.id);
    INSERT INTO tailroom.redactions AS r (position, record) VALUES (target.position, told)
    ON CONFLICT ON CONSTRAINT redactions_pkey DO UPDATE SET record = excluded.record;
    RETURN told;
END $$;

GRANT SELECT ON tailroom.redactions TO tailroom_writer;
REVOKE ALL ON FUNCTION tailroom.tell, tailroom.redact FROM PUBLIC;
