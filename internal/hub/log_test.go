package hub

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tailroom/tailroom/internal/event"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError + 1) // the log is taken away on purpose
	goleak.VerifyTestMain(m)
}

// memoryLog is a log that behaves as PostgreSQL's does, in memory.
type memoryLog struct {
	mu      sync.Mutex
	entries []*event.Entry
	tip     event.Cursor
	floor   int64
	epochs  event.Epochs
	lost    bool  // the next append opens an epoch
	err     error // of every read

	tails, pages, bounds int // how often each was read
	// gate, when not nil, is passed by every Page and Bounds after it has been
	// counted and before it looks; at once is how many stand before it.
	gate   chan struct{}
	atGate int
	most   int
}

var _ Log = (*memoryLog)(nil)

func newMemoryLog() *memoryLog {
	return &memoryLog{epochs: event.Epochs{{Number: 1}}, tip: event.Cursor{Epoch: 1}}
}

// append appends an event after a hole of some positions.
func (l *memoryLog) append(tenant, namespace string, hole int64, size int, rooms ...string) *event.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		l.lost = false
		l.open()
	}
	l.tip.Position += 1 + hole
	e := event.NewEntry(event.Event{
		Cursor: l.tip, ID: uuid.New(), Tenant: tenant, Namespace: namespace, Type: "newOrder", Rooms: rooms,
		Data: []byte(`"` + strings.Repeat("x", size) + `"`),
	})
	l.entries = append(l.entries, e)
	return e
}

// some appends n small events to a room.
func (l *memoryLog) some(n int, room string) {
	for range n {
		l.append("c1", "/orders", 0, 10, room)
	}
}

// failOver begins an epoch in which everything survived.
func (l *memoryLog) failOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open()
}

// lose takes the last n entries away, as a failover to a standby that lagged.
// The next append opens the epoch.
func (l *memoryLog) lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = slices.Clone(l.entries[:max(0, len(l.entries)-n)])
	l.tip.Position = l.floor
	if n := len(l.entries); n > 0 {
		l.tip.Position = l.entries[n-1].Cursor.Position
	}
	l.lost = true
}

// open begins an epoch. The caller holds mu.
func (l *memoryLog) open() {
	l.tip.Epoch++
	l.epochs = append(l.epochs, event.Epoch{Number: l.tip.Epoch, Survived: l.tip.Position})
}

// holds is Epochs.Holds of this moment.
func (l *memoryLog) holds(c event.Cursor) (event.Cursor, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epochs.Holds(c, l.tip)
}

// drop drops what is at and below a position.
func (l *memoryLog) drop(floor int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.floor = floor
	l.entries = slices.DeleteFunc(l.entries, func(e *event.Entry) bool { return e.Cursor.Position <= floor })
}

func (l *memoryLog) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *memoryLog) all() []*event.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

func (l *memoryLog) count(which *int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *which
}

func (l *memoryLog) pass(counter *int) {
	l.mu.Lock()
	*counter++
	gate := l.gate
	if gate != nil {
		l.atGate++
		l.most = max(l.most, l.atGate)
	}
	l.mu.Unlock()
	if gate != nil {
		<-gate
		l.mu.Lock()
		l.atGate--
		l.mu.Unlock()
	}
}

func (l *memoryLog) Tail(_ context.Context, after int64, limit int) ([]*event.Entry, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tails++
	return l.after(after, limit, func(*event.Entry) bool { return true }), l.err
}

func (l *memoryLog) Page(_ context.Context, topics []event.Topic, after int64, limit int) (event.Page, error) {
	l.pass(&l.pages)
	l.mu.Lock()
	defer l.mu.Unlock()
	page := event.Page{Bounds: event.Bounds{Tip: l.tip, Floor: l.floor}, Next: l.tip}
	page.Entries = l.after(after, limit, func(e *event.Entry) bool { return follows(topics, e) })
	if len(page.Entries) == limit {
		page.Next = page.Entries[limit-1].Cursor
	}
	return page, l.err
}

func (l *memoryLog) Bounds(context.Context) (event.Bounds, error) {
	l.pass(&l.bounds)
	l.mu.Lock()
	defer l.mu.Unlock()
	return event.Bounds{Tip: l.tip, Floor: l.floor}, l.err
}

func (l *memoryLog) Epochs(context.Context) (event.Epochs, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.epochs), l.err
}

// after is for who holds mu.
func (l *memoryLog) after(position int64, limit int, match func(*event.Entry) bool) []*event.Entry {
	var list []*event.Entry
	for _, e := range l.entries {
		if e.Cursor.Position > position && len(list) < limit && match(e) {
			list = append(list, e)
		}
	}
	return list
}

// follows reports whether one of the topics matches e.
func follows(topics []event.Topic, e *event.Entry) bool {
	return slices.ContainsFunc(e.Topics(nil), func(t event.Topic) bool { return slices.Contains(topics, t) })
}

// newHub returns a hub on l that does not run yet.
func newHub(t testing.TB, l *memoryLog, window int) *Hub {
	t.Helper()
	return newHubOn(t, l, window)
}

func newHubOn(t testing.TB, l Log, window int) *Hub {
	t.Helper()
	h, err := New(t.Context(), Config{
		Log: l, WindowBytes: window, PollEvery: func() time.Duration { return time.Minute },
		Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	require.NoError(t, err)
	return h
}

// run runs h until the test ends.
func run(t *testing.T, h *Hub) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// open returns a reader and its wake.
func open(t *testing.T, h *Hub, topics ...event.Topic) (*Reader, chan struct{}) {
	t.Helper()
	wake := make(chan struct{}, 1)
	r := h.NewReader(topics, wake)
	t.Cleanup(r.Close)
	return r, wake
}

// woken reports whether a wake is there, and takes it.
func woken(wake chan struct{}) bool {
	select {
	case <-wake:
		return true
	default:
		return false
	}
}

func room(name string) event.Topic {
	return event.Topic{Tenant: "c1", Namespace: "/orders", Room: name}
}

func at(position int64) event.Cursor { return event.Cursor{Epoch: 1, Position: position} }

func positions(list []*event.Entry) string {
	text := make([]string, len(list))
	for i, e := range list {
		text[i] = strconv.FormatInt(e.Cursor.Position, 10)
	}
	return strings.Join(text, " ")
}
