package eventlog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestRelay_MovesWhatIsCommitted(t *testing.T) {
	t.Parallel()
	for _, level := range []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable} {
		t.Run(string(level), func(t *testing.T) {
			t.Parallel()
			r := outboxRig(t)
			woken := make(chan int64, 1)
			rel := r.relay(t, func(c *eventlog.RelayConfig) { c.Committed = func(last int64) { woken <- last } })
			tx := r.begin(t, pgx.TxOptions{IsoLevel: level})
			var id string
			require.NoError(t, tx.QueryRow(t.Context(), `SELECT tailroom.publish('c1', '/orders', 'newOrder',
				'{"orderId":"1042", "branchId":"b7"}', correlation_id => 'x', occurred_at => '2026-01-31T18:30:00Z')::text`).Scan(&id))
			require.Empty(t, r.all(t), "before the commit")
			commit(t, tx)
			require.EqualValues(t, 1, <-woken)

			require.Equal(t, []string{`{"orderId":"1042","branchId":"b7"}`}, r.datas(t))
			e := r.all(t)[0]
			require.Equal(t, id, e.ID.String())
			require.EqualValues(t, 7, e.ID.Version())
			require.Equal(t, "c1", e.Tenant)
			require.Equal(t, "/orders newOrder", e.Namespace+" "+e.Type)
			require.Equal(t, 3, e.SchemaVersion)
			require.Equal(t, []string{"branch:b7"}, e.Rooms)
			require.Equal(t, "order:1042", e.Stream)
			require.EqualValues(t, 1, e.Version)
			require.Equal(t, "2026-01-31T18:30:00Z", e.OccurredAt.UTC().Format(time.RFC3339))
			require.Equal(t, "sql:tailroom", e.Actor)
			require.Equal(t, "x", e.CorrelationID)
			rel.reaches(t, 1, "tailroom_outbox_relayed_total")
			requireConsistent(t, r)
		})
	}
}

func TestRelay_NeverSeesWhatWasRolledBack(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	tx := r.begin(t)
	publish(t, tx, `{"n":1}`)
	savepoint, err := tx.Begin(t.Context())
	require.NoError(t, err)
	publish(t, savepoint, `{"n":"lost with the savepoint"}`)
	require.NoError(t, savepoint.Rollback(t.Context()))
	kept, err := tx.Begin(t.Context())
	require.NoError(t, err)
	publish(t, kept, `{"n":2}`)
	commit(t, kept)
	publish(t, tx, `{"n":3}`)

	lost := r.begin(t)
	publish(t, lost, `{"n":"lost"}`)
	require.NoError(t, lost.Rollback(t.Context()))
	commit(t, tx)
	publish(t, r.pool, `{"n":4}`)

	require.Equal(t, notes(1, 4), r.awaitLog(t, 4))
	require.Zero(t, value[int64](t, r, "SELECT count(*) FROM tailroom.outbox"))
}

// A page is at most 500 rows and a megabyte.
func TestRelay_KeepsTheOrderOfLongTransactions(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	tx := r.begin(t)
	_, err := tx.Exec(t.Context(), `SELECT tailroom.publish('c1', '/orders', 'note', jsonb_build_object('n', n), '{company:c1}')
		FROM generate_series(1, 1200) AS n`)
	require.NoError(t, err)
	// They take little room as they are stored, and 200 KB each as text.
	_, err = tx.Exec(t.Context(), `SELECT tailroom.publish('c1', '/orders', 'note', jsonb_build_object('n', n, 'long', repeat('x', 200000)),
		'{company:c1}') FROM generate_series(1201, 1206) AS n`)
	require.NoError(t, err)
	commit(t, tx)
	r.relay(t)
	r.awaitEmpty(t)
	for i, e := range r.all(t) {
		var data struct{ N int }
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.Equal(t, i+1, data.N)
	}
	require.Len(t, r.all(t), 1206)
	// By their recordedAt events of one batch are told apart.
	require.GreaterOrEqual(t, value[int64](t, r, `SELECT count(DISTINCT recorded_at) FROM tailroom.events WHERE position > 1200`), int64(2))
	require.Equal(t, int64(500), value[int64](t, r, `SELECT max(n) FROM (SELECT count(*) AS n FROM tailroom.events GROUP BY recorded_at) b`))
}

