package maintenance

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
)

// insert puts events of these times into the log, past all that appends do: the
// clock of a database can be set.
func (r *rig) insert(t *testing.T, times ...string) {
	t.Helper()
	for _, at := range times {
		r.exec(t, `INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms,
				occurred_at, recorded_at, correlation_id, data)
			SELECT nextval('tailroom.positions'), 1, gen_random_uuid(), 'c1', '/orders', 'newOrder', 1, '{branch:b1}',
				now(), $1::text::timestamptz, 'x', '{}'`, at)
	}
}

// scanned are the partitions that a query's plan reads.
func (r *rig) scanned(t *testing.T, query string) (list []string) {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), "EXPLAIN (COSTS OFF) "+query, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, line := range plan {
		if _, table, found := strings.Cut(line, " on events_"); found && !strings.Contains(line, "Index Scan on") {
			list = append(list, "events_"+strings.Fields(table)[0])
		}
	}
	return list
}

// A query by time reads only the partitions that hold such times. Times may go
// back: what counts is the least and the greatest of a partition.
func TestSeal_TimeQueriesPrune(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t,
		"2026-01-01T10:00Z", "2026-01-01T11:00Z", "2026-01-01T12:00Z",
		"2026-01-02T12:00:00.123456Z", "2026-01-01T11:30Z", "2026-01-02T11:00Z", // set back, and right again
		"2026-01-03T10:00Z", "2026-01-03T11:00Z", "2026-01-03T12:00Z",
		"2026-01-04T10:00Z")
	day := func(n string) string {
		return "SELECT position FROM tailroom.events WHERE recorded_at >= '2026-01-" + n + "T00:00Z'"
	}
	require.Equal(t, []string{"events_1", "events_4", "events_7", "events_10"}, r.scanned(t, day("04")), "nothing is sealed")
	r.keeper(t, r.dsn, Policy{}, often)
	r.awaitStates(t, "1 sealed, 4 sealed, 7 sealed, 10 current, 13 ahead, 16 ahead, 19 ahead")

	open := []string{"events_10", "events_13", "events_16", "events_19"}
	require.Equal(t, open, r.scanned(t, day("04")))
	require.Equal(t, append([]string{"events_7"}, open...), r.scanned(t, day("03")))
	require.Equal(t, append([]string{"events_4", "events_7"}, open...), r.scanned(t, day("02")))
	before := "SELECT position FROM tailroom.events WHERE recorded_at < '2026-01-01T11:30Z' AND recorded_at > '2025-12-31Z'"
	require.Equal(t, append([]string{"events_1"}, open...), r.scanned(t, before))
	require.Equal(t, append([]string{"events_1", "events_4"}, open...), r.scanned(t, before+" OR recorded_at = '2026-01-01T11:30Z'"))
	require.Equal(t, 2, value[int](t, r, "SELECT count(*) FROM ("+before+") e"))
	require.Equal(t, 6, value[int](t, r, "SELECT count(*) FROM ("+day("02")+") e"))

	p := r.layout(t).Partitions[1]
	require.Equal(t, int64(3), p.Events)
	require.True(t, p.Counted)
	require.Equal(t, "2026-01-01T11:30:00Z", p.RecordedFrom.UTC().Format(time.RFC3339Nano))
	require.Equal(t, "2026-01-02T12:00:00.123456Z", p.RecordedTo.UTC().Format(time.RFC3339Nano))
	require.Equal(t, 3, value[int](t, r, `SELECT count(*) FROM pg_constraint WHERE conname = 'recorded_within' AND convalidated`))
}

