package eventlog_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// refused runs a statement that PostgreSQL refuses, and returns what it says.
func refused(t *testing.T, conn interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string, args ...any,
) *pgconn.PgError {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql, args...)
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg, sql)
	return pg
}

func TestPublishAndAppend_Refuse(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	nested := func(levels int) string {
		return "'{\"a\":" + strings.Repeat("[", levels-1) + strings.Repeat("]", levels-1) + "}'"
	}
	array := func(n int, room string) string { return fmt.Sprintf("array_fill('%s'::text, ARRAY[%d])", room, n) }
	const nilID = "'00000000-0000-0000-0000-000000000000'"
	for _, c := range []struct{ arguments, sqlstate, says string }{
		{"NULL, '/orders', 'note', '{}'", "TR015", "tenant is 1 to 64 of A-Z a-z 0-9 _ -, not null"},
		{"'', '/orders', 'note', '{}'", "TR015", "tenant is"},
		{"E'c1\\n', '/orders', 'note', '{}'", "TR015", "tenant is"},
		{"repeat('c', 65), '/orders', 'note', '{}'", "TR015", "tenant is"},
		{"'c1', NULL, 'note', '{}'", "TR010", "unknown_namespace: there is no namespace null"},
		{"'c1', 'orders', 'note', '{}'", "TR010", "There are /orders."},
		{"'c1', '/system', 'note', '{}'", "TR010", "there is no namespace '/system'"},
		{"'c1', '/orders', NULL, '{}'", "TR011", "/orders has no type null"},
		{"'c1', '/orders', 'notes', '{}'", "TR011", "It has newOrder, note."},
		{"'c1', '/orders', 'note', NULL", "TR013", "data is a JSON object, not null"},
		{"'c1', '/orders', 'note', '[]'", "TR013", "data is a JSON object, not a JSON array"},
		{"'c1', '/orders', 'note', 'null'", "TR013", "data is a JSON object, not a JSON null"},
		{"'c1', '/orders', 'note', " + nested(65) + ", '{company:c1}'", "TR013", "deeper than 64 levels"},
		{`'c1', '/orders', 'note', '{"a":1e309}', '{company:c1}'`, "TR013", "beyond the range of an IEEE double"},
		{`'c1', '/orders', 'note', '{"a":[{"b":-1e-349}]}', '{company:c1}'`, "TR013", "more than 350 characters"},
		{"'c1', '/orders', 'note', jsonb_build_object('a', repeat('x', 262144)), '{company:c1}'", "TR014", "at most 262144 bytes, not 262152"},
		{"'c1', '/orders', 'note', '{}'", "TR012", "Name rooms: note has no default."},
		{"'c1', '/orders', 'note', '{}', '{}'", "TR012", "at least one room"},
		{"'c1', '/orders', 'note', '{}', '{kitchen:1}'", "TR012", "'kitchen:1' is no room"},
		{"'c1', '/orders', 'note', '{}', '{branch:a b}'", "TR012", "is no room"},
		{"'c1', '/orders', 'note', '{}', ARRAY[NULL]", "TR012", "null is no room"},
		{"'c1', '/orders', 'note', '{}', ARRAY['branch:' || repeat('b', 65)]", "TR012", "is no room"},
		{"'c1', '/orders', 'note', '{}', '{company:c2}'", "TR012", "company:c2 is another company's"},
		{"'c1', '/orders', 'note', '{}', '{company_c2}'", "TR012", "company:c2 is another company's"},
		{"'c1', '/orders', 'note', '{}', " + array(101, "branch:b7"), "TR014", "at most 100 rooms, not 101"},
		{`'c1', '/orders', 'newOrder', '{"orderId":"1"}'`, "TR013", "data.branchId must be a string or an integer"},
		{`'c1', '/orders', 'newOrder', '{"orderId":"","branchId":"b7"}'`, "TR013", "data gives no stream in order:{data.orderId}"},
		{`'c1', '/orders', 'newOrder', '{"orderId":"1","branchId":"b 7"}'`, "TR012", "'branch:b 7' is no room"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', stream => ''", "TR015", "'' is no stream"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', stream => ':1'", "TR015", "is no stream"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', stream => 'order:'", "TR015", "is no stream"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', stream => E'order:1\\u0085'", "TR015", "is no stream"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', stream => 'order:' || repeat('1', 195)", "TR015", "is no stream"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', id => " + nilID, "TR015", "not the nil UUID"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', causation_id => " + nilID, "TR015", "not the nil UUID"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', correlation_id => ''", "TR015", "correlation_id is 1 to 128"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', correlation_id => repeat('x', 129)", "TR015", "correlation_id is 1 to 128"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', correlation_id => E'x\\ty'", "TR015", "correlation_id is 1 to 128"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', actor => E'\\u009f'", "TR015", "actor is 1 to 200"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', occurred_at => 'infinity'", "TR015", "the years 1 to 9999"},
		{"'c1', '/orders', 'note', '{}', '{company:c1}', occurred_at => '4713-01-01 BC'", "TR015", "the years 1 to 9999"},
		{"'c1', '/orders', 'note', '{\"a\":\"\\u0000\"}', '{company:c1}'", "22P05", ""}, // jsonb's own
	} {
		for _, function := range []string{"publish", "append"} {
			pg := refused(t, r.pool, "SELECT tailroom."+function+"("+c.arguments+")")
			require.Equal(t, c.sqlstate, pg.Code, "%s: %s", c.arguments, pg.Message)
			require.Contains(t, pg.Message+" "+pg.Hint, c.says, c.arguments)
		}
	}
	require.Zero(t, value[int64](t, r, "SELECT count(*) FROM tailroom.outbox"))
	require.Empty(t, r.all(t))
}

