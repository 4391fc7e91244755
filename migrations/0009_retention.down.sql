-- What retention has dropped stays so, and constraints of sealed partitions stay
-- true.
SET LOCAL ROLE tailroom_owner;

DROP FUNCTION tailroom.seal_partition;
ALTER TABLE tailroom.partitions
    DROP COLUMN events, DROP COLUMN recorded_from, DROP COLUMN recorded_to, DROP COLUMN sealed_at;
REVOKE ALL ON FUNCTION tailroom.partitions_ahead FROM tailroom_writer;
CREATE OR REPLACE FUNCTION tailroom.partitions_ahead(ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
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
