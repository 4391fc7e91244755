package eventlog_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// access lists everything in the schema with what each role may do with it,
// beside the owner. An event's partition stands for all of them.
const access = `
	WITH role (name) AS (VALUES ('publisher'), ('reader'), ('writer'), ('analyst'), ('PUBLIC')),
	groups AS (SELECT name, CASE WHEN name = 'PUBLIC' THEN 'public' ELSE 'tailroom_' || name END AS oid FROM role),
	may (object, role, what) AS (
		SELECT 'schema', g.name, p FROM groups g, unnest('{USAGE,CREATE}'::text[]) p
		WHERE has_schema_privilege(g.oid, 'tailroom', p)
		UNION ALL
		SELECT c.relname, g.name, p FROM pg_class c, groups g, unnest('{SELECT,INSERT,UPDATE,REFERENCES}'::text[]) p
		WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_any_column_privilege(g.oid, c.oid, p)
		UNION ALL
		SELECT c.relname, g.name, p FROM pg_class c, groups g, unnest('{DELETE,TRUNCATE,TRIGGER}'::text[]) p
		WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_table_privilege(g.oid, c.oid, p)
		UNION ALL
		SELECT c.relname, g.name, p FROM pg_class c, groups g, unnest('{SELECT,USAGE,UPDATE}'::text[]) p
		WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege(g.oid, c.oid, p)
		UNION ALL
		SELECT f.proname || '()', g.name, 'EXECUTE' FROM pg_proc f, groups g
		WHERE f.pronamespace = 'tailroom'::regnamespace AND has_function_privilege(g.oid, f.oid, 'EXECUTE')),
	object (name) AS (
		SELECT 'schema'
		UNION SELECT relname FROM pg_class WHERE relnamespace = 'tailroom'::regnamespace AND relkind IN ('r', 'p', 'v', 'S', 'm', 'f')
		UNION SELECT proname || '()' FROM pg_proc WHERE pronamespace = 'tailroom'::regnamespace)
	SELECT regexp_replace(o.name, '^events_\d+$', 'events_N'), coalesce((
		SELECT string_agg(role || ' ' || what, '; ' ORDER BY role) FROM (
			SELECT m.role, string_agg(m.what, ' ' ORDER BY m.what) FROM may m WHERE m.object = o.name GROUP BY m.role) AS a (role, what)), '')
	FROM object o`

