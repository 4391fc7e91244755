package verify_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/verify"
)

const patience = 20 * time.Second

// rig is a log of the test's own.
type rig struct {
	dsn  string
	pool *pgxpool.Pool
	*eventlog.Appender
	stop func() // the Appender
}

// newRig is an empty log with small partitions.
func newRig(t testing.TB, partitionSize int) *rig {
	t.Helper()
	r := &rig{dsn: pgtest.Database(t)}
	r.pool = pgtest.Pool(t, r.dsn)
	r.exec(t, "UPDATE tailroom.log SET partition_size = $1", partitionSize)
	r.exec(t, "SELECT tailroom.partitions_ahead(3)")
	r.Appender, r.stop = r.appender(t)
	return r
}

// appender is an instance's, and how to stop it before the test ends.
func (r *rig) appender(t testing.TB) (_ *eventlog.Appender, stop func()) {
	t.Helper()
	pool := pgtest.Pool(t, r.dsn+"&pool_max_conns=1")
	a := eventlog.NewAppender(eventlog.AppenderConfig{
		Log: eventlog.New(r.pool), Pool: pool, Timeout: patience,
		Tip: func() event.Cursor { return event.Cursor{} }, Committed: func(int64) {}, NoPartition: func() {},
		Metrics: eventlog.NewAppendMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
		pool.Close()
	})
	t.Cleanup(stop)
	return a, stop
}

// exec runs a statement.
func (r *rig) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// tamper runs statements as somebody who has turned off all that guards the log.
func (r *rig) tamper(t testing.TB, sql string) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), r.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "SET LOCAL session_replication_role = replica; "+sql)
		return err
	}), sql)
}

// value is the result of a query for one value.
func value[T any](t testing.TB, r *rig, sql string, args ...any) T {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err, sql)
	return v
}

// append appends a group.
func (r *rig) append(t testing.TB, drafts ...event.Draft) {
	t.Helper()
	_, err := r.Append(t.Context(), nil, drafts)
	require.NoError(t, err)
}

func draft(tenant, stream string) event.Draft {
	id := uuid.Must(uuid.NewV7())
	if len(stream)%2 == 0 {
		id = uuid.New() // some publishers have others
	}
	return event.Draft{
		ID: id, Tenant: tenant, Namespace: "/orders", Type: "newOrder", SchemaVersion: 1,
		Rooms: []string{"branch:b1", "company:" + tenant}, Stream: stream,
		OccurredAt: time.Now().UTC().Truncate(time.Microsecond), Actor: "user:test",
		CorrelationID: id.String(), Data: []byte(`{"a":1}`),
	}
}

// grow appends some hundred events of several companies and streams.
func (r *rig) grow(t testing.TB, name string, events int) {
	t.Helper()
	r.exec(t, "SELECT tailroom.partitions_ahead(2)")
	for n := 0; n < events; {
		group := make([]event.Draft, min(1+n%7, events-n))
		for i := range group {
			stream := fmt.Sprintf("order:%s-%d", name, (n*i)%23)
			switch n % 5 {
			case 0:
				stream = ""
			case 1:
				stream = fmt.Sprintf("printer:%d", i)
			}
			group[i] = draft(fmt.Sprintf("c%d", n%3), stream)
		}
		r.append(t, group...)
		n += len(group)
	}
}

// verify runs a verification, of many pages, that comes to its end.
func (r *rig) verify(t testing.TB, during ...func(verify.Progress)) *verify.Report {
	t.Helper()
	config := verify.Config{Window: 24 * time.Hour, Progress: func(p verify.Progress) {
		for _, f := range during {
			f(p)
		}
	}}
	report, err := verify.Run(t.Context(), r.dsn, config.WithPages(150))
	require.NoError(t, err)
	return report
}

// partitionSize is the one of an old log.
const partitionSize = 400

// newOldLog is a log that has seen a lot: epochs, one of them noticed late, operators,
// partitions that are sealed and dropped, ids that are forgotten, positions that
// are not used.
func newOldLog(t testing.TB) *rig {
	t.Helper()
	r := newRig(t, partitionSize)
	r.grow(t, "a", 700)
	r.rotate(t)
	r.grow(t, "b", 250)
	r.exec(t, "SELECT tailroom.epoch_new('by hand', 'officer:1')")
	r.exec(t, "SELECT tailroom.revoke_tokens('c1', '9', NULL, now(), NULL, 'user:admin')")
	r.exec(t, "SELECT tailroom.disconnect_sessions(NULL, '9', NULL, 'noisy', 'user:admin')")
	r.grow(t, "c", 250)
	r.rotate(t)
	r.grow(t, "d", 250)
	r.exec(t, "SELECT nextval('tailroom.positions') FROM generate_series(1, 5)")
	r.exec(t, "SELECT tailroom.epoch_open($1, 7, 'noticed late')", r.tip(t)-30)
	for first := int64(1); first+partitionSize <= r.tip(t); first += partitionSize {
		require.Eventually(t, func() bool { // autovacuum may be at it
			var sealed bool
			err := r.pool.QueryRow(t.Context(), "SELECT tailroom.seal_partition($1)", first).Scan(&sealed)
			return err == nil && sealed
		}, patience, time.Millisecond)
	}
	r.drop(t, partitionSize)
	r.rotate(t)
	// In order, and each stream in one partition and the next.
	r.grow(t, "e", 60)
	for range 5 {
		r.append(t, draft("c1", "order:planted"))
		r.exec(t, "SELECT nextval('tailroom.positions') FROM generate_series(1, 2)")
		r.append(t, draft("c1", ""))
		r.grow(t, "f", 20)
	}
	return r
}

func (r *rig) tip(t testing.TB) int64 {
	t.Helper()
	return value[int64](t, r, "SELECT tip FROM tailroom.bounds")
}

// rotate makes the window forget its older half.
func (r *rig) rotate(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return value[bool](t, r, "SELECT tailroom.rotate_ids('0')") }, patience, time.Millisecond)
}

// drop drops the partitions up to a position, as retention does.
func (r *rig) drop(t testing.TB, floor int64) {
	t.Helper()
	r.exec(t, "UPDATE tailroom.log SET floor = $1", floor)
	require.NoError(t, r.dropPartitions(t.Context()))
}

// dropPartitions drops what lies below the floor.
func (r *rig) dropPartitions(ctx context.Context) error {
	rows, _ := r.pool.Query(ctx, "SELECT name FROM tailroom.partitions, tailroom.log WHERE beyond <= floor + 1 ORDER BY first")
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		for _, sql := range []string{
			"ALTER TABLE tailroom.events DETACH PARTITION tailroom." + name + " CONCURRENTLY",
			"DROP TABLE tailroom." + name,
			"DELETE FROM tailroom.partitions WHERE name = '" + name + "'",
		} {
			if _, err := r.pool.Exec(ctx, sql); err != nil {
				return err
			}
		}
	}
	return nil
}