// What is just allowed.
func TestPublish_Limits(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	for i, arguments := range []string{
		"repeat('c', 64), '/orders', 'note', '{}', ARRAY['company_' || repeat('c', 64)]",
		"'c1', '/orders', 'note', '{\"a\":" + strings.Repeat("[", 63) + strings.Repeat("]", 63) + "}', '{company:c1}'",
		`'c1', '/orders', 'note', '{"a":-1.7976931348623157e308, "b":5e-324}', '{company:c1}'`,
		// It counts as it is delivered: without the spaces of jsonb's text, but with those in strings.
		"'c1', '/orders', 'note', jsonb_build_object('a', repeat('\" ', 1000) || repeat('x', 262144 - 7994), 'b', (SELECT jsonb_agg(1) FROM generate_series(1, 2490))), '{company:c1}'",
		"'c1', '/orders', 'note', '{}', (SELECT array_agg('branch:' || n) FROM generate_series(1, 100) AS n)",
		"'c1', '/orders', 'note', '{}', '{branch_7,branch:7}', stream => 'é:' || repeat('é', 198), correlation_id => repeat('é', 128), actor => repeat('é', 200)",
		"'c1', '/orders', 'note', '{}', '{company:c1}', occurred_at => '0001-01-03Z', causation_id => gen_random_uuid()",
		"'c1', '/orders', 'newOrder', '{}', '{branch:b7}', stream => 'order:7'", // nothing is taken from data
	} {
		r.exec(t, "SELECT tailroom.publish("+arguments+")")
		r.awaitLog(t, i+1)
	}
	all := r.all(t)
	require.Equal(t, []string{"company:" + strings.Repeat("c", 64)}, all[0].Rooms)
	require.Equal(t, 262144, len(all[3].Data))
	require.Equal(t, []string{"branch:7"}, all[5].Rooms)
	for _, e := range all {
		require.True(t, e.Stream == "" || event.ValidStream(e.Stream))
		require.True(t, event.ValidCorrelationID(e.CorrelationID))
	}
	pg := refused(t, r.pool, "SELECT tailroom.publish('c1', '/orders', 'note', jsonb_build_object('a', repeat('x', 262144 - 7)), '{company:c1}')")
	require.Contains(t, pg.Message, "at most 262144 bytes, not 262145")
}

// place is what append returns.
type place struct {
	position int64
	version  *int64
}

func appendSQL(t *testing.T, tx executor, arguments string, args ...any) place {
	t.Helper()
	var p place
	err := tx.QueryRow(t.Context(), "SELECT position, version FROM tailroom.append("+arguments+")", args...).Scan(&p.position, &p.version)
	require.NoError(t, err, arguments)
	return p
}

func versioned(position, version int64) place { return place{position, &version} }

const anOrder = `'c1', '/orders', 'newOrder', '{"orderId":1042, "branchId":"b7"}'`

