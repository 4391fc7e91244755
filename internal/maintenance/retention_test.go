package maintenance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// nothing is a policy that keeps no sealed partition but the tip's.
var nothing = Policy{MaxBytes: 1}

func TestPolicy(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	ago := func(days int) *time.Time { at := now.AddDate(0, 0, -days); return &at }
	part := func(first int64, state eventlog.PartitionState, newest *time.Time) eventlog.Partition {
		return eventlog.Partition{First: first, Last: first + 9, State: state, RecordedTo: newest, Bytes: 100}
	}
	sealed, full := eventlog.PartitionSealed, eventlog.PartitionFull
	five := []eventlog.Partition{
		part(1, sealed, ago(90)), part(11, sealed, ago(60)), part(21, sealed, ago(30)), part(31, eventlog.PartitionCurrent, nil),
		part(41, eventlog.PartitionAhead, nil),
	}
	days := func(n int) Policy { return Policy{MaxAge: time.Duration(n) * 24 * time.Hour} }
	for name, test := range map[string]struct {
		keep   Policy
		floor  int64
		tip    int64
		layout []eventlog.Partition
		want   int64
	}{
		"everything":                  {Policy{}, 0, 35, five, 0},
		"nothing is so old":           {days(91), 0, 35, five, 0},
		"exactly so old":              {days(60), 0, 35, five, 10},
		"one is older":                {days(61), 0, 35, five, 10},
		"two are":                     {days(59), 0, 35, five, 20},
		"all that may go":             {days(1), 0, 35, five, 30},
		"it fits":                     {Policy{MaxBytes: 500}, 0, 35, five, 0},
		"a byte too much":             {Policy{MaxBytes: 499}, 0, 35, five, 10},
		"it fits without two":         {Policy{MaxBytes: 300}, 0, 35, five, 20},
		"it never fits":               {nothing, 0, 35, five, 30},
		"the age bites first":         {Policy{MaxAge: days(59).MaxAge, MaxBytes: 400}, 0, 35, five, 20},
		"the size bites first":        {Policy{MaxAge: days(59).MaxAge, MaxBytes: 200}, 0, 35, five, 30},
		"not the tip's":               {nothing, 0, 30, five, 20},
		"what goes does not count":    {Policy{MaxBytes: 400}, 10, 35, five, 10},
		"nor twice":                   {Policy{MaxBytes: 300}, 10, 35, five, 20},
		"the floor never falls":       {days(91), 20, 35, five, 20},
		"not what is not sealed":      {nothing, 0, 35, []eventlog.Partition{part(1, sealed, ago(9)), part(11, full, ago(8)), part(21, sealed, ago(7))}, 10},
		"a clock that was ahead":      {days(50), 0, 35, []eventlog.Partition{part(1, sealed, ago(-999)), part(11, sealed, ago(60)), part(21, sealed, ago(1))}, 0},
		"a clock that was behind":     {days(50), 0, 35, []eventlog.Partition{part(1, sealed, ago(40)), part(11, sealed, ago(9999)), part(21, sealed, ago(1))}, 0},
		"an empty one has no age":     {days(50), 0, 35, []eventlog.Partition{part(1, sealed, nil), part(11, sealed, ago(60)), part(21, sealed, ago(1))}, 20},
		"but goes only for some":      {Policy{MaxBytes: 300}, 0, 35, []eventlog.Partition{part(1, sealed, nil), part(11, sealed, ago(60))}, 0},
		"nor what is taken out above": {nothing, 0, 35, []eventlog.Partition{part(1, eventlog.PartitionDetaching, ago(99)), part(11, sealed, ago(60))}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := eventlog.Layout{Floor: test.floor, Tip: test.tip, ReadAt: now, Partitions: test.layout}
			require.Equal(t, test.want, test.keep.floor(l))
		})
	}
}

// Old partitions go with all that is in them. Streams go on with the next version
// though none of their events is left.
func TestRetention_StreamsStayDense(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	k := r.keeper(t, r.dsn, nothing, often)
	a := r.appender(t, k.Wake)
	require.Equal(t, int64(12), a.append(t, 12, "order:1").Version)
	a.append(t, 20, "order:2")
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_dropped_total", "") >= 6 })
	require.GreaterOrEqual(t, r.layout(t).Floor, int64(30))
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.events WHERE stream = 'order:1'"))
	require.Nil(t, value[*string](t, r, "SELECT to_regclass('tailroom.events_1')::text"))

	require.Equal(t, int64(13), a.append(t, 1, "order:1").Version)
	wrong, right := draft("order:1"), draft("order:1")
	wrong.ExpectedVersion = event.Expectation{Version: 12, Set: true}
	_, err := a.Append(t.Context(), nil, []event.Draft{wrong})
	var conflict *eventlog.VersionConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, int64(13), conflict.Conflicts[0].Current)
	right.ExpectedVersion = event.Expectation{Version: 13, Set: true}
	receipts, err := a.Append(t.Context(), nil, []event.Draft{right})
	require.NoError(t, err)
	require.Equal(t, int64(14), receipts[0].Version)
	for _, duty := range []string{dutyPartitions, dutyIDs, dutyFigures, dutySeal, dutyRetention} {
		require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", duty), duty)
	}
}

