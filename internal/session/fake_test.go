package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError + 1) // feeds fail on purpose
	goleak.VerifyTestMain(m)
}

// feed is a log in memory with one reader.
type feed struct {
	mu       sync.Mutex
	entries  []*event.Entry
	tip      event.Cursor
	batch    int // entries at once
	degraded string
	err      error
	say      func(after event.Cursor) (event.Batch, error) // instead of all that

	wake   chan<- struct{}
	topics []event.Topic
	reads  int
	closed bool
}

func newFeed() *feed { return &feed{tip: event.Cursor{Epoch: 1}, batch: 100} }

func (f *feed) open(topics []event.Topic, wake chan<- struct{}) Feed {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.topics, f.wake = topics, wake
	return f
}

// append appends events to rooms and wakes the session.
func (f *feed) append(rooms ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, room := range rooms {
		f.tip.Position++
		f.entries = append(f.entries, event.NewEntry(event.Event{
			Cursor: f.tip, Tenant: "c1", Namespace: "/orders", Rooms: []string{room}, Data: []byte("{}"),
		}))
	}
	f.signal()
}

// change changes how the feed behaves and wakes the session.
func (f *feed) change(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	f.signal()
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default: // awake, or not there yet
	}
}

func (f *feed) Read(_ context.Context, after event.Cursor) (event.Batch, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	if f.say != nil {
		return f.say(after)
	}
	if f.err != nil {
		return event.Batch{}, f.err
	}
	b := event.Batch{Next: f.tip, Live: true, Degraded: f.degraded}
	for _, e := range f.entries {
		matches := slices.ContainsFunc(e.Topics(nil), func(t event.Topic) bool { return slices.Contains(f.topics, t) })
		if e.Cursor.Position <= after.Position || !matches {
			continue
		}
		if len(b.Entries) == f.batch {
			b.Live, b.Next = false, b.Entries[f.batch-1].Cursor
			break
		}
		b.Entries = append(b.Entries, e)
	}
	return b, nil
}

// count is how often it was read.
func (f *feed) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reads
}

func (f *feed) Follow(topics []event.Topic) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.topics = topics
}

func (f *feed) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
}

// sink writes down what is said to it: a word for each frame.
type sink struct {
	start time.Time

	mu    sync.Mutex
	words []string
	times []time.Duration // since start
	last  *Frame
	fail  map[string]error // by the first letters of the word
	block chan struct{}    // when not nil, Send waits for it
	end   time.Time        // as EndBy has it
}

func (s *sink) EndBy(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = t
}

// endsIn is when the session is over, as the sink knows.
func (s *sink) endsIn() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Until(s.end)
}

func (s *sink) Send(f *Frame) error {
	var word string
	switch f.Kind {
	case Events:
		at := make([]string, len(f.Entries))
		for i, e := range f.Entries {
			at[i] = strconv.FormatInt(e.Cursor.Position, 10)
		}
		word = fmt.Sprintf("events %s to %s", strings.Join(at, ","), f.Cursor)
	case Live:
		word = "live " + f.Cursor.String()
	case Bookmark:
		word = "bookmark " + f.Cursor.String()
	case Reset:
		word = fmt.Sprintf("reset %s to %s", f.Reset.Reason, f.Reset.Resume)
	case Degraded:
		word = "degraded: " + f.Text
	case Expiring:
		word = fmt.Sprintf("expiring at %s", f.Expires.Sub(s.start))
	case GoAway:
		word = fmt.Sprintf("goaway %s in %s at %s", f.Text, f.Delay, f.Cursor)
	case Snapshot:
		word = fmt.Sprintf("snapshot %s of %d at %s, more: %t", f.Namespace, len(f.States), f.Cursor, f.More)
	}
	s.mu.Lock()
	block := s.block
	s.mu.Unlock()
	if block != nil {
		<-block
	}
	return s.write(word, f)
}

func (s *sink) Heartbeat() error { return s.write("beat", nil) }

func (s *sink) write(word string, f *Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.words, s.times = append(s.words, word), append(s.times, time.Since(s.start))
	if f != nil {
		s.last = f
	}
	for prefix, err := range s.fail {
		if strings.HasPrefix(word, prefix) {
			return err
		}
	}
	return nil
}

// refuse makes writes that begin with a word fail.
func (s *sink) refuse(word string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[word] = err
}

// heard returns what was said since it was last asked.
func (s *sink) heard() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	words := s.words
	s.words, s.times = nil, nil
	return words
}

// heardAt is heard, with the times.
func (s *sink) heardAt() map[string]time.Duration {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[string]time.Duration{}
	for i, word := range s.words {
		at[word] = s.times[i]
	}
	s.words, s.times = nil, nil
	return at
}

const heartbeat = 20 * time.Second

var rules = Rules{
	Known: func(namespace string) error {
		if namespace == "/orders" || namespace == "/printing-ws" {
			return nil
		}
		return problem.New(problem.UnknownNamespace, "there is no such namespace")
	},
	MaxRooms: 5, MaxNamespaces: 2,
	Limits: limit.New(limit.Config{Metrics: prometheus.NewRegistry()}),
}

// branch is a grant for b1 and b2, good for an hour of the bubble's time.
func branch() access.Grant {
	return access.Grant{
		Subject: "9", Role: access.Web, Tenant: "c1", Branches: []string{"b1", "b2"}, Expires: time.Now().Add(time.Hour),
	}
}

// running is a session with its feed and its sink.
type running struct {
	*Session
	*feed
	*sink
	ended  chan Reason
	cancel context.CancelFunc
}

// run runs a session on a feed, subscribed to all of /orders, until the test
// ends. Its beats come heartbeat apart, the first in the second half of one.
func run(t *testing.T, f *feed, changes ...func(*Config)) *running {
	t.Helper()
	r := &running{feed: f, sink: &sink{start: time.Now(), fail: map[string]error{}}, ended: make(chan Reason, 1)}
	c := Config{Open: f.open, Sink: r.sink, Grant: branch(), Rules: rules, Heartbeat: heartbeat, Start: f.tip}
	for _, change := range changes {
		change(&c)
	}
	var err error
	r.Session, err = New(c, []Subscription{{Namespace: "/orders"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.Session.Run(ctx) }()
	synctest.Wait()
	t.Cleanup(func() {
		cancel()
		<-r.Session.done
		require.True(t, f.closed)
	})
	return r
}

func from(position int64) func(*Config) {
	return func(c *Config) { c.Start = event.Cursor{Epoch: 1, Position: position} }
}

// still reports that the session has not ended.
func (r *running) still(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, r.ended)
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

var errBroken = errors.New("broken")