func TestAppend_ReturnsThePlaceAtOnce(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	tx := r.begin(t)
	require.Equal(t, versioned(1, 1), appendSQL(t, tx, anOrder))
	require.Equal(t, versioned(2, 2), appendSQL(t, tx, anOrder))
	require.Equal(t, place{position: 3}, appendSQL(t, tx, "'c1', '/orders', 'note', '{}', '{company:c1}'"))
	require.Equal(t, versioned(4, 3), appendSQL(t, tx, anOrder+", expected_version => 2"))
	require.Empty(t, r.all(t), "before the commit")
	commit(t, tx)
	require.Equal(t, versioned(5, 4), appendSQL(t, r.pool, anOrder))
	e := r.all(t)[0]
	require.Equal(t, "order:1042", e.Stream)
	require.Equal(t, []string{"branch:b7"}, e.Rooms)
	require.Equal(t, "sql:tailroom", e.Actor)
	require.Equal(t, e.ID.String(), e.CorrelationID)
	require.EqualValues(t, 7, e.ID.Version())
	requireConsistent(t, r)
}

func TestAppend_Conditions(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	require.Equal(t, versioned(1, 1), appendSQL(t, r.pool, anOrder+", expected_version => 0"))
	pg := refused(t, r.pool, "SELECT tailroom.append("+anOrder+", expected_version => 0)")
	require.Equal(t, "TR001", pg.Code)
	require.Equal(t, "version_conflict: order:1042 is at version 1, not 0", pg.Message)
	require.Equal(t, "1", pg.Detail)
	require.Equal(t, "TR001", refused(t, r.pool, "SELECT tailroom.append("+anOrder+", expected_version => 2)").Code)
	require.Equal(t, "TR015", refused(t, r.pool, "SELECT tailroom.append("+anOrder+", expected_version => -1)").Code)
	require.Equal(t, "TR015", refused(t, r.pool, "SELECT tailroom.append('c1', '/orders', 'note', '{}', '{company:c1}', expected_version => 0)").Code)
	require.Equal(t, versioned(2, 2), appendSQL(t, r.pool, anOrder+", expected_version => 1"))
	requireConsistent(t, r)
}

// Of those who expect the same version at once, one gets it.
func TestAppend_RaceForAVersion(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	const rivals, rounds = 8, 10
	for round := range rounds {
		outcomes := make(chan error, rivals)
		for range rivals {
			go func() {
				_, err := r.pool.Exec(t.Context(), "SELECT tailroom.append("+anOrder+", expected_version => $1)", round)
				outcomes <- err
			}()
		}
		won := 0
		for range rivals {
			err := <-outcomes
			if err == nil {
				won++
				continue
			}
			var pg *pgconn.PgError
			require.ErrorAs(t, err, &pg)
			require.Equal(t, "TR001", pg.Code)
		}
		require.Equal(t, 1, won)
	}
	require.Len(t, r.all(t), rounds)
	requireConsistent(t, r)
}

func TestAppend_IDsThatComeAgain(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	id := uuid.Must(uuid.NewV7())
	const first = anOrder + ", id => $1, correlation_id => 'x', expected_version => 0"
	require.Equal(t, versioned(1, 1), appendSQL(t, r.pool, first, id))
	require.Equal(t, versioned(2, 2), appendSQL(t, r.pool, anOrder))
	require.Equal(t, versioned(1, 1), appendSQL(t, r.pool, first, id), "the place it has")
	for _, other := range []string{
		`'c1', '/orders', 'newOrder', '{"orderId":1042, "branchId":"b8"}', id => $1, correlation_id => 'x'`,
		anOrder + ", id => $1, correlation_id => 'y'",
		anOrder + ", id => $1, correlation_id => 'x', rooms => '{company:c1}'",
		anOrder + ", id => $1, correlation_id => 'x', stream => 'order:1'",
	} {
		pg := refused(t, r.pool, "SELECT tailroom.append("+other+")", id)
		require.Equal(t, "TR016", pg.Code)
		require.Contains(t, pg.Message, "id_reused: the id "+id.String()+" was used before")
	}
	require.Equal(t, versioned(3, 1), appendSQL(t, r.pool, strings.Replace(first, "'c1'", "'c2'", 1), id), "ids are a company's own")
	// Within one transaction as well.
	again := uuid.Must(uuid.NewV7())
	tx := r.begin(t)
	require.Equal(t, versioned(4, 3), appendSQL(t, tx, anOrder+", id => $1, correlation_id => 'x'", again))
	require.Equal(t, versioned(4, 3), appendSQL(t, tx, anOrder+", id => $1, correlation_id => 'x'", again))
	commit(t, tx)
	requireConsistent(t, r)
}

