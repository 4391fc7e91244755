-- Who may do what. Tailroom's roles are groups that nobody logs in as: the
-- programs' own roles are made members of them.
--
--   tailroom_owner      owns everything here: redacts, detaches partitions
--   tailroom_writer     an instance: reads the log, and appends through its functions
--   tailroom_reader     reads the log
--   tailroom_publisher  calls tailroom.publish and tailroom.append, and nothing else
--   tailroom_analyst    reads the analysts' views
--
-- Roles belong to the whole cluster: another database may be migrating at this
-- moment, or an administrator may have made them before.

-- The append lock comes first: an append that is under way would wait for a table
-- that this has changed, and this for one that the append has.
SELECT pg_advisory_xact_lock(1952541036, 1);

DO $$
DECLARE
    wanted  text[] := ARRAY['tailroom_owner', 'tailroom_writer', 'tailroom_reader', 'tailroom_publisher', 'tailroom_analyst'];
    missing text[];
    role    text;
BEGIN
    FOREACH role IN ARRAY wanted LOOP
        BEGIN
            IF to_regrole(role) IS NULL THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role);
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN missing := missing || role;
        END;
    END LOOP;
    BEGIN
        -- From PostgreSQL 16 on, who makes a role is a member that may not use it yet.
        IF missing IS NULL AND NOT pg_has_role(current_user, 'tailroom_owner', 'USAGE') THEN
            EXECUTE format('GRANT tailroom_owner TO %I', current_user);
        END IF;
    EXCEPTION
        WHEN unique_violation OR internal_error THEN NULL; -- granted by the other one
        WHEN insufficient_privilege THEN missing := '{}';
    END;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the role % may not make Tailroom''s roles: let an administrator run %', current_user,
            (SELECT coalesce(string_agg(format('CREATE ROLE %I NOLOGIN; ', name), ''), '') FROM unnest(missing) AS name)
            || format('GRANT tailroom_owner TO %I;', current_user)
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- One owner for all there is. Later migrations become it before they make more.
DO $$
DECLARE
    object record;
BEGIN
    ALTER SCHEMA tailroom OWNER TO tailroom_owner;
    FOR object IN
        SELECT c.oid::regclass AS name FROM pg_class c
        WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'S')
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO tailroom_owner', object.name);
    END LOOP;
    FOR object IN SELECT p.oid::regprocedure AS name FROM pg_proc p WHERE p.pronamespace = 'tailroom'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO tailroom_owner', object.name);
    END LOOP;
    ALTER STATISTICS tailroom.events_rooms_count OWNER TO tailroom_owner;
END $$;

SET LOCAL ROLE tailroom_owner;

GRANT USAGE ON SCHEMA tailroom TO tailroom_writer, tailroom_reader, tailroom_publisher;
GRANT SELECT ON tailroom.events, tailroom.streams, tailroom.epochs, tailroom.log, tailroom.partitions, tailroom.bounds
    TO tailroom_writer, tailroom_reader;
GRANT SELECT ON tailroom.schema_migrations TO tailroom_writer;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA tailroom FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tailroom.history TO tailroom_writer, tailroom_reader;
