-- The log: an append-only table of events, partitioned by position, and the
-- small tables that the append reads and writes with it.

-- golang-migrate keeps its own table in the schema, so it is there already.
CREATE SCHEMA IF NOT EXISTS tailroom;

CREATE TABLE tailroom.events (
    position       bigint             NOT NULL,
    epoch          bigint             NOT NULL,
    id             uuid               NOT NULL,
    tenant         text   COLLATE "C" NOT NULL,
    namespace      text   COLLATE "C" NOT NULL,
    type           text   COLLATE "C" NOT NULL,
    schema_version integer            NOT NULL,
    rooms          text[] COLLATE "C" NOT NULL CHECK (cardinality(rooms) > 0),
    stream         text   COLLATE "C",
    version        bigint,
    occurred_at    timestamptz        NOT NULL,
    recorded_at    timestamptz        NOT NULL,
    actor          text,
    correlation_id text   COLLATE "C" NOT NULL,
    causation_id   uuid,
    reply_by       timestamptz,
    data           jsonb              NOT NULL,
    -- A column, because an index on rooms[1] cannot be scanned alone, and without
    -- that the planner prefers to filter a whole partition with few tenants.
    first_room     text   COLLATE "C" NOT NULL GENERATED ALWAYS AS (rooms[1]) STORED,
    CHECK ((stream IS NULL) = (version IS NULL)),
    PRIMARY KEY (position)
) PARTITION BY RANGE (position);

COMMENT ON TABLE tailroom.events IS
    'The log. Position order is commit order; rows are never changed or removed, partitions are detached whole.';

-- Replay: everything of a tenant's namespace, one room of it by its first
-- room, and the few events with several rooms.
CREATE INDEX events_namespace   ON tailroom.events (tenant, namespace, position);
CREATE INDEX events_room        ON tailroom.events (tenant, namespace, first_room, position);
CREATE INDEX events_rooms       ON tailroom.events (tenant, namespace, position) WHERE cardinality(rooms) > 1;
CREATE INDEX events_stream      ON tailroom.events (tenant, namespace, stream, version) WHERE stream IS NOT NULL;
CREATE INDEX events_id          ON tailroom.events (id);
-- Most events correlate with nothing but themselves: those are found by id.
CREATE INDEX events_correlation ON tailroom.events (correlation_id, position) WHERE correlation_id <> id::text;
-- Without it the planner takes a third of all events to have several rooms.
CREATE STATISTICS tailroom.events_rooms_count ON (cardinality(rooms)) FROM tailroom.events;
CREATE INDEX events_recorded_at ON tailroom.events USING brin (recorded_at) WITH (autosummarize = on);

-- Positions come from this sequence under the append lock. setval once for
-- each batch, instead of nextval, leaves no jump of 32 after a crash.
CREATE SEQUENCE tailroom.positions MINVALUE 0 START 0 CACHE 1;
SELECT setval('tailroom.positions', 0);

-- Heads: the version each stream has reached.
CREATE TABLE tailroom.streams (
    tenant        text COLLATE "C" NOT NULL,
    namespace     text COLLATE "C" NOT NULL,
    stream        text COLLATE "C" NOT NULL,
    version       bigint           NOT NULL,
    last_position bigint           NOT NULL,
    PRIMARY KEY (tenant, namespace, stream)
) WITH (fillfactor = 70);

-- The idempotency window: the ids that a retry may repeat.
CREATE TABLE tailroom.recent_ids (
    tenant   text COLLATE "C" NOT NULL,
    id       uuid             NOT NULL,
    position bigint           NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- Which life of the log a position belongs to. Positions above survived are
-- this epoch's; the epoch before ended there.
CREATE TABLE tailroom.epochs (
    epoch     bigint      PRIMARY KEY,
    survived  bigint      NOT NULL,
    identity  text        NOT NULL,
    reason    text        NOT NULL,
    opened_at timestamptz NOT NULL
);

-- One row: what is true of the log as a whole.
CREATE TABLE tailroom.log (
    singleton      boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    floor          bigint  NOT NULL DEFAULT 0,
    partition_size bigint  NOT NULL DEFAULT 5000000 CHECK (partition_size > 0)
);
COMMENT ON COLUMN tailroom.log.floor IS 'Events at and below this position are gone.';
INSERT INTO tailroom.log DEFAULT VALUES;

-- The partitions of events: [first, beyond).
CREATE TABLE tailroom.partitions (
    first      bigint      PRIMARY KEY,
    beyond     bigint      NOT NULL,
    name       text        NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION tailroom.refuse_change() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'tailroom.events is append-only: % is refused', TG_OP
        USING ERRCODE = 'TR002';
END $$;

-- A row trigger is cloned to every partition; a statement trigger is not, and
-- TRUNCATE has no row triggers, so partitions_ahead makes that one.
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON tailroom.events
    FOR EACH ROW EXECUTE FUNCTION tailroom.refuse_change();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON tailroom.events
    FOR EACH STATEMENT EXECUTE FUNCTION tailroom.refuse_change();

-- partitions_ahead makes partitions until `ahead` whole ones lie beyond the
-- present position, and returns how many it made. CREATE TABLE and ATTACH,
-- because CREATE TABLE … PARTITION OF locks readers and appends out.
CREATE FUNCTION tailroom.partitions_ahead(ahead integer) RETURNS integer
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