func TestAppend_NeedsReadCommitted(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		pg := refused(t, r.begin(t, pgx.TxOptions{IsoLevel: level}), "SELECT tailroom.append("+anOrder+")")
		require.Equal(t, "TR003", pg.Code)
		require.Contains(t, pg.Message, "tailroom.append needs READ COMMITTED, not "+strings.ToUpper(string(level)))
		require.Equal(t, "tailroom.publish works at every isolation level.", pg.Hint)
	}
}

// What is rolled back leaves a hole among the positions, and none among the
// versions; nor does it hold up anybody any more.
func TestAppend_RolledBack(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	a := r.running(t)
	require.Equal(t, versioned(1, 1), appendSQL(t, r.pool, anOrder))
	tx := r.begin(t)
	appendSQL(t, tx, anOrder)
	waiting := a.submit(t, draft("order:1042"))
	r.awaitQueue(t, 1)
	require.NoError(t, tx.Rollback(t.Context()))
	require.Equal(t, []int64{2}, versions(accepted(t, waiting)))

	tx = r.begin(t)
	savepoint, err := tx.Begin(t.Context())
	require.NoError(t, err)
	appendSQL(t, savepoint, anOrder)
	require.NoError(t, savepoint.Rollback(t.Context()))
	require.Equal(t, int64(3), *appendSQL(t, tx, anOrder).version)
	commit(t, tx)
	require.Len(t, r.all(t), 3)
	requireConsistent(t, r)
}

// An open transaction that has appended holds up appends and the relay, but not
// publish. What waits for it is done when it has ended.
func TestAppend_HoldsTheLockUntilCommit(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	a, rel := r.running(t), r.relay(t)
	rel.leads(t)
	tx := r.begin(t)
	require.Equal(t, int64(1), appendSQL(t, tx, anOrder).position)
	publish(t, tx, note(1)) // after its own append
	publish(t, r.pool, note(2))
	waiting := a.submit(t, draft(""))
	r.awaitQueue(t, 2)
	require.Empty(t, r.all(t))
	commit(t, tx)
	accepted(t, waiting)
	r.awaitLog(t, 4)
	requireConsistent(t, r)
}

// An append's events are durable when they are seen, whatever the session says.
func TestAppend_IsDurable(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	tx := r.begin(t)
	_, err := tx.Exec(t.Context(), "SET LOCAL synchronous_commit = off")
	require.NoError(t, err)
	appendSQL(t, tx, anOrder)
	var synchronous string
	require.NoError(t, tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&synchronous))
	require.Equal(t, "on", synchronous)
}

// Publishing needs no catalogue of the client's: a new one holds at once.
func TestMirror(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	xmin := "SELECT string_agg(xmin::text, ',' ORDER BY type) || ' ' || (SELECT xmin FROM tailroom.log) FROM tailroom.event_types"
	before := value[string](t, r, xmin)
	r.mirror(t)
	require.Equal(t, before, value[string](t, r, xmin), "nothing is written when nothing has changed")

	changed := strings.Replace(ordersOnly, `"type":"note","schema_version":1`, `"type":"memo","schema_version":2`, 1)
	require.NoError(t, r.log.MirrorCatalogue(t.Context(), []byte(changed), 100))
	require.Equal(t, "memo2,newOrder3", value[string](t, r, "SELECT string_agg(type || schema_version, ',' ORDER BY type) FROM tailroom.event_types"))
	require.Equal(t, "TR011", refused(t, r.pool, "SELECT tailroom.publish('c1', '/orders', 'note', '{}', '{company:c1}')").Code)
	require.Equal(t, "TR014", refused(t, r.pool,
		"SELECT tailroom.publish('c1', '/orders', 'memo', jsonb_build_object('a', repeat('x', 93)), '{company:c1}')").Code)
	r.exec(t, "SELECT tailroom.publish('c1', '/orders', 'memo', jsonb_build_object('a', repeat('x', 92)), '{company:c1}')")

	// Instances that start at once wait for each other.
	outcomes := make(chan error, 8)
	for n := range cap(outcomes) {
		go func() {
			outcomes <- r.log.MirrorCatalogue(t.Context(), []byte([]string{ordersOnly, changed}[n%2]), int64(1000+n%2))
		}()
	}
	for range cap(outcomes) {
		require.NoError(t, <-outcomes)
	}
	require.EqualValues(t, 2, value[int64](t, r, "SELECT count(*) FROM tailroom.event_types"))
}

