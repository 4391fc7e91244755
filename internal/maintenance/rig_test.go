package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
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
)

// patience is how long a test waits for what must happen, before it fails.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the trouble that tests make is not news
	pgtest.Main(m)
}

// rig is a log of the test's own, with partitions of this size.
type rig struct {
	dsn  string
	pool *pgxpool.Pool
	size int
}

func newRig(t *testing.T, size int) *rig {
	t.Helper()
	dsn := pgtest.Database(t)
	r := &rig{dsn: dsn, pool: pgtest.Pool(t, dsn), size: size}
	r.exec(t, "UPDATE tailroom.log SET partition_size = $1", size)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	return r
}

// keeper is a Keeper that makes passes all the time.
type keeper struct {
	*Keeper
	figures *prometheus.Registry
	stop    func()
}

// keeper starts a Keeper on a database, which ends with the test.
func (r *rig) keeper(t *testing.T, dsn string, keep Policy, period time.Duration) *keeper {
	t.Helper()
	k := r.idle(t, dsn, keep)
	k.period = period
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	stopped := false
	k.stop = func() {
		if !stopped {
			stopped = true
			cancel()
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(k.stop)
	return k
}

// idle is a Keeper that does nothing by itself.
func (r *rig) idle(t *testing.T, dsn string, keep Policy) *keeper {
	t.Helper()
	figures := prometheus.NewRegistry()
	k, err := New(t.Context(), Config{DSN: dsn, IDWindow: time.Hour, Keep: keep, RaiseFloor: raiseFloor, Metrics: figures})
	require.NoError(t, err)
	return &keeper{Keeper: k, figures: figures}
}

// raiseFloor keeps nothing of what goes.
func raiseFloor(ctx context.Context, conn *pgx.Conn, floor int64) error {
	_, err := conn.Exec(ctx, "UPDATE tailroom.log SET floor = $1", floor)
	return err
}

// sweeper is a connection as a sweep has it.
func (k *keeper) sweeper(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := k.connect(t.Context(), "tailroom sweep", sweepSettings)
	require.NoError(t, err)
	t.Cleanup(func() { hangUp(t.Context(), conn) })
	return conn
}

// figure is the value of one of the Keeper's metrics, with a label if it has one.
func (k *keeper) figure(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := k.figures.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	require.Fail(t, "no such figure", name)
	return 0
}

func (k *keeper) leads(t *testing.T) bool {
	t.Helper()
	return k.figure(t, "tailroom_maintenance_leader", "") == 1
}

// eventually waits until something is so.
func eventually(t *testing.T, so func() bool, what ...any) {
	t.Helper()
	require.Eventually(t, so, patience, 5*time.Millisecond, what...)
}

func (r *rig) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// value is the result of a query for one value.
func value[T any](t *testing.T, r *rig, sql string, args ...any) T {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err)
	return v
}

func (r *rig) layout(t *testing.T) eventlog.Layout {
	t.Helper()
	l, err := eventlog.ReadLayout(t.Context(), r.pool)
	require.NoError(t, err)
	return l
}

// states are the partitions by their first positions and how they are.
func (r *rig) states(t *testing.T) string {
	t.Helper()
	text := ""
	for _, p := range r.layout(t).Partitions {
		text += fmt.Sprintf("%d %s, ", p.First, p.State)
	}
	return text
}

// begin opens a transaction, which ends with the test at the latest.
func (r *rig) begin(t *testing.T, isolation pgx.TxIsoLevel) pgx.Tx {
	t.Helper()
	tx, err := r.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: isolation})
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return tx
}

// analyst opens a snapshot and reads the whole log in it.
func (r *rig) analyst(t *testing.T) pgx.Tx {
	t.Helper()
	tx := r.begin(t, pgx.RepeatableRead)
	count(t, tx)
	return tx
}

// count is how many events a transaction sees.
func count(t *testing.T, tx pgx.Tx) int {
	t.Helper()
	var n int
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.events").Scan(&n))
	return n
}

// appender is what an instance appends with.
type appender struct{ *eventlog.Appender }

func (r *rig) appender(t *testing.T, noPartition func()) appender {
	t.Helper()
	a := eventlog.NewAppender(eventlog.AppenderConfig{
		Log: eventlog.New(r.pool), Pool: pgtest.Pool(t, r.dsn), Timeout: patience,
		Tip: func() event.Cursor { return event.Cursor{} }, Committed: func(int64) {}, NoPartition: noPartition,
		Metrics: eventlog.NewAppendMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return appender{a}
}

// append appends some events of a stream, one by one. What is refused because the
// tiny partitions are all full is appended when there is another one, which
// it waits for.
func (a appender) append(t *testing.T, n int, stream string) (last event.Receipt) {
	t.Helper()
	for since := time.Now(); n > 0; {
		receipts, err := a.Append(t.Context(), nil, []event.Draft{draft(stream)})
		if errors.Is(err, eventlog.ErrNoPartition) && time.Since(since) < patience {
			continue
		}
		require.NoError(t, err)
		last, since = receipts[0], time.Now()
		n--
	}
	return last
}

func draft(stream string) event.Draft {
	id := uuid.Must(uuid.NewV7())
	return event.Draft{
		ID: id, Tenant: "c1", Namespace: "/orders", Type: "newOrder", SchemaVersion: 1, Rooms: []string{"branch:b1"},
		Stream: stream, OccurredAt: time.Now().UTC().Truncate(time.Microsecond), Actor: "user:test",
		CorrelationID: id.String(), Data: []byte(`{"a":1}`),
	}
}

func drafts(n int) []event.Draft {
	list := make([]event.Draft, n)
	for i := range list {
		list[i] = draft("")
	}
	return list
}

// lines is a log that is written and read at once.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) count(text string) int { return strings.Count(l.String(), text) }