// The times of history's from and to are worth the same.
func TestSeal_HistoryPrunes(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-02Z", "2026-01-02Z", "2026-01-02Z", "2026-01-03Z")
	r.keeper(t, r.dsn, Policy{}, often)
	r.awaitStates(t, "1 sealed, 4 sealed")
	conn := r.idle(t, r.dsn, Policy{}).sweeper(t) // which has looked at nothing yet
	read := `SELECT tailroom.history('c1', '{/orders}', '{}', '{}', '', '', '2026-01-02Z', NULL, 0, 1000, false, 10)`
	var found []int64
	require.NoError(t, conn.QueryRow(t.Context(), read).Scan(&found))
	require.Equal(t, []int64{4, 5, 6, 7}, found)
	var looked []string
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT array_agg(relname::text ORDER BY relid) FROM pg_stat_xact_all_tables
		WHERE relname LIKE 'events\_%' AND seq_scan + idx_scan > 0`).Scan(&looked))
	require.Equal(t, []string{"events_4", "events_7"}, looked[:2])
}

// A partition is full when an event at its end or behind it is there for all to
// see. Numbers that are drawn are not enough: who drew them may still write.
func TestSeal_NotBeforeTheLastAppend(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	k := r.idle(t, r.dsn, Policy{})
	conn := k.sweeper(t)
	r.insert(t, "2026-01-01Z", "2026-01-01Z")
	_, err := k.sql.PartitionSeal(t.Context(), conn, 1)
	requireState(t, err, "55000")

	tx := r.begin(t, pgx.ReadCommitted)
	_, err = tx.Exec(t.Context(), `INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms,
			occurred_at, recorded_at, correlation_id, data)
		SELECT nextval('tailroom.positions'), 1, gen_random_uuid(), 'c1', '/orders', 'newOrder', 1, '{branch:b1}', now(), '2026-01-05Z', 'x', '{}'
		FROM generate_series(1, 5)`)
	require.NoError(t, err)
	_, err = k.sql.PartitionSeal(t.Context(), conn, 1)
	requireState(t, err, "55000")
	require.NoError(t, k.seal(t.Context(), conn))
	require.NoError(t, tx.Commit(t.Context()))
	require.Equal(t, eventlog.PartitionFull, r.layout(t).Partitions[0].State)
	require.NoError(t, k.seal(t.Context(), conn))
	require.Equal(t, "1 sealed, 4 sealed, 7 current, 10 ahead, ", r.states(t))
	require.Equal(t, "2026-01-05T00:00:00Z", r.layout(t).Partitions[0].RecordedTo.UTC().Format(time.RFC3339))

	for _, first := range []int64{7, 10, 99} { // not full, empty, not there
		_, err = k.sql.PartitionSeal(t.Context(), conn, first)
		requireState(t, err, "55000")
	}
	sealed, err := k.sql.PartitionSeal(t.Context(), conn, 1)
	require.NoError(t, err)
	require.True(t, sealed, "sealing again changes nothing")
}

// Whoever has a partition in use is not waited for, and nobody waits behind.
func TestSeal_WhileSomebodyReads(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2026-01-01Z", "2026-01-01Z", "2026-01-01Z")
	analyst := r.analyst(t)
	r.insert(t, "2026-01-02Z", "2026-01-02Z", "2026-01-02Z", "2026-01-02Z")
	k := r.keeper(t, r.dsn, Policy{}, often)
	_, err := analyst.Exec(t.Context(), "SELECT FROM tailroom.events_1")
	require.NoError(t, err)
	eventually(t, func() bool { return r.layout(t).Partitions[1].Counted })
	for began := time.Now(); time.Since(began) < 2*time.Second; { // in which it is tried many times
		since := time.Now()
		require.Equal(t, 7, value[int](t, r, "SELECT count(*) FROM tailroom.events"))
		require.Less(t, time.Since(since), time.Second, "a sweep waits longer than that")
	}
	require.Contains(t, r.states(t), "1 full, 4 full")
	require.NoError(t, analyst.Rollback(t.Context()))
	r.awaitStates(t, "1 sealed, 4 sealed")
	require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", dutySeal))
}

// A batch that fails leaves a hole, which can be a whole partition.
func TestSeal_EmptyPartition(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.exec(t, "SELECT setval('tailroom.positions', 7)")
	r.insert(t, "2026-01-01Z")
	r.keeper(t, r.dsn, Policy{}, often)
	r.awaitStates(t, "1 sealed, 4 sealed, 7 current")
	require.Zero(t, r.layout(t).Partitions[0].Events)
	require.Nil(t, r.layout(t).Partitions[0].RecordedTo)
}

// An interrupted seal goes on where it was.
func TestSeal_IsTakenUpAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2026-01-01Z", "2026-01-02Z", "2026-01-03Z", "2026-01-04Z")
	for step := range 3 {
		k := r.idle(t, r.dsn, Policy{})
		conn := k.sweeper(t)
		sealed, err := k.sql.PartitionSeal(t.Context(), conn, 1)
		require.NoError(t, err)
		require.Equal(t, step == 2, sealed)
		r.exec(t, "SELECT pg_terminate_backend($1)", conn.PgConn().PID())
	}
	require.Contains(t, r.states(t), "1 sealed, ")
}

// A partition that cannot be sealed is a failure, and no reason not to seal the
// others.
func TestSeal_OneFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-02Z")
	r.exec(t, `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() WHERE object_identity = 'tailroom.events_1') THEN RAISE 'not this one'; END IF; END $$`)
	r.exec(t, "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION public.refuse()")
	k := r.idle(t, r.dsn, Policy{})
	err := k.seal(t.Context(), k.sweeper(t))
	require.ErrorContains(t, err, "sealing events_1: ")
	require.ErrorContains(t, err, "not this one")
	require.Contains(t, r.states(t), "1 full, 4 sealed, 7 current, ")
}

func requireState(t *testing.T, err error, state string) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, state, pg.Code, pg.Message)
}