// A role that is a member of tailroom_publisher calls the two functions, and can
// do nothing else.
func TestPublisherRole(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	conn, err := pgx.Connect(t.Context(), r.login(t, "tailroom_publisher"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	role := conn.Config().User
	require.Equal(t, "off", value[string](t, r, "SELECT CASE WHEN rolsuper THEN 'on' ELSE 'off' END FROM pg_roles WHERE rolname = $1", role))

	publish(t, conn, note(1))
	r.awaitLog(t, 1)
	require.Equal(t, int64(2), appendSQL(t, conn, anOrder).position)
	require.Equal(t, "sql:"+role, r.all(t)[0].Actor)
	require.Equal(t, "sql:"+role, r.all(t)[1].Actor)

	const denied = "42501"
	rows, err := r.pool.Query(t.Context(), `SELECT 'tailroom.' || c.relname, c.relkind IN ('r', 'p') FROM pg_class c
		WHERE c.relnamespace = 'tailroom'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')`)
	require.NoError(t, err)
	type relation struct {
		Name  string
		Table bool
	}
	relations, err := pgx.CollectRows(rows, pgx.RowToStructByPos[relation])
	require.NoError(t, err)
	require.Greater(t, len(relations), 10)
	for _, relation := range relations {
		require.Equal(t, denied, refused(t, conn, "SELECT FROM "+relation.Name).Code, relation.Name)
		if !relation.Table {
			continue // no DML on these for anybody
		}
		require.Equal(t, denied, refused(t, conn, "INSERT INTO "+relation.Name+" DEFAULT VALUES").Code, relation.Name)
		require.Equal(t, denied, refused(t, conn, "DELETE FROM "+relation.Name).Code, relation.Name)
		require.Equal(t, denied, refused(t, conn, "TRUNCATE "+relation.Name).Code, relation.Name)
	}
	require.Equal(t, denied, refused(t, conn, "UPDATE tailroom.events SET data = '{}'").Code)
	require.Equal(t, denied, refused(t, conn, "SELECT nextval('tailroom.positions')").Code)
	require.Equal(t, denied, refused(t, conn, "SELECT setval('tailroom.outbox_id_seq', 1)").Code)

	rows, err = r.pool.Query(t.Context(), `SELECT p.proname::text FROM pg_proc p
		WHERE p.pronamespace = 'tailroom'::regnamespace AND has_function_privilege($1, p.oid, 'EXECUTE') ORDER BY 1`, role)
	require.NoError(t, err)
	functions, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Equal(t, []string{"append", "publish"}, functions)
	require.Equal(t, denied, refused(t, conn, "SELECT tailroom.outbox_discard(NULL, NULL, 'actor')").Code)
	require.Equal(t, denied, refused(t, conn, "CREATE TABLE tailroom.mine ()").Code)
	require.Equal(t, denied, refused(t, conn, "SET ROLE tailroom_owner").Code)
}

// What the functions call must not be what the caller's search path finds.
func TestPublish_SearchPathOfTheCaller(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	r.exec(t, "CREATE SCHEMA evil")
	r.exec(t, "CREATE FUNCTION evil.length(text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$")
	r.exec(t, "CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE 'called as %', current_user; END $$")
	tx := r.begin(t)
	_, err := tx.Exec(t.Context(), "SET LOCAL search_path = evil, pg_catalog; CREATE TEMP TABLE event_types ()")
	require.NoError(t, err)
	publish(t, tx, note(1))
	appendSQL(t, tx, anOrder)
	commit(t, tx)
	r.awaitLog(t, 2)
}

// Times and places that publish fills in are the statement's own.
func TestPublish_FillsInWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	tx := r.begin(t)
	first := publish(t, tx, note(1))
	second := publish(t, tx, note(2))
	commit(t, tx)
	require.NotEqual(t, first, second)
	r.awaitLog(t, 2)
	one, other := r.all(t)[0], r.all(t)[1]
	require.True(t, one.OccurredAt.Before(other.OccurredAt), "not the transaction's")
	require.WithinDuration(t, time.Now(), one.OccurredAt, patience)
	require.Less(t, first[:8], second[:9], "ids of version 7 begin with the time")
	require.Equal(t, first, one.CorrelationID)
	require.False(t, one.CausationID.Valid)
}
