package eventlog_test

import (
	"context"
	"slices"
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
const patience = 20 * time.Second

// moment is the timeout of an instance that gives up soon: what it submits is under
// way by then, however busy the machine is.
const moment = time.Second

// rig is a log of the test's own.
type rig struct {
	dsn  string
	pool *pgxpool.Pool // the test's, and the appenders' for reading
	log  *eventlog.Log
}

func newRig(t *testing.T) *rig {
	t.Helper()
	return rigOn(t, pgtest.Database(t))
}

// rigOn is a rig in a database.
func rigOn(t *testing.T, dsn string) *rig {
	t.Helper()
	pool := pgtest.Pool(t, dsn)
	log := eventlog.New(pool)
	require.NoError(t, eventlog.MakePartitions(t.Context(), pool))
	return &rig{dsn: dsn, pool: pool, log: log}
}

// instance is an Appender, as one of several processes would have it. Until
// start is called it only collects, so that what was submitted before makes up
// one batch.
type instance struct {
	*eventlog.Appender
	start   func()
	cancel  func() // asks it to stop
	stop    func() // and waits
	figures *prometheus.Registry
}

func (r *rig) instance(t *testing.T) *instance {
	t.Helper()
	return r.instanceOn(t, r.dsn, patience)
}

// instanceOn reaches the log by another address, or has another timeout.
func (r *rig) instanceOn(t *testing.T, dsn string, timeout time.Duration) *instance {
	t.Helper()
	config, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config) // which may lead nowhere
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	figures := prometheus.NewRegistry()
	a := eventlog.NewAppender(eventlog.AppenderConfig{
		Log: r.log, Pool: pool, Timeout: timeout, Tip: noTip, Committed: func(int64) {}, NoPartition: func() {},
		Metrics: eventlog.NewAppendMetrics(figures),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	running := false
	i := &instance{
		Appender: a,
		figures:  figures,
		cancel:   cancel,
		start: func() {
			running = true
			go func() { done <- a.Run(ctx) }()
		},
		stop: func() {
			cancel()
			if running {
				running = false
				require.NoError(t, <-done)
			}
		},
	}
	t.Cleanup(i.stop)
	return i
}

// running is an instance that appends at once.
func (r *rig) running(t *testing.T) *instance {
	t.Helper()
	i := r.instance(t)
	i.start()
	return i
}

// submit puts a group of no source into the queue.
func (i *instance) submit(t *testing.T, drafts ...event.Draft) *eventlog.Ticket {
	t.Helper()
	ticket, err := i.Submit(nil, slices.Clone(drafts))
	require.NoError(t, err)
	return ticket
}

// append appends a group, which must succeed.
func (i *instance) append(t *testing.T, drafts ...event.Draft) []event.Receipt {
	t.Helper()
	receipts, err := i.Append(t.Context(), nil, slices.Clone(drafts))
	require.NoError(t, err)
	require.Len(t, receipts, len(drafts))
	return receipts
}

// figure is the value of one of the instance's counters.
func (i *instance) figure(t *testing.T, name string) float64 {
	t.Helper()
	families, err := i.figures.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "no such figure", name)
	return 0
}

// awaitRetries waits until attempts to append have failed this often.
func (i *instance) awaitRetries(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return i.figure(t, "tailroom_append_retries_total") >= float64(n) },
		patience, 5*time.Millisecond)
}

// wait is what became of a group.
func wait(t *testing.T, ticket *eventlog.Ticket) ([]event.Receipt, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	receipts, err := ticket.Wait(ctx)
	require.NoError(t, ctx.Err(), "the appender gives no verdict")
	return receipts, err
}

// accepted is the receipts of a group that must have been appended.
func accepted(t *testing.T, ticket *eventlog.Ticket) []event.Receipt {
	t.Helper()
	receipts, err := wait(t, ticket)
	require.NoError(t, err)
	return receipts
}

// all is the whole log, read by its primary key.
func (r *rig) all(t *testing.T) []*event.Entry {
	t.Helper()
	entries, err := r.log.Tail(t.Context(), 0, 1_000_000)
	require.NoError(t, err)
	return entries
}

// exec runs a statement.
func (r *rig) exec(t *testing.T, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
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

// await waits until a query is true.
func (r *rig) await(t *testing.T, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for met := false; !met; {
		require.NoError(t, r.pool.QueryRow(ctx, sql, args...).Scan(&met), sql)
	}
}

// holdLock takes the append lock, so that appends wait in PostgreSQL until the
// returned function is called.
func (r *rig) holdLock(t *testing.T) (release func()) {
	t.Helper()
	conn, err := r.pool.Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(1952541036, 1)")
	require.NoError(t, err)
	held := true
	release = func() {
		if held {
			held = false
			_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_advisory_unlock(1952541036, 1)")
			conn.Release()
			require.NoError(t, err)
		}
	}
	t.Cleanup(release)
	return release
}

// awaitQueue waits until some appends wait for the append lock.
func (r *rig) awaitQueue(t *testing.T, appends int) {
	t.Helper()
	r.await(t, `SELECT count(*) = $1 FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 1
		AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`, appends)
}

// draft is an event about a stream, or about none.
func draft(stream string) event.Draft {
	id := uuid.Must(uuid.NewV7())
	return event.Draft{
		ID: id, Tenant: "c1", Namespace: "/orders", Type: "newOrder", SchemaVersion: 1, Rooms: []string{"branch:b1"},
		Stream: stream, OccurredAt: time.Now().UTC().Truncate(time.Microsecond), Actor: "user:test",
		CorrelationID: id.String(), Data: []byte(`{"a":1}`),
	}
}

// with returns d after some changes.
func with(d event.Draft, changes ...func(*event.Draft)) event.Draft {
	d.Rooms = slices.Clone(d.Rooms)
	for _, change := range changes {
		change(&d)
	}
	return d
}

func expecting(version int64) func(*event.Draft) {
	return func(d *event.Draft) { d.ExpectedVersion = event.Expectation{Version: version, Set: true} }
}

func tenant(name string) func(*event.Draft)    { return func(d *event.Draft) { d.Tenant = name } }
func namespace(name string) func(*event.Draft) { return func(d *event.Draft) { d.Namespace = name } }

func data(text string) func(*event.Draft) { return func(d *event.Draft) { d.Data = []byte(text) } }

// drafts is n events of no stream.
func drafts(n int) []event.Draft {
	list := make([]event.Draft, n)
	for i := range list {
		list[i] = draft("")
	}
	return list
}

func positions(receipts []event.Receipt) []int64 {
	list := make([]int64, len(receipts))
	for i, r := range receipts {
		list[i] = r.Cursor.Position
	}
	return list
}

func versions(receipts []event.Receipt) []int64 {
	list := make([]int64, len(receipts))
	for i, r := range receipts {
		list[i] = r.Version
	}
	return list
}

// noTip is the newest event of an instance that knows of none.
func noTip() event.Cursor { return event.Cursor{} }