func TestRelay_RejectsAndGoesOn(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	tx := r.begin(t)
	publish(t, tx, `{"n":1}`)
	publish(t, tx, `{"n":"bad","verdict":"schema_violation"}`)
	publish(t, tx, `{"n":2}`)
	publish(t, tx, `{"n":"odd","verdict":"unknown_type"}`)
	commit(t, tx)
	// PostgreSQL refuses a key of more than 2704 bytes.
	r.exec(t, `INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, stream, occurred_at, actor, correlation_id, data)
		SELECT tailroom.new_id(), 'c1', '/orders', 'note', 1, '{company:c1}', string_agg('s:' || md5(n::text), ''), now(), 'a', 'c', '{"n":"huge"}'
		FROM generate_series(1, 1000) AS n`)
	r.exec(t, `INSERT INTO tailroom.outbox (event_id, tenant, namespace, type, schema_version, rooms, occurred_at, actor, correlation_id, data)
		SELECT tailroom.new_id(), 'c1', '/orders', 'note', 1, '{}', now(), 'a', 'c', '{"n":"no room"}'`)
	publish(t, r.pool, `{"n":3}`)
	rel := r.relay(t)

	require.Equal(t, notes(1, 3), r.awaitLog(t, 3))
	r.awaitEmpty(t)
	o, err := r.log.Outbox(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Zero(t, o.Waiting)
	require.EqualValues(t, 4, o.Rejected)
	said := []string{}
	for _, row := range o.Rows {
		said = append(said, fmt.Sprintf("%d %s: %s", row.Row, row.Code, row.Reason))
	}
	require.Equal(t, []string{
		"2 schema_violation: the judge says so",
		"4 unknown_type: the judge says so",
		"5 schema_violation: PostgreSQL cannot store a value of the event (SQLSTATE 54000)",
		"6 schema_violation: PostgreSQL cannot store a value of the event (SQLSTATE 23502)",
	}, said)
	rel.reaches(t, 3, "tailroom_outbox_relayed_total")
	rel.reaches(t, 3, "tailroom_outbox_rejected_total", "schema_violation")
	rel.reaches(t, 1, "tailroom_outbox_rejected_total", "unknown_type")
	require.Zero(t, rel.figure(t, "tailroom_outbox_rejected_total", "id_reused"))
	requireConsistent(t, r)
}

func TestRelay_RejectedRowsAreRetriedOrDiscarded(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	var lenient atomic.Bool
	r.relay(t, func(c *eventlog.RelayConfig) {
		c.Judge = func(*event.Draft) (code, reason string) {
			if lenient.Load() {
				return "", ""
			}
			return "schema_violation", "not yet"
		}
	})
	for n := 1; n <= 5; n++ {
		publish(t, r.pool, note(n))
	}
	rejected := func() []int64 {
		o, err := r.log.Outbox(t.Context(), 0, 100)
		require.NoError(t, err)
		rows := []int64{}
		for _, row := range o.Rows {
			rows = append(rows, row.Row)
		}
		return rows
	}
	r.awaitEmpty(t)
	require.Equal(t, []int64{1, 2, 3, 4, 5}, rejected())

	gone, err := r.log.DiscardRejected(t.Context(), eventlog.Settlement{Rows: []int64{2, 77}, Actor: "officer:1"})
	require.NoError(t, err)
	require.Equal(t, []int64{2}, gone)
	lenient.Store(true)
	back, err := r.log.RetryRejected(t.Context(), eventlog.Settlement{Rows: []int64{4, 77, 3}, Reason: "mended", Actor: "officer:1"})
	require.NoError(t, err)
	require.Equal(t, []int64{3, 4}, back)
	require.Equal(t, []string{
		`{"rows":[2],"actor":"officer:1","count":1,"reason":null}`,
		`{"rows":[3,4],"actor":"officer:1","count":2,"reason":"mended"}`, note(3), note(4),
	}, r.awaitLog(t, 4))
	require.Equal(t, []int64{1, 5}, rejected())

	lenient.Store(false)
	back, err = r.log.RetryRejected(t.Context(), eventlog.Settlement{Actor: "officer:1"})
	require.NoError(t, err)
	require.Equal(t, []int64{1, 5}, back)
	r.awaitEmpty(t)
	require.Equal(t, []int64{8, 9}, rejected(), "they went to the end of the outbox")
	gone, err = r.log.DiscardRejected(t.Context(), eventlog.Settlement{Actor: "officer:1"})
	require.NoError(t, err)
	require.Equal(t, []int64{8, 9}, gone)
	require.Empty(t, rejected())
	gone, err = r.log.DiscardRejected(t.Context(), eventlog.Settlement{Actor: "officer:1"})
	require.NoError(t, err)
	require.Empty(t, gone)

	// The log tells of each, but not of nothing.
	all := r.all(t)
	types := []string{}
	for _, e := range all {
		types = append(types, e.Type)
	}
	require.Equal(t, []string{"outboxDiscarded", "outboxRetried", "note", "note", "outboxRetried", "outboxDiscarded"}, types)
	require.Equal(t, []any{"/system", "*", []string{"company:*"}, "officer:1"}, []any{all[0].Namespace, all[0].Tenant, all[0].Rooms, all[0].Actor})
	_, err = r.log.RetryRejected(t.Context(), eventlog.Settlement{Rows: []int64{1}, Actor: " "})
	require.NoError(t, err, "nothing is to be told of it")
}

func TestRelay_IDsThatComeAgain(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	again := func(id uuid.UUID, data, rest string) {
		r.exec(t, `SELECT tailroom.publish('c1', '/orders', 'note', $1, '{company:c1}', id => $2, correlation_id => 'x'`+rest+`)`, data, id)
	}
	known, twice := uuid.Must(uuid.NewV7()), uuid.Must(uuid.NewV7())
	a := r.running(t)
	a.append(t, with(draft(""), func(d *event.Draft) {
		d.ID, d.Type, d.Rooms, d.CorrelationID, d.Data = known, "note", []string{"company:c1"}, "x", []byte(`{"n": 1}`)
	}))
	again(known, `{"n":1}`, "")                           // a repetition: nothing happens
	again(known, `{"n":1}`, ", stream => 'other:stream'") // other content
	again(twice, `{"n":2}`, "")
	again(twice, `{"n":2}`, "")       // a repetition within a page
	again(twice, `{"n":"other"}`, "") // other content within a page
	publish(t, r.pool, `{"n":3}`)
	rel := r.relay(t)

	require.Equal(t, notes(1, 3), r.awaitLog(t, 3))
	r.awaitEmpty(t)
	o, err := r.log.Outbox(t.Context(), 0, 100)
	require.NoError(t, err)
	require.Len(t, o.Rows, 2)
	require.EqualValues(t, 2, o.Rows[0].Row)
	require.EqualValues(t, 5, o.Rows[1].Row)
	require.Equal(t, "id_reused", o.Rows[0].Code)
	require.Equal(t, "the id "+known.String()+" was used before, with other content", o.Rows[0].Reason)
	rel.reaches(t, 2, "tailroom_outbox_rejected_total", "id_reused")
	requireConsistent(t, r)
}

// Rows that somebody else has taken while the leader waited for his turn are no
// events, and the rest is read again.
func TestRelay_RowsThatAreGone(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	r.relay(t)
	release := r.holdLock(t)
	tx := r.begin(t)
	for n := 1; n <= 3; n++ {
		publish(t, tx, note(n))
	}
	commit(t, tx)
	r.awaitQueue(t, 1)
	r.exec(t, "DELETE FROM tailroom.outbox WHERE id = 2")
	release()
	require.Equal(t, []string{note(1), note(3)}, r.awaitLog(t, 2))
	r.awaitEmpty(t)
	requireConsistent(t, r)
}

// Without a partition nothing can be relayed. Nothing is rejected for that.
func TestRelay_WaitsForAPartition(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	asked := make(chan struct{}, 1000)
	rel := r.relay(t, func(c *eventlog.RelayConfig) { c.NoPartition = func() { asked <- struct{}{} } })
	publish(t, r.pool, `{"n":1}`)
	r.awaitLog(t, 1)
	r.exec(t, "SELECT setval('tailroom.positions', (SELECT max(beyond) - 1 FROM tailroom.partitions))")
	publish(t, r.pool, `{"n":2}`)
	<-asked
	<-asked // it is tried again
	require.EqualValues(t, 1, rel.figure(t, "tailroom_outbox_waiting"))
	require.Positive(t, rel.figure(t, "tailroom_outbox_oldest_seconds"))
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	require.Equal(t, notes(1, 2), r.awaitLog(t, 2))
	require.Eventually(t, func() bool {
		return rel.figure(t, "tailroom_outbox_waiting") == 0 && rel.figure(t, "tailroom_outbox_oldest_seconds") == 0
	}, patience, time.Millisecond)
}

// What waits is counted also when few rows fill a page.
func TestRelay_CountsLargeRows(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	release := r.holdLock(t)
	tx := r.begin(t)
	for range 12 {
		publish(t, tx, `{"text":"`+strings.Repeat("x", 200<<10)+`"}`)
	}
	commit(t, tx)
	rel := r.relay(t)
	require.Eventually(t, func() bool { return rel.figure(t, "tailroom_outbox_waiting") == 12 }, patience, time.Millisecond)
	release()
	r.awaitEmpty(t)
}

// An instance's role is tailroom_writer's member, and no superuser.
func TestRelay_NeedsTheWritersRightsOnly(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	dsn := r.login(t, "tailroom_writer")
	publish(t, r.pool, `{"n":1}`)
	publish(t, r.pool, `{"verdict":"schema_violation"}`)
	rel := r.relay(t, func(c *eventlog.RelayConfig) { c.DSN = dsn })
	require.Equal(t, notes(1, 1), r.awaitLog(t, 1))
	r.awaitEmpty(t)
	rel.leads(t)
	r.await(t, "SELECT count(*) = 1 FROM tailroom.outbox_rejected")
}

// The relay polls, because most transactions send no notification: those that
// publish while another one does, and those that have turned it off.
func TestRelay_Poll(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	rel := r.relay(t)
	rel.leads(t)
	tx := r.begin(t)
	_, err := tx.Exec(t.Context(), "SET LOCAL tailroom.outbox_notify = off")
	require.NoError(t, err)
	publish(t, tx, `{"n":1}`)
	require.Zero(t, value[int64](t, r, locksOfNotify))
	commit(t, tx)
	require.Equal(t, notes(1, 1), r.awaitLog(t, 1))

	notifier := r.begin(t)
	publish(t, notifier, `{"n":"later"}`)
	require.EqualValues(t, 1, value[int64](t, r, locksOfNotify))
	publish(t, r.pool, `{"n":2}`)
	require.Equal(t, notes(1, 2), r.awaitLog(t, 2))
}

const locksOfNotify = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 6
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// With a poll of a second, a thing that takes less was notified.
func TestRelay_IsNotified(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	rel := r.relay(t, func(c *eventlog.RelayConfig) { c.Poll = time.Second })
	rel.leads(t)
	publish(t, r.pool, `{"n":0}`)
	r.awaitLog(t, 1)
	const rounds = 20
	quick := 0
	for n := range rounds {
		began := time.Now()
		publish(t, r.pool, note(n))
		r.awaitLog(t, n+2)
		if time.Since(began) < time.Second/2 {
			quick++
		}
	}
	require.Greater(t, quick, rounds*3/4, "the rest are a busy machine's")
}

// Who has nothing to do must not use up transaction numbers, nor write.
func TestRelay_IdleLeaderOnlyReads(t *testing.T) {
	t.Parallel()
	r := rigOn(t, pgtest.DatabaseOn(t, pgtest.Server(t))) // where nobody else writes
	r.mirror(t)
	rel := r.relay(t, func(c *eventlog.RelayConfig) { c.Poll = time.Millisecond })
	rel.leads(t)
	publish(t, r.pool, `{"n":1}`)
	r.awaitLog(t, 1)
	written := "SELECT pg_current_wal_insert_lsn()::text || ' ' || pg_snapshot_xmax(pg_current_snapshot())::text"
	require.Eventually(t, func() bool { // when it has closed what lay below
		before := value[string](t, r, written)
		r.awaitLooks(t, 200)
		return value[string](t, r, written) == before
	}, patience, time.Millisecond)
}

// An owner may do what nobody should.
func TestRelay_SurvivesANewNumbering(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	rel, _ := r.newRelay(t)
	rel.Forgetful(time.Second)
	run(t, rel)
	publish(t, r.pool, note(1))
	publish(t, r.pool, note(2))
	r.awaitLog(t, 2)
	r.exec(t, "TRUNCATE tailroom.outbox RESTART IDENTITY")
	publish(t, r.pool, note(3))
	require.Equal(t, notes(1, 3), r.awaitLog(t, 3))
}

// login makes a role that can log in and is a member of one of ours, and returns
// the database's address for it.
func (r *rig) login(t *testing.T, group string) string {
	t.Helper()
	name := "login_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	r.exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN IN ROLE %s", name, group))
	t.Cleanup(func() {
		_, err := r.pool.Exec(context.Background(), "DROP ROLE "+name)
		require.NoError(t, err)
	})
	return strings.Replace(r.dsn, "postgres://tailroom@", "postgres://"+name+"@", 1)
}
