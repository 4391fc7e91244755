-- Everything goes back to whoever migrates. The roles stay: they belong to the
-- cluster, and another of its databases may use them.
DO $$
DECLARE
    object record;
BEGIN
    REVOKE ALL ON ALL TABLES IN SCHEMA tailroom FROM tailroom_writer, tailroom_reader;
    REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tailroom FROM tailroom_writer, tailroom_reader;
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tailroom TO PUBLIC;
    REVOKE ALL ON SCHEMA tailroom FROM tailroom_writer, tailroom_reader, tailroom_publisher;
    EXECUTE format('ALTER SCHEMA tailroom OWNER TO %I', current_user);
    FOR object IN
        SELECT c.oid::regclass AS name FROM pg_class c
        WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', object.name, current_user);
    END LOOP;
    FOR object IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'tailroom'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', object.name, current_user);
    END LOOP;
    EXECUTE format('ALTER STATISTICS tailroom.events_rooms_count OWNER TO %I', current_user);
END $$;
