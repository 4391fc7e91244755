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
	mu       sync.Mutex
	entries  []*event.Entry
	tip      event.Cursor
	floor    int64
	epochs   event.Epochs
	another  bool      // it is another database: the next append opens an epoch
	clock    time.Time // when the last event was recorded or epoch opened
	err      error     // of every read
	failures int       // so many reads of the tail fail

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
	if l.another {
		l.another = false
		l.open(l.tip.Position, 0)
	}
	l.tip.Position += 1 + hole
	e := event.NewEntry(event.Event{
		Cursor: l.tip, RecordedAt: l.now(), ID: uuid.New(), Tenant: tenant, Namespace: namespace, Type: "newOrder", Rooms: rooms,
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

// now is a time that was never before.
func (l *memoryLog) now() time.Time {
	l.clock = l.clock.Add(time.Microsecond)
	return l.clock
}

// failOver begins an epoch in which everything survived.
func (l *memoryLog) failOver() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open(l.tip.Position, 0)
}

// lose takes the last n entries away, as a failover to a standby that lagged:
// the next append opens an epoch.
func (l *memoryLog) lose(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.another = true
	l.cut(n)
}

// loseUnknowingly takes the last n entries away, as a volume that is put back:
// nothing tells that it is another one.
func (l *memoryLog) loseUnknowingly(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut(n)
}

// loseLife takes the newest epoch away, and n entries more than were in it. The
// first epoch stays.
func (l *memoryLog) loseLife(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.epochs) - 1
	if last == 0 {
		return
	}
	survived := l.epochs[last].Survived
	l.epochs = slices.Clone(l.epochs[:last])
	l.tip.Epoch = l.epochs.Newest()
	for _, e := range l.entries {
		if e.Cursor.Position > survived {
			n++
		}
	}
	l.another = true
	l.cut(n)
}

// cut is for who holds mu.
func (l *memoryLog) cut(n int) {
	l.entries = slices.Clone(l.entries[:max(0, len(l.entries)-n)])
	l.tip.Position = l.floor
	if n := len(l.entries); n > 0 {
		l.tip.Position = l.entries[n-1].Cursor.Position
	}
}

// open begins an epoch, which takes over what is above survived. The caller
// holds mu.
func (l *memoryLog) open(survived, atLeast int64) {
	l.tip.Epoch = max(l.tip.Epoch+1, atLeast)
	l.epochs = append(l.epochs, event.Epoch{Number: l.tip.Epoch, Survived: survived, OpenedAt: l.now()})
	l.entries = slices.Clone(l.entries)
	for i, e := range l.entries {
		if e.Cursor.Position > survived {
			taken := e.Event
			taken.Cursor.Epoch = l.tip.Epoch
			l.entries[i] = event.NewEntry(taken)
		}
	}
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
	if l.failures > 0 {
		l.failures--
		return nil, errAway
	}
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

func (l *memoryLog) Agreed(_ context.Context, entries []*event.Entry) (int64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	agreed := int64(0)
	for _, e := range l.entries { // recorded before what was read
		if p := e.Cursor.Position; p < entries[0].Cursor.Position && !e.RecordedAt.After(entries[0].RecordedAt) {
			agreed = p
		}
	}
	for _, e := range entries {
		if e.Cursor.Position <= l.floor || slices.ContainsFunc(l.entries, func(mine *event.Entry) bool {
			return mine.Cursor.Position == e.Cursor.Position && mine.ID == e.ID
		}) {
			agreed = e.Cursor.Position
		}
	}
	return agreed, l.err
}

func (l *memoryLog) Forsake(_ context.Context, loss event.Loss) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || loss.Newest != l.epochs.Newest() {
		return false, l.err
	}
	l.another = false
	l.open(min(loss.Survived, l.tip.Position), loss.Known+1)
	return true, nil
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
		System:  func(*event.Event) {},
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

func cursors(list []*event.Entry) string {
	text := make([]string, len(list))
	for i, e := range list {
		text[i] = e.Cursor.String()
	}
	return strings.Join(text, " ")
}