// Requests go with the events that they are, answered or not.
func TestRetention_RequestsGo(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	k := r.keeper(t, r.dsn, nothing, often)
	a := r.appender(t, k.Wake)
	for range 30 {
		d := draft("order:1")
		d.ReplyBy, d.Awaits = time.Now(), &event.Awaited{Type: "done", When: []byte(`{}`)}
		eventually(t, func() bool { // until there is a partition for it
			_, err := a.Append(t.Context(), nil, []event.Draft{d})
			return err == nil
		})
	}
	eventually(t, func() bool {
		return value[int](t, r, "SELECT count(*) FROM tailroom.requests") == value[int](t, r, "SELECT count(*) FROM tailroom.events")
	})
	eventually(t, func() bool { return r.layout(t).Floor >= 25 })
	eventually(t, func() bool {
		return value[bool](t, r, "SELECT min(position) > (SELECT floor FROM tailroom.log) AND max(position) = 30 FROM tailroom.requests")
	})
	require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", dutyRetention))
}

func TestRetention_ByAge(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "2026-01-02Z", "2026-01-02Z", "now")
	r.insert(t, "2026-01-01Z", "2026-01-01Z", "2026-01-01Z", "now")
	k := r.keeper(t, r.dsn, Policy{MaxAge: time.Hour}, often)
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_dropped_total", "") == 1 })
	require.Contains(t, r.awaitStates(t, "4 sealed, 7 sealed, 10 current"), "4 sealed")
	require.Equal(t, int64(3), r.layout(t).Floor)
}

// The default keeps everything, whatever an operator has done to the floor.
func TestRetention_Off(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "2006-01-01Z", "2006-01-01Z", "2006-01-01Z", "2006-01-02Z")
	r.exec(t, "UPDATE tailroom.log SET floor = 3")
	k := r.keeper(t, r.dsn, Policy{}, often)
	r.awaitStates(t, "1 sealed")
	a := r.appender(t, k.Wake)
	for range 5 {
		a.append(t, 3, "")
		eventually(t, func() bool { return r.layout(t).Ahead() == 3 })
	}
	require.Contains(t, r.states(t), "1 sealed, ")
}

// The partition with the last event stays, whatever somebody has made of the floor.
func TestRetention_FloorMovedByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	r.appender(t, func() {}).append(t, 10, "order:1")
	r.exec(t, "UPDATE tailroom.log SET floor = 10")
	k := r.idle(t, r.dsn, nothing)
	for range 2 {
		require.NoError(t, k.sweep(t.Context()))
	}
	require.Equal(t, "6 sealed, 11 current, 16 ahead, ", r.states(t))
}

// An analyst holds a snapshot that shows the partition. Nobody waits for him:
// neither appends, nor readers, nor the partitions that are made meanwhile; nor
// does he for anybody, and he sees what he saw. When he is done it goes.
func TestRetention_WithASnapshotHeld(t *testing.T) {
	t.Parallel()
	r := newRig(t, 20)
	a := r.appender(t, func() { t.Error("no partition") })
	a.append(t, 30, "order:1")
	r.seal(t)
	analyst := r.analyst(t)
	k := r.keeper(t, r.dsn, nothing, often)
	r.awaitStates(t, "1 detaching")
	require.Equal(t, int64(20), r.layout(t).Floor)

	slowest := r.traffic(t, a, 200)
	t.Logf("with the snapshot held, the slowest append took %v and the slowest read %v", slowest.append, slowest.read)
	require.Less(t, slowest.append, 2*time.Second, "a sweep waits longer than that")
	require.Less(t, slowest.read, 2*time.Second)
	eventually(t, func() bool { return r.layout(t).Ahead() == 3 })
	r.awaitStates(t, "201 sealed, 221 current") // what he has not locked
	require.Contains(t, r.states(t), "1 detaching, 21 full, ")
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.events WHERE position <= 20"), "who comes now does not see it")
	since := time.Now()
	require.Equal(t, 30, count(t, analyst))
	require.Less(t, time.Since(since), 2*time.Second)

	require.NoError(t, analyst.Commit(t.Context()))
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_dropped_total", "") == 11 })
	require.Equal(t, int64(220), r.layout(t).Floor)
	for _, duty := range []string{dutyPartitions, dutyIDs, dutyFigures, dutySeal, dutyRetention} {
		require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", duty), duty)
	}
}

