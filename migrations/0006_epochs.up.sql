-- Epochs: which life of the log a position belongs to. The log may lose its end:
-- a standby that lagged is promoted, a dump or a volume is put back. Positions
-- that were lost are handed out again then, and only the epoch tells the new
-- ones from the old.
SET LOCAL ROLE tailroom_owner;

COMMENT ON TABLE tailroom.epochs IS
    'The lives of the log. Numbers grow and have gaps; positions above survived are of this epoch, until the next one.';

-- refuse_change keeps the log append-only. Two changes pass, each of one column
-- alone, where a function of the owner's has said so for its transaction: a new
-- epoch takes over what was appended before the loss was noticed, and personal
-- data are erased.
CREATE OR REPLACE FUNCTION tailroom.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    change text := current_setting('tailroom.change', true);
BEGIN
    IF TG_OP = 'UPDATE' AND change IN ('epoch', 'redact') THEN
        OLD.first_room := NULL; -- generated, and not yet there in NEW
        IF change = 'epoch' THEN
            OLD.epoch := NEW.epoch;
        ELSE
            OLD.data := NEW.data;
        END IF;
        IF NEW *= OLD THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'tailroom.events is append-only: % is refused', TG_OP
        USING ERRCODE = 'TR002';
END $$;

-- epoch_identity tells one life of the log from another: the cluster, its
-- timeline (which a promotion and a recovery end), the database and the table.
-- Not in SQL: such a function would be planned anew for each batch.
CREATE FUNCTION tailroom.epoch_identity() RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT system_identifier FROM pg_control_system())
        || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
        || '/' || (SELECT oid FROM pg_database WHERE datname = current_database())
        || '/' || 'tailroom.events'::regclass::oid;
END $$;

-- epoch_begin begins an epoch in which the log goes on behind what survived
-- (null: all of it), whatever the sequence says: it may have run ahead of that.
-- The caller holds the append lock.
--
-- The number must be one that no lost life has had, though the row that told of
-- that life may be lost with it. So it is above all that is known here, above
-- what the caller knows (at_least), no less than the timeline, and no less than
-- the log's age in minutes: who goes back to yesterday's dump twice a day does
-- not get the same epoch twice. Only the first epoch of a log is always 1.
CREATE FUNCTION tailroom.epoch_begin(survived bigint, at_least bigint, reason text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    present text := tailroom.epoch_identity();
    tip     bigint := greatest((SELECT max(e.position) FROM tailroom.events e), (SELECT l.floor FROM tailroom.log l), 0);
    number  bigint := greatest(at_least, 1);
BEGIN
    IF EXISTS (SELECT FROM tailroom.epochs) THEN
        SELECT greatest(number, max(e.epoch) + 1, ('x' || split_part(present, '/', 2))::bit(32)::bigint,
            extract(epoch FROM clock_timestamp() - min(e.opened_at))::bigint / 60)
        INTO number FROM tailroom.epochs e;
    END IF;
    survived := least(survived, tip);
    PERFORM setval('tailroom.positions', tip);
    INSERT INTO tailroom.epochs (epoch, survived, identity, reason, opened_at)
    VALUES (number, survived, present, reason, clock_timestamp());
    IF survived < tip THEN
        PERFORM set_config('tailroom.change', 'epoch', true);
        UPDATE tailroom.events e SET epoch = number WHERE e.position > survived;
        PERFORM set_config('tailroom.change', '', true);
    END IF;
    -- Not a hint of an event: whoever hears it looks at the whole log again. Of
    -- the first epoch nobody knows another.
    IF number > 1 THEN
        PERFORM pg_notify('tailroom', '0:0');
    END IF;
    RETURN number;
END $$;

-- epoch_now returns the present epoch, and opens a new one when the log has come
-- to live in another database, cluster or timeline, or when it does not reach
-- what the caller has seen of it (0, 0: nothing): then it has lost its end. The
-- caller holds the append lock.
CREATE FUNCTION tailroom.epoch_now(seen_epoch bigint, seen_position bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    latest tailroom.epochs;
BEGIN
    SELECT * INTO latest FROM tailroom.epochs ORDER BY epoch DESC LIMIT 1;
    IF latest.epoch IS NULL AND seen_position = 0 THEN
        RETURN tailroom.epoch_begin(NULL, 1, 'first event');
    ELSIF latest.epoch IS NULL OR seen_epoch > latest.epoch
        OR seen_epoch = latest.epoch AND seen_position > (SELECT last_value FROM tailroom.positions) THEN
        RETURN tailroom.epoch_begin(NULL, seen_epoch + 1,
            format('the log did not reach %s-%s, which an instance had read', seen_epoch, seen_position));
    ELSIF latest.identity <> tailroom.epoch_identity() THEN
        RETURN tailroom.epoch_begin(NULL, 1, 'the database is another one than before');
    END IF;
    RETURN latest.epoch;
END $$;

-- epoch_open opens an epoch by hand, or by an instance that finds events gone
-- which it has read. What was appended above `survived` (null: nothing) is taken
-- over into the new epoch, so that cursors of the old one that lie there are not
-- taken for good. When `newest` is given and is not the newest epoch any more (0:
-- there is none), somebody was faster: nothing happens, and the result is null.
CREATE FUNCTION tailroom.epoch_open(survived bigint, at_least bigint, reason text, newest bigint DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'epoch_open needs READ COMMITTED: under % the snapshot is older than the lock',
            current_setting('transaction_isolation') USING ERRCODE = 'TR003';
    END IF;
    -- Instances may call this: they must not be able to spoil the numbers.
    IF at_least > 2::numeric ^ 53 OR survived < 0 THEN
        RAISE EXCEPTION 'invalid_parameter: epochs are numbered up to 2^53, and positions begin at 1' USING ERRCODE = 'TR015';
    END IF;
    PERFORM pg_advisory_xact_lock(1952541036, 1);
    PERFORM set_config('synchronous_commit', 'on', true);
    IF newest <> coalesce((SELECT max(e.epoch) FROM tailroom.epochs e), 0) THEN
        RETURN NULL;
    END IF;
    RETURN tailroom.epoch_begin(survived, at_least, reason);
END $$;

REVOKE ALL ON FUNCTION tailroom.epoch_identity(), tailroom.epoch_begin(bigint, bigint, text),
    tailroom.epoch_now(bigint, bigint), tailroom.epoch_open(bigint, bigint, text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.epoch_open(bigint, bigint, text, bigint) TO tailroom_writer;
