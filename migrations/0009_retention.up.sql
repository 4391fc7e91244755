-- Partitions: made by an instance that owns nothing, sealed when they are full.
SET LOCAL ROLE tailroom_owner;

ALTER TABLE tailroom.partitions
    ADD COLUMN events        bigint,
    ADD COLUMN recorded_from timestamptz,
    ADD COLUMN recorded_to   timestamptz,
    ADD COLUMN sealed_at     timestamptz;
COMMENT ON COLUMN tailroom.partitions.events IS 'How many there are, counted when the partition was full.';
COMMENT ON COLUMN tailroom.partitions.recorded_from IS 'The least recorded_at. Not the first one''s: clocks are set back.';
COMMENT ON COLUMN tailroom.partitions.recorded_to IS 'The greatest recorded_at.';
COMMENT ON COLUMN tailroom.partitions.sealed_at IS 'Since when its times are a constraint that the planner knows.';

-- partitions_ahead makes partitions until `ahead` whole ones lie beyond the
-- present position, and returns how many it made. CREATE TABLE and ATTACH,
-- because CREATE TABLE … PARTITION OF locks readers and appends out. Nobody is
-- granted anything on them: the log is read through tailroom.events.
CREATE OR REPLACE FUNCTION tailroom.partitions_ahead(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    size  bigint := (SELECT partition_size FROM tailroom.log);
    want  bigint;
    lo    bigint;
    child text;
    made  integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(1952541036, 2);
    want := (SELECT last_value FROM tailroom.positions) + 1 + size * ahead;
    LOOP
        lo := coalesce((SELECT max(beyond) FROM tailroom.partitions), 1);
        EXIT WHEN lo > want;
        child := 'events_' || lo;
        EXECUTE format('CREATE TABLE tailroom.%I (LIKE tailroom.events INCLUDING ALL)', child);
        EXECUTE format('CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tailroom.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION tailroom.refuse_change()', child);
        EXECUTE format('ALTER TABLE tailroom.events ATTACH PARTITION tailroom.%I FOR VALUES FROM (%s) TO (%s)',
            child, lo, lo + size);
        INSERT INTO tailroom.partitions (first, beyond, name) VALUES (lo, lo + size, child);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

-- seal_partition takes one step towards the seal of the partition that begins at
-- `which`, and returns whether it is sealed then. Each step is a transaction of
-- its own: measure it, say its times in a constraint that nothing is checked
-- against, check. Only the second locks readers out, and it reads nothing. It
-- gives up (SQLSTATE 55P03) when somebody has the partition in use for longer
-- than readers should wait behind it.
--
-- A visible event at the partition's end or behind it says that all others in it
-- are visible or will never be: position order is commit order. That holds for
-- whatever survives of the log as well, since the seal comes later.
CREATE FUNCTION tailroom.seal_partition(which bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '25ms' SET max_parallel_workers_per_gather = 0 SET jit = off
AS $$
DECLARE
    part tailroom.partitions;
BEGIN
    SELECT * INTO part FROM tailroom.partitions WHERE first = which;
    IF part.sealed_at IS NOT NULL THEN
        RETURN true;
    ELSIF part.beyond > (SELECT tip FROM tailroom.bounds) + 1 OR part.first IS NULL THEN
        RAISE EXCEPTION 'no partition that begins at % is full', which USING ERRCODE = 'object_not_in_prerequisite_state';
    ELSIF part.events IS NULL THEN
        EXECUTE format('SELECT count(*), min(recorded_at), max(recorded_at) FROM tailroom.%I', part.name)
            INTO part.events, part.recorded_from, part.recorded_to;
        UPDATE tailroom.partitions
            SET events = part.events, recorded_from = part.recorded_from, recorded_to = part.recorded_to WHERE first = which;
        RETURN false;
    ELSIF part.events > 0 AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = format('tailroom.%I', part.name)::regclass AND conname = 'recorded_within')
    THEN
        EXECUTE format('ALTER TABLE tailroom.%I ADD CONSTRAINT recorded_within'
            ' CHECK (recorded_at >= %L AND recorded_at <= %L) NOT VALID', part.name, part.recorded_from, part.recorded_to);
        RETURN false;
    ELSIF part.events > 0 THEN
        EXECUTE format('ALTER TABLE tailroom.%I VALIDATE CONSTRAINT recorded_within', part.name);
    END IF;
    UPDATE tailroom.partitions SET sealed_at = clock_timestamp() WHERE first = which;
    RETURN true;
END $$;

REVOKE ALL ON FUNCTION tailroom.partitions_ahead, tailroom.seal_partition FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.partitions_ahead, tailroom.seal_partition TO tailroom_writer;