// seal seals all that is full.
func (r *rig) seal(t *testing.T) {
	t.Helper()
	k := r.idle(t, r.dsn, Policy{})
	require.NoError(t, k.seal(t.Context(), k.sweeper(t)))
}

type slowest struct{ append, read time.Duration }

// traffic appends events one by one while others read, and tells how long the
// slowest of each took. Every batch is in the log when it is read next.
func (r *rig) traffic(t *testing.T, a appender, events int) (worst slowest) {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	defer done()
	var tip atomic.Int64
	var g errgroup.Group
	g.Go(func() error {
		defer done()
		for n := range events {
			since := time.Now()
			receipts, err := a.Append(t.Context(), nil, []event.Draft{draft("order:1")})
			if err != nil {
				return err
			}
			tip.Store(receipts[0].Cursor.Position)
			worst.append = max(worst.append, time.Since(since))
			if n%r.size == 0 { // partitions turn over faster here than they ever do
				if err := r.awaitAhead(t.Context()); err != nil {
					return err
				}
			}
		}
		return nil
	})
	g.Go(func() error {
		for ctx.Err() == nil {
			since, want := time.Now(), tip.Load()
			page, err := eventlog.New(r.pool).Page(t.Context(), []event.Topic{{Tenant: "c1", Namespace: "/orders"}}, max(want-50, 0), 1000)
			if err != nil {
				return err
			}
			if page.Next.Position < want {
				return fmt.Errorf("a page ends at %d, and %d is in the log", page.Next.Position, want)
			}
			worst.read = max(worst.read, time.Since(since))
		}
		return nil
	})
	require.NoError(t, g.Wait())
	return worst
}

// awaitAhead waits until there are enough empty partitions.
func (r *rig) awaitAhead(ctx context.Context) error {
	for since := time.Now(); time.Since(since) < patience; <-time.After(5 * time.Millisecond) {
		if l, err := eventlog.ReadLayout(ctx, r.pool); err != nil || l.Ahead() >= enoughAhead {
			return err
		}
	}
	return errors.New("few partitions are left, and nobody makes any")
}

// Whoever looked at nothing of the log before the partition was detached, but has
// a snapshot from then, is not hurt by the end of it.
func TestRetention_WithASnapshotFromBefore(t *testing.T) {
	t.Parallel()
	r, k, conn, elder := newDetaching(t)
	analyst := r.begin(t, pgx.RepeatableRead)
	_, err := analyst.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.NoError(t, k.retain(t.Context(), conn))
	require.Contains(t, r.states(t), "1 detaching, 6 sealed")
	require.NoError(t, elder.Rollback(t.Context()))
	var sent statements
	k.config.Tracer = &sent
	conn = k.sweeper(t)
	for range 10 {
		require.NoError(t, k.retain(t.Context(), conn))
		require.Equal(t, 12, count(t, analyst))
	}
	require.Zero(t, strings.Count(sent.text, "FINALIZE"), "it does not even try")
	require.Contains(t, r.states(t), "1 detaching, 6 sealed")
	require.NoError(t, analyst.Rollback(t.Context()))
	require.NoError(t, k.retain(t.Context(), conn))
	require.Equal(t, 1, strings.Count(sent.text, "FINALIZE"))
	require.Equal(t, int64(11), r.layout(t).Partitions[0].First)
}

// statements are what a connection has sent.
type statements struct{ text string }

func (s *statements) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	s.text += data.SQL + "\n"
	return ctx
}

func (s *statements) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// newDetaching is a log of two full partitions, of which the first is about to be
// detached and will take two steps, because of who holds a snapshot.
func newDetaching(t *testing.T) (*rig, *keeper, *pgx.Conn, pgx.Tx) {
	t.Helper()
	r := newRig(t, 5)
	r.appender(t, func() {}).append(t, 12, "")
	r.seal(t)
	k := r.idle(t, r.dsn, nothing)
	conn := k.sweeper(t)
	analyst := r.analyst(t)
	return r, k, conn, analyst
}

