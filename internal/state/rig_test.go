package state_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
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
	"github.com/tailroom/tailroom/internal/state"
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
	log  *eventlog.Log
	size int64
	*eventlog.Appender
	*state.Reader
}

func newRig(t testing.TB, size int64) *rig {
	t.Helper()
	dsn := pgtest.Database(t)
	r := &rig{dsn: dsn, pool: pgtest.Pool(t, dsn), size: size}
	r.log = eventlog.New(r.pool)
	r.exec(t, "UPDATE tailroom.log SET partition_size = $1", size)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	writer := pgtest.Pool(t, pgtest.Writer(dsn))
	r.Reader = state.NewReader(state.Config{Pool: writer, Turn: eventlog.New(writer).Turn, Closes: closes})
	appends := pgtest.Pool(t, dsn+"&pool_max_conns=1")
	r.Appender = eventlog.NewAppender(eventlog.AppenderConfig{
		Log: r.log, Pool: appends, Timeout: patience, Tip: func() event.Cursor { return event.Cursor{} }, Committed: func(int64) {},
		NoPartition: func() {}, Metrics: eventlog.NewAppendMetrics(prometheus.NewRegistry()),
	})
	run(t, r.Appender.Run)
	return r
}

// run runs something until the test ends or it is stopped.
func run(t testing.TB, fn func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

// projection is an instance's.
type projection struct {
	*state.Projection
	figures *prometheus.Registry
	stop    func()
}

// project has an instance fold, or stand by. Its role is a mere writer.
func (r *rig) project(t testing.TB) *projection {
	t.Helper()
	return r.projectOn(t, pgtest.Writer(r.dsn))
}

func (r *rig) projectOn(t testing.TB, dsn string) *projection {
	t.Helper()
	p := &projection{figures: prometheus.NewRegistry()}
	var err error
	p.Projection, err = state.NewProjection(state.ProjectionConfig{DSN: dsn, Closes: closes, Metrics: p.figures})
	require.NoError(t, err)
	p.stop = run(t, p.Run)
	return p
}

func (p *projection) figure(t testing.TB, name string) float64 {
	t.Helper()
	families, err := p.figures.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	require.Fail(t, "no such figure", name)
	return 0
}

// closes is the rule of these tests: a type, and some data of another.
func closes(_, name string, data []byte) bool {
	var fields struct{ Status string }
	return name == "orderCancelled" || json.Unmarshal(data, &fields) == nil && fields.Status == "delivered"
}

func (r *rig) exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	_, err := r.pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

func value[T any](t testing.TB, r *rig, sql string, args ...any) T {
	t.Helper()
	rows, err := r.pool.Query(t.Context(), sql, args...)
	require.NoError(t, err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	require.NoError(t, err, sql)
	return v
}

// draft is an event of a stream.
func draft(tenant, stream, name, data string, rooms ...string) event.Draft {
	id := uuid.Must(uuid.NewV7())
	if rooms == nil {
		rooms = []string{"branch:b1"}
	}
	return event.Draft{
		ID: id, Tenant: tenant, Namespace: "/orders", Type: name, SchemaVersion: 1, Rooms: rooms, Stream: stream,
		OccurredAt: time.Now().UTC().Truncate(time.Microsecond), Actor: "user:test", CorrelationID: id.String(), Data: []byte(data),
	}
}

func (r *rig) append(t testing.TB, drafts ...event.Draft) event.Cursor {
	t.Helper()
	receipts, err := r.Append(t.Context(), nil, drafts)
	require.NoError(t, err)
	return receipts[len(receipts)-1].Cursor
}

// makePartitions makes those ahead.
func (r *rig) makePartitions(t testing.TB) {
	t.Helper()
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
}

// await waits until there are states at a cursor.
func (r *rig) await(t testing.TB, at event.Cursor) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, r.Await(ctx, at), at)
}

// tip is the end of the log.
func (r *rig) tip(t testing.TB) event.Cursor {
	t.Helper()
	b, err := r.log.Bounds(t.Context())
	require.NoError(t, err)
	return b.Tip
}

