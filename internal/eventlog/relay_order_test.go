package eventlog_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// ids are those of the log's events, in order.
func (r *rig) ids(t *testing.T) []string {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), "SELECT id::text FROM tailroom.events ORDER BY position")
	require.NoError(t, err)
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	return list
}

// awaitLooks waits until the leader has looked this often.
func (r *rig) awaitLooks(t *testing.T, n int) {
	t.Helper()
	looks := "SELECT idx_scan FROM pg_stat_user_tables WHERE relid = 'tailroom.outbox'::regclass"
	before := value[int64](t, r, looks)
	r.await(t, "SELECT idx_scan > $1 FROM pg_stat_user_tables WHERE relid = 'tailroom.outbox'::regclass", before+int64(n))
}

// Transactions take turns at being the oldest, and commit long after what was
// numbered later has been relayed. Meanwhile the leader has looked often.
func TestRelay_FindsWhatCommitsLate(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	rel := r.relay(t)
	rel.leads(t)
	var want []string
	for round := range 2 {
		oldest, older := r.begin(t), r.begin(t)
		publish(t, oldest, note(10*round+1)) // the number is drawn now
		publish(t, older, note(10*round+2))
		rolledBack := r.begin(t)
		publish(t, rolledBack, `{"n":"lost"}`)
		require.NoError(t, rolledBack.Rollback(t.Context()))
		publish(t, r.pool, note(10*round+3))
		want = append(want, note(10*round+3))
		require.Equal(t, want, r.awaitLog(t, len(want)))
		r.awaitLooks(t, 50)
		publish(t, oldest, note(10*round+4))
		commit(t, oldest)
		want = append(want, note(10*round+1), note(10*round+4))
		require.Equal(t, want, r.awaitLog(t, len(want)))
		r.awaitLooks(t, 50)
		commit(t, older)
		want = append(want, note(10*round+2))
		require.Equal(t, want, r.awaitLog(t, len(want)))
	}
}

// The newest transaction of all is still running when a leader comes, and no
// later one ends: a snapshot's upper bound lies below it.
func TestRelay_FindsTheNewestTransaction(t *testing.T) {
	t.Parallel()
	r := rigOn(t, pgtest.DatabaseOn(t, pgtest.Server(t))) // where nobody else commits
	r.mirror(t)
	tx := r.begin(t)
	publish(t, tx, `{"n":1}`)
	r.relay(t).leads(t)
	r.awaitLooks(t, 100)
	commit(t, tx)
	require.Equal(t, notes(1, 1), r.awaitLog(t, 1))
}

// A leader that loses its connection, or drains, is followed by another one.
func TestRelay_LeadPassesOn(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	first := r.relay(t)
	first.leads(t)
	second := r.relay(t)
	publish(t, r.pool, note(1))
	r.awaitLog(t, 1)
	require.Zero(t, second.figure(t, "tailroom_outbox_leader"))

	began := time.Now()
	first.stop() // as when an instance drains
	require.Less(t, time.Since(began), 2*time.Second, "it does not wait for anything")
	require.Zero(t, first.figure(t, "tailroom_outbox_leader"))
	second.leads(t)
	require.Less(t, time.Since(began), 3*time.Second)
	publish(t, r.pool, note(2))
	require.Equal(t, notes(1, 2), r.awaitLog(t, 2))

	third := r.relay(t)
	r.killLeader(t)
	publish(t, r.pool, note(3))
	require.Equal(t, notes(1, 3), r.awaitLog(t, 3))
	require.Eventually(t, func() bool { // whoever has lost the lead may notice it when the other one has relayed
		return second.figure(t, "tailroom_outbox_leader")+third.figure(t, "tailroom_outbox_leader") == 1
	}, patience, time.Millisecond)
}

// A leader that is stopped keeps its socket, and would keep the lead.
func TestRelay_SilentLeaderLosesTheLead(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	judging, wake := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r.relay(t, func(c *eventlog.RelayConfig) {
		c.Judge = func(*event.Draft) (code, reason string) {
			once.Do(func() {
				close(judging)
				<-wake
			})
			return "", ""
		}
	})
	publish(t, r.pool, note(1))
	<-judging
	second := r.relay(t)
	require.Equal(t, notes(1, 1), r.awaitLog(t, 1))
	second.leads(t)
	close(wake)
	publish(t, r.pool, note(2))
	require.Equal(t, notes(1, 2), r.awaitLog(t, 2))
	r.awaitEmpty(t)
}

// A leader waits for the append lock when its instance dies: its backend does not
// see that by itself, and it has the lead.
func TestRelay_LeaderDiesWaiting(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	first := r.relay(t)
	first.leads(t)
	second := r.relay(t)
	release := r.holdLock(t)
	publish(t, r.pool, note(1))
	r.awaitQueue(t, 1)
	began := time.Now()
	first.stop()
	second.leads(t)
	require.Less(t, time.Since(began), 3*time.Second)
	release()
	require.Equal(t, notes(1, 1), r.awaitLog(t, 1))
}

// killLeader ends the leader's connection, if there is a leader, and reports that.
func (r *rig) killLeader(t *testing.T) bool {
	t.Helper()
	return value[bool](t, r, `SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_locks
		WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 5 AND granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
}

// Leaders lose their connections at any moment, while an application publishes.
func TestRelay_KeepsTheOrderWhileLeadersChange(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	for range 3 {
		r.relay(t)
	}
	const writers, kills = 8, 8
	var application load.Transactions
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g errgroup.Group
	for seed := range uint64(writers) {
		g.Go(func() error { return application.Run(ctx, r.dsn, seed) })
	}
	for killed := 0; killed < kills; {
		// After some more transactions, at whatever the leader does then.
		next := application.Count() + 20 + rand.IntN(100)
		require.Eventually(t, func() bool { return application.Count() >= next }, patience, time.Millisecond)
		if r.killLeader(t) {
			killed++
		}
	}
	cancel()
	require.NoError(t, g.Wait())
	r.awaitEmpty(t)
	application.Check(t, r.ids(t))
	requireConsistent(t, r)
	t.Logf("%d transactions, %d leaders killed", application.Count(), kills)
}