// Whoever asks for the size of each table while a detaching is finished, as
// monitoring does, gets an answer: nobody ends it for the sake of a deadlock.
func TestRetention_WhileSizesAreAskedFor(t *testing.T) {
	t.Parallel()
	r, k, conn, elder := newDetaching(t)
	require.NoError(t, k.retain(t.Context(), conn))
	require.Contains(t, r.states(t), "1 detaching, 6 sealed")
	monitor := r.begin(t, pgx.RepeatableRead)
	_, err := monitor.Exec(t.Context(), "SELECT 1; SAVEPOINT before")
	require.NoError(t, err)
	require.NoError(t, elder.Rollback(t.Context()))
	var g errgroup.Group
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	g.Go(func() error {
		for ctx.Err() == nil {
			if err := k.retain(ctx, conn); err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	for range 8 {
		eventually(t, func() bool { return r.sweeping(t, "%FINALIZE%") == 1 })
		_, err := monitor.Exec(t.Context(), "SELECT pg_total_relation_size('tailroom.events_1'); ROLLBACK TO SAVEPOINT before")
		require.NoError(t, err)
	}
	require.NoError(t, monitor.Rollback(t.Context()))
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_dropped_total", "") == 2 })
	done()
	require.NoError(t, g.Wait())
}

// sweeping is how many sweeps are at a statement like this.
func (r *rig) sweeping(t *testing.T, like string) int {
	t.Helper()
	return value[int](t, r, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailroom sweep'
		AND state = 'active' AND query LIKE $1 AND datname = current_database()`, like)
}

// Wherever a sweep is interrupted, the next one goes on, whoever makes it.
func TestRetention_IsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for name, interrupted := range map[string]func(t *testing.T, r *rig, k *keeper, conn *pgx.Conn){
		"after the floor moved": func(t *testing.T, _ *rig, _ *keeper, conn *pgx.Conn) {
			t.Helper()
			require.NoError(t, raiseFloor(t.Context(), conn, 10))
		},
		"while it waits for a snapshot": func(t *testing.T, r *rig, k *keeper, conn *pgx.Conn) {
			t.Helper()
			analyst := r.analyst(t)
			done := make(chan error, 1)
			go func() { done <- k.retain(t.Context(), conn) }()
			r.awaitStates(t, "1 detaching")
			r.exec(t, "SELECT pg_terminate_backend($1)", conn.PgConn().PID())
			require.Error(t, <-done)
			require.Contains(t, r.states(t), "1 detaching, 6 sealed")
			require.NoError(t, analyst.Rollback(t.Context()))
		},
		"before it is dropped": func(t *testing.T, r *rig, k *keeper, conn *pgx.Conn) {
			t.Helper()
			require.NoError(t, raiseFloor(t.Context(), conn, 10))
			detached, err := k.detach(t.Context(), conn, r.layout(t).Partitions[0])
			require.NoError(t, err)
			require.True(t, detached)
			require.Contains(t, r.states(t), "1 detaching, 6 sealed")
		},
		"when somebody has dropped it": func(t *testing.T, r *rig, _ *keeper, conn *pgx.Conn) {
			t.Helper()
			require.NoError(t, raiseFloor(t.Context(), conn, 5))
			r.exec(t, "DROP TABLE tailroom.events_1")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 5)
			r.appender(t, func() {}).append(t, 12, "order:1")
			first := r.idle(t, r.dsn, nothing)
			conn := first.sweeper(t)
			require.NoError(t, first.seal(t.Context(), conn))
			interrupted(t, r, first, conn)
			r.exec(t, "SELECT pg_terminate_backend($1)", conn.PgConn().PID())

			second := r.keeper(t, r.dsn, nothing, often)
			eventually(t, func() bool { return r.layout(t).Partitions[0].First == 11 })
			require.Equal(t, int64(10), r.layout(t).Floor)
			require.Equal(t, 2, value[int](t, r, "SELECT count(*) FROM tailroom.events"))
			require.Zero(t, value[int](t, r, "SELECT count(*) FROM pg_class WHERE relname IN ('events_1', 'events_6')"))
			require.Zero(t, second.figure(t, "tailroom_maintenance_failures_total", dutyRetention))
		})
	}
}

// Its connections end at any moment, and still all goes that should, nothing else,
// and the log is in use meanwhile.
func TestRetention_KilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	const size, events, enough = 10, 300, 6
	r := newRig(t, size)
	keepers := []*keeper{r.keeper(t, r.dsn, nothing, often), r.keeper(t, r.dsn, nothing, often)}
	a := r.appender(t, func() { keepers[0].Wake() })
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	var g errgroup.Group
	var kills atomic.Int64
	g.Go(func() error {
		for ctx.Err() == nil {
			var n int64
			if err := r.pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE application_name = 'tailroom sweep' AND datname = current_database() AND state = 'active'`).Scan(&n); err != nil {
				return err
			}
			kills.Add(n)
		}
		return nil
	})
	var acknowledged []int64
	for ctx.Err() == nil && (len(acknowledged) < events || kills.Load() < enough) {
		if receipts, err := a.Append(t.Context(), nil, []event.Draft{draft("order:1")}); err == nil {
			acknowledged = append(acknowledged, receipts[0].Cursor.Position)
		}
	}
	done()
	require.NoError(t, g.Wait())
	t.Logf("killed %d times", kills.Load())
	require.GreaterOrEqual(t, kills.Load(), int64(enough))
	require.GreaterOrEqual(t, len(acknowledged), events)
	eventually(t, func() bool {
		l := r.layout(t)
		return l.Partitions[0].State == eventlog.PartitionCurrent || l.Partitions[0].Last == l.Tip
	})
	for _, k := range keepers {
		k.stop()
	}
	eventually(t, func() bool { // PostgreSQL may be at what they asked for last
		return value[int](t, r, `SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('tailroom sweep', 'tailroom maintenance')
			AND datname = current_database()`) == 0
	})
	l := r.layout(t)
	require.Equal(t, l.Partitions[0].First-1, l.Floor)
	kept := slices.DeleteFunc(acknowledged, func(position int64) bool { return position <= l.Floor })
	require.Equal(t, kept, value[[]int64](t, r, "SELECT array_agg(position ORDER BY position) FROM tailroom.events"))
	require.Equal(t, len(l.Partitions), value[int](t, r, "SELECT count(*) FROM pg_class WHERE relname ~ '^events_\\d+$' AND relkind = 'r'"))
	require.Equal(t, int64(len(acknowledged)+1), a.append(t, 1, "order:1").Version)
}