// all is everything of a query, in pages of some states, at one cursor.
func (r *rig) all(t testing.TB, q event.StateQuery) ([]event.State, event.Cursor) {
	t.Helper()
	var states []event.State
	if q.Namespaces == nil {
		q.Namespaces = []string{"/orders", "/printing-ws"}
	}
	if q.Limit == 0 {
		q.Limit = 7
	}
	for {
		page, err := r.Page(t.Context(), q)
		require.NoError(t, err)
		require.LessOrEqual(t, len(page.States), q.Limit)
		states = append(states, page.States...)
		if !page.More {
			require.True(t, slices.IsSortedFunc(states, func(a, b event.State) int { return a.Compare(b.StateKey) }))
			return states, page.Cursor
		}
		require.Positive(t, page.Last.Compare(q.After))
		q.At, q.After = &page.Cursor, page.Last
	}
}

// model is the plainest fold there is: of whole events, on decoded values.
type model map[event.StateKey]*modelState

type modelState struct {
	version, position int64
	rooms             []string
	heard             [][]string // of every event
	open              bool
	data              map[string]any
}

// patch is RFC 7396 as it is written there.
func patch(target, change any) any {
	changes, ok := change.(map[string]any)
	if !ok {
		return change
	}
	members, ok := target.(map[string]any)
	if !ok {
		members = map[string]any{}
	}
	for name, value := range changes {
		if value == nil {
			delete(members, name)
		} else {
			members[name] = patch(members[name], value)
		}
	}
	return members
}

func (m model) fold(t require.TestingT, e *event.Entry) {
	if e.Stream == "" {
		return
	}
	key := event.StateKey{Tenant: e.Tenant, Namespace: e.Namespace, Stream: e.Stream}
	s := m[key]
	if s == nil {
		s = &modelState{open: true, data: map[string]any{}}
		m[key] = s
	}
	var change any
	require.NoError(t, json.Unmarshal(e.Data, &change))
	s.data = patch(s.data, change).(map[string]any)
	s.version, s.position, s.rooms = e.Version, e.Cursor.Position, e.Rooms
	s.heard = append(s.heard, e.Rooms)
	s.open = s.open && !closes(e.Namespace, e.Type, e.Data)
}

// entries is the log up to a position.
func (r *rig) entries(t testing.TB, upto int64) []*event.Entry {
	t.Helper()
	var all []*event.Entry
	for after := int64(0); ; after = all[len(all)-1].Cursor.Position {
		page, err := r.log.Tail(t.Context(), after, 1_000_000)
		require.NoError(t, err)
		if all = append(all, page...); len(page) == 0 || after >= upto {
			return slices.DeleteFunc(all, func(e *event.Entry) bool { return e.Cursor.Position > upto })
		}
	}
}

// folded is the model of some events.
func folded(t require.TestingT, entries []*event.Entry) model {
	m := model{}
	for _, e := range entries {
		m.fold(t, e)
	}
	return m
}

// put is the model with states in the place of what it had.
func (m model) put(t require.TestingT, states []event.State) {
	for i := range states {
		s := &states[i]
		var data map[string]any
		require.NoError(t, json.Unmarshal(s.Data, &data), string(s.Data))
		m[s.StateKey] = &modelState{version: s.Version, position: s.Position, rooms: s.Rooms, open: s.Open, data: data}
	}
}

// requireSame compares what there is with what there should be.
func requireSame(t require.TestingT, want model, states []event.State, which ...any) {
	got := model{}
	got.put(t, states)
	require.Equal(t, want.lines(), got.lines(), which...)
}

// lines are a model that can be read.
func (m model) lines() []string {
	var lines []string
	for key, s := range m {
		data, err := json.Marshal(s.data) // keys in order
		if err != nil {
			panic(err)
		}
		lines = append(lines, fmt.Sprintf("%v v%d @%d %v open=%t %s", key, s.version, s.position, s.rooms, s.open, data))
	}
	slices.Sort(lines)
	return lines
}

// heardIn reports whether who is in some rooms could read every event.
func (s *modelState) heardIn(rooms []string) bool {
	return !slices.ContainsFunc(s.heard, func(event []string) bool { return !meet(event, rooms) })
}

func meet(a, b []string) bool {
	return slices.ContainsFunc(a, func(room string) bool { return slices.Contains(b, room) })
}

// where is the model of what a query selects.
func (m model) where(meant func(event.StateKey, *modelState) bool) model {
	list := model{}
	for key, s := range m {
		if meant(key, s) {
			list[key] = s
		}
	}
	return list
}