// Who may do what with everything there is. What is new must be written down
// here: nothing is anybody's because a REVOKE was forgotten.
func TestRoles_Access(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const nobody, log, look = "", "reader SELECT; writer SELECT", "reader EXECUTE; writer EXECUTE"
	want := map[string]string{
		"schema":   "publisher USAGE; reader USAGE; writer USAGE",
		"events":   log,
		"events_N": nobody, // the log is read through its parent
		"bounds":   log, "streams": log, "epochs": log, "log": log, "partitions": log, "event_types": log, "requests": log,
		"redactions": "writer SELECT", "revocations": "writer SELECT", "outbox": "writer SELECT", "outbox_rejected": "writer SELECT", "schema_migrations": "writer SELECT",
		"instances": "writer SELECT", "consumers": "writer SELECT", "consumer_acks": "writer SELECT", "consumer_states": "writer SELECT",
		"connection_showings": "writer SELECT", "connections": "writer SELECT", "present_connections": "writer SELECT",
		"states": log, "state_generations": log, "state_head": log,
		"state_keyframes": "writer SELECT", "state_floor": "writer SELECT", "state_floor_progress": nobody,
		"state_generations_generation_seq": nobody,
		"recent_ids":                       nobody, "recent_ids_0": nobody, "recent_ids_1": nobody,
		"positions": nobody, "outbox_id_seq": nobody,

		"publish()": "publisher EXECUTE; writer EXECUTE", "append()": "publisher EXECUTE; writer EXECUTE",
		"history()": look, "state_page()": look, "position_at()": look,
		"request_list()": look, "story()": look,
		"state_fold()": "writer EXECUTE", "state_begin()": "writer EXECUTE", "state_seed()": "writer EXECUTE",
		"state_switch()": "writer EXECUTE", "state_remove()": "writer EXECUTE",
		"append_batch()": "writer EXECUTE", "rotate_ids()": "writer EXECUTE", "epoch_open()": "writer EXECUTE",
		"partitions_ahead()": "writer EXECUTE", "seal_partition()": "writer EXECUTE", "mirror_catalogue()": "writer EXECUTE",
		"outbox_settle()": "writer EXECUTE", "outbox_retry()": "writer EXECUTE", "outbox_discard()": "writer EXECUTE",
		"outbox_horizon()": "writer EXECUTE", "epoch_new()": "writer EXECUTE",
		"revoke_tokens()": "writer EXECUTE", "forget_revocations()": "writer EXECUTE", "disconnect_sessions()": "writer EXECUTE",
		"instance_join()": "writer EXECUTE", "instance_beat()": "writer EXECUTE", "instance_leave()": "writer EXECUTE",
		"connections_seen()": "writer EXECUTE", "connections_show()": "writer EXECUTE",
		"consumer_claim()": "writer EXECUTE", "consumer_flush()": "writer EXECUTE", "consumer_lag()": "writer EXECUTE",
		"consumers_lagging()": "writer EXECUTE", "consumer_acks_forget()": "writer EXECUTE", "consumer_erase()": "writer EXECUTE",
		"redact()": nobody, "tell()": nobody, "tell_rows()": nobody,
		"reply_met()": nobody, "first_answer()": nobody, "backfill_requests()": "writer EXECUTE", "judge_answers()": nobody, "crowded_requests()": nobody,
		"epoch_identity()": nobody, "epoch_begin()": nobody, "epoch_now()": nobody, "refuse_change()": nobody,
		"expand()": nobody, "new_id()": nobody, "drafted()": nobody, "refuse_data()": nobody,
	}
	rows, err := r.pool.Query(t.Context(), access)
	require.NoError(t, err)
	got := map[string]string{}
	var object, may string
	_, err = pgx.ForEachRow(rows, []any{&object, &may}, func() error {
		if before, ok := got[object]; ok {
			require.Equal(t, before, may, "partitions, or functions of one name, that differ: %s", object)
		}
		got[object] = may
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

// Everything belongs to one role, and what runs with its rights looks nowhere
// else for the things it names.
func TestRoles_Owner(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Empty(t, value[[]string](t, r, `SELECT coalesce(array_agg(name), '{}') FROM (
		SELECT relname::text, relowner FROM pg_class WHERE relnamespace = 'tailroom'::regnamespace AND relkind IN ('r', 'p', 'v', 'S')
		UNION ALL SELECT proname || '()', proowner FROM pg_proc WHERE pronamespace = 'tailroom'::regnamespace
		UNION ALL SELECT stxname, stxowner FROM pg_statistic_ext WHERE stxnamespace = 'tailroom'::regnamespace
			AND stxrelid = 'tailroom.events'::regclass
		UNION ALL SELECT nspname, nspowner FROM pg_namespace WHERE nspname = 'tailroom') AS o (name, owner)
		WHERE owner <> 'tailroom_owner'::regrole`))
	require.Empty(t, value[[]string](t, r, `SELECT coalesce(array_agg(proname::text), '{}') FROM pg_proc
		WHERE pronamespace = 'tailroom'::regnamespace AND prosecdef
			AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)`))
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tailroom\\_%' AND (rolcanlogin OR rolsuper OR rolcreaterole)"))
}

// relations are the tables that hold anything, and of which kind they are.
func (r *rig) relations(t *testing.T, kinds string) []string {
	t.Helper()
	return value[[]string](t, r, `SELECT array_agg(relname::text ORDER BY relname) FROM pg_class
		WHERE relnamespace = 'tailroom'::regnamespace AND relkind::text = ANY (regexp_split_to_array($1, ''))`, kinds)
}

// updateNothing is an UPDATE that changes nothing, of a column that one may name.
func (r *rig) updateNothing(t *testing.T, table string) string {
	t.Helper()
	column := value[string](t, r, `SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = format('tailroom.%I', $1::text)::regclass
		AND attnum > 0 AND NOT attisdropped AND attidentity = '' AND attgenerated = '' ORDER BY attnum LIMIT 1`, table)
	return fmt.Sprintf("UPDATE tailroom.%s SET %s = %s", table, column, column)
}

// An instance's role comes into the log through the functions and in no other
// way, whatever it sets.
func TestRoles_Writer(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 5)
	r.running(t).append(t, drafts(7)...)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	before := r.all(t)

	dsn := r.login(t, "tailroom_writer")
	writer := pgtest.Pool(t, dsn)
	require.NoError(t, eventlog.MakePartitions(t.Context(), writer))
	mine := eventlog.New(writer)
	entries, err := mine.Tail(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Equal(t, before, entries)

	tables := r.relations(t, "rp")
	require.Subset(t, tables, []string{
		"events", "events_1", "events_6", "events_21", "streams", "recent_ids_0", "recent_ids_1",
		"epochs", "log", "partitions", "outbox", "outbox_rejected", "redactions", "revocations", "event_types", "schema_migrations",
		"requests", "instances", "consumers", "consumer_acks", "connections",
		"states", "state_generations", "state_keyframes", "state_floor", "state_floor_progress",
	})
	forbidden := []string{
		"SELECT tailroom.redact(1, 'reason', 'actor')", "SELECT tailroom.tell('c1', 'tokensRevoked', NULL, 'actor', '{}')",
		"SELECT tailroom.epoch_begin(NULL, 1, 'reason')", "SELECT tailroom.epoch_now(0, 0)",
		"SELECT setval('tailroom.positions', 1)", "SELECT nextval('tailroom.positions')", "SELECT nextval('tailroom.outbox_id_seq')",
		"CREATE TABLE tailroom.mine (a int)", "CREATE FUNCTION tailroom.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
		"ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1", "DROP TABLE tailroom.events_1",
		"ALTER TABLE tailroom.events DISABLE TRIGGER append_only", "DROP TRIGGER append_only ON tailroom.events",
		"SET session_replication_role = replica", "SET ROLE tailroom_owner", "GRANT tailroom_owner TO CURRENT_USER",
		"SELECT * FROM tailroom.recent_ids", "SELECT * FROM tailroom.events_1",
	}
	for _, table := range tables {
		forbidden = append(forbidden, "INSERT INTO tailroom."+table+" DEFAULT VALUES", r.updateNothing(t, table),
			"DELETE FROM tailroom."+table, "TRUNCATE tailroom."+table)
	}
	for _, change := range []string{"", "epoch", "redact"} {
		pool := pgtest.Pool(t, dsn+"&tailroom.change="+change)
		for _, statement := range forbidden {
			_, err := pool.Exec(t.Context(), statement)
			require.Error(t, err, statement)
			requireState(t, err, "42501")
		}
	}
	require.Equal(t, before, r.all(t))

	a := r.instanceOn(t, dsn, patience)
	a.start()
	receipts := a.append(t, draft("order:1"), draft("order:1"))
	require.Equal(t, []int64{8, 9}, positions(receipts))
	require.Equal(t, []int64{1, 2}, versions(receipts))
	requireConsistent(t, r)
	for sealed := false; !sealed; {
		require.NoError(t, writer.QueryRow(t.Context(), "SELECT tailroom.seal_partition(1)").Scan(&sealed))
	}
	var rotated bool
	require.NoError(t, writer.QueryRow(t.Context(), "SELECT tailroom.rotate_ids('0s')").Scan(&rotated))
	require.True(t, rotated)
	_, err = mine.OpenEpoch(t.Context(), "of the test", "officer:1")
	require.NoError(t, err)
	_, err = mine.Vacuum(t.Context(), 1)
	require.ErrorContains(t, err, "only members of tailroom_owner may")
}

// Readers and publishers can do what they are there for, and nothing else.
func TestRoles_ReaderAndPublisher(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(2)...)
	r.exec(t, `SELECT tailroom.mirror_catalogue('[{"namespace":"/orders","type":"newOrder","schema_version":1,"description":"",
		"publish":[],"rooms":["branch:b1"],"stream":"order:1","schema":{}}]', 262144)`)
	const (
		publish   = `SELECT tailroom.publish('c1', '/orders', 'newOrder', '{}')`
		appendNow = `SELECT position FROM tailroom.append('c1', '/orders', 'newOrder', '{}')`
		history   = `SELECT tailroom.history('c1', '{/orders}', '{}', '{}', '', '', '2026-01-31Z', NULL, 0, 100, false, 10)`
	)
	reads := []string{history, "SELECT * FROM tailroom.bounds"}
	for _, table := range []string{"events", "streams", "epochs", "log", "partitions", "event_types", "requests", "states", "state_generations"} {
		reads = append(reads, "TABLE tailroom."+table)
	}
	may := map[string][]string{
		"tailroom_reader":    reads,
		"tailroom_publisher": {publish, appendNow},
		"tailroom_analyst":   nil,
		"pg_monitor":         nil, // one of PostgreSQL's own
	}
	all := append([]string{
		publish, appendNow, "SELECT tailroom.redact(1, 'reason', 'actor')", "SELECT tailroom.partitions_ahead(9)",
		"SELECT tailroom.epoch_open(NULL, 0, 'reason')", "SELECT tailroom.rotate_ids('1s')", "SELECT tailroom.outbox_discard('{1}', NULL, 'actor')",
		"SELECT tailroom.revoke_tokens('c1', '9', NULL, now(), 'reason', 'actor')", "SELECT tailroom.forget_revocations('0s')",
		"SELECT tailroom.disconnect_sessions('c1', '9', NULL, 'reason', 'actor')", "SELECT tailroom.epoch_new('reason', 'actor')",
		"SELECT tailroom.state_begin(1, 0)", "SELECT tailroom.state_switch(1, true)", "SELECT tailroom.state_remove(1)",
	}, reads...)
	for _, table := range r.relations(t, "rp") {
		all = append(all, "TABLE tailroom."+table, "INSERT INTO tailroom."+table+" DEFAULT VALUES", r.updateNothing(t, table),
			"DELETE FROM tailroom."+table, "TRUNCATE tailroom."+table)
	}
	for group, allowed := range may {
		pool := pgtest.Pool(t, r.login(t, group))
		granted := map[string]bool{}
		for _, statement := range allowed {
			_, err := pool.Exec(t.Context(), statement)
			require.NoError(t, err, "%s: %s", group, statement)
			granted[statement] = true
		}
		for _, statement := range all {
			if !granted[statement] {
				_, err := pool.Exec(t.Context(), statement)
				require.Error(t, err, "%s: %s", group, statement)
				requireState(t, err, "42501")
			}
		}
	}
}

// The owner may do everything but change what is in the log, in the partitions
// that were there and in those that are made later. Redacting, he says why.
func TestRoles_OwnerMeetsTheTriggers(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 2)
	a := r.running(t)
	a.append(t, drafts(3)...)
	owner := pgtest.Pool(t, r.login(t, "tailroom_owner"))
	require.NoError(t, eventlog.MakePartitions(t.Context(), owner))
	a.append(t, drafts(6)...)
	before := r.all(t)
	for _, table := range []string{"events", "events_1", "events_3", "events_9"} { // the last made by the owner's member
		for _, statement := range []string{"UPDATE tailroom.%s SET data = '{}'", "UPDATE tailroom.%s SET actor = 'x'", "DELETE FROM tailroom.%s"} {
			_, err := owner.Exec(t.Context(), fmt.Sprintf(statement, table))
			require.Error(t, err, table)
			requireState(t, err, "TR002")
		}
	}
	for _, table := range r.relations(t, "rp") {
		if table == "events" || r.isPartition(t, table) {
			_, err := owner.Exec(t.Context(), "TRUNCATE tailroom."+table)
			require.Error(t, err, table)
			requireState(t, err, "TR002")
		}
	}
	require.Equal(t, before, r.all(t))
	cursor, err := eventlog.New(owner).Redact(t.Context(), redaction(9))
	require.NoError(t, err)
	require.Equal(t, int64(10), cursor.Position)
	_, err = eventlog.New(owner).Vacuum(t.Context(), 9)
	require.NoError(t, err)
}

func (r *rig) isPartition(t *testing.T, table string) bool {
	t.Helper()
	return value[bool](t, r, "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = format('tailroom.%I', $1::text)::regclass)", table)
}