// Two that believe they lead, as after a pause of one of them.
func TestRetention_TwoAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	r.appender(t, func() {}).append(t, 17, "")
	var g errgroup.Group
	keepers := []*keeper{r.idle(t, r.dsn, nothing), r.idle(t, r.dsn, nothing), r.idle(t, r.dsn, nothing)}
	for _, k := range keepers {
		g.Go(func() error {
			for range 10 {
				if err := k.sweep(t.Context()); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Equal(t, "16 current, ", r.states(t)[:12])
	require.Equal(t, 2, value[int](t, r, "SELECT count(*) FROM tailroom.events"))
	require.Equal(t, int64(15), r.layout(t).Floor)
}

// The role of an instance that may retain: a member of the owner, no superuser.
func TestRetention_AsAMemberOfTheOwner(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	_, dsn := pgtest.Login(t, r.dsn, "tailroom_writer", "tailroom_owner")
	k := r.keeper(t, dsn, nothing, often)
	r.appender(t, k.Wake).append(t, 12, "")
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_dropped_total", "") == 2 })
	require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", dutyRetention))
}

func TestNew_WithoutADatabase(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, newRig(t, 5).dsn)
	proxy.Refuse(true)
	_, err := New(t.Context(), Config{DSN: proxy.DSN(), Keep: nothing})
	require.Error(t, err)
}

// Retention has its turn before sealing, which may take all the time there is.
func TestRetention_BeforeSealing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	a := r.appender(t, func() {})
	a.append(t, 7, "")
	r.seal(t)
	a.append(t, 5, "")
	require.Contains(t, r.states(t), "1 sealed, 6 full, ")
	k := r.idle(t, r.dsn, nothing)
	var sent statements
	k.config.Tracer = &sent
	require.NoError(t, k.sweep(t.Context()))
	require.Contains(t, r.states(t)[:10], "6 sealed, ")
	require.Regexp(t, "(?s)DETACH PARTITION.*seal_partition", sent.text)
}

// A leader that is stopped in the middle of a transaction does not keep its locks.
func TestSweep_StoppedInATransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	conn := r.idle(t, r.dsn, nothing).sweeper(t)
	_, err := conn.Exec(t.Context(), "BEGIN; DROP TABLE tailroom.events_16")
	require.NoError(t, err)
	eventually(t, func() bool {
		return value[int](t, r, "SELECT count(*) FROM pg_locks WHERE pid = $1", conn.PgConn().PID()) == 0
	})
}
