package hub

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/fair"
)

// Log is what the hub reads from.
type Log interface {
	// Tail reads up to limit events of everybody after a position, in order.
	Tail(ctx context.Context, after int64, limit int) ([]*event.Entry, error)
	// Page reads up to limit events of the topics after a position, in order.
	Page(ctx context.Context, topics []event.Topic, after int64, limit int) (event.Page, error)
	Bounds(ctx context.Context) (event.Bounds, error)
	Lives
}

// Lives are the log's, as far as a hub has to do with them.
type Lives interface {
	Epochs(ctx context.Context) (event.Epochs, error)
	// Agreed is the last position up to which the log still is the one that
	// these entries, in order and at least one, were read from.
	Agreed(ctx context.Context, entries []*event.Entry) (int64, error)
	// Forsake begins a new epoch for a log that has lost its end, unless
	// somebody else has begun one meanwhile.
	Forsake(ctx context.Context, loss event.Loss) (bool, error)
}

const (
	// tailRows is how many new events are read at once at most; the log gives
	// fewer when they are large.
	tailRows = 1000
	// fullBytes is the size of entries above which a page may have been cut for
	// it, so that there may be more.
	fullBytes = 1 << 20
	// preload is how many of the newest positions a starting hub reads, so that
	// clients that come back after a deploy cost no SQL.
	preload = 20_000
	// retryPause is between two tries while the log is away.
	retryPause = 250 * time.Millisecond
	// tailTimeout bounds one read of the tail.
	tailTimeout = 5 * time.Second
)

// Config is what a Hub needs.
type Config struct {
	Log         Log
	WindowBytes int                  // memory for the window, about
	PollEvery   func() time.Duration // how long to trust silence; asked anew each time
	System      func(*event.Event)   // hears the events of event.System, in order; it must not block
	Seen        func([]*event.Entry) // hears of everything new, in order; it must not block; nil is nobody
	Metrics     *Metrics
}

// Hub is an instance's window on the log. It is safe for concurrent use.
type Hub struct {
	log       Log
	limit     int
	pollEvery func() time.Duration
	system    func(*event.Event)
	seen      func([]*event.Entry)
	metrics   *Metrics

	wake   chan struct{} // capacity 1: the log may have grown
	hinted atomic.Int64  // the highest position heard of

	position atomic.Int64 // tip.Position, for Wake
	suspect  atomic.Bool  // the line to the log broke: it may be another log now

	redactions atomic.Int64 // heard of

	life  context.Context //nolint:containedctx // of reads that several readers share: it ends with Run
	end   context.CancelFunc
	fresh fresh
	slots *fair.Gate // admission of cold reads

	coldMu sync.Mutex
	cold   map[string]*coldRead // that somebody waits for

	mu       sync.RWMutex
	window   deque
	bytes    int
	floor    int64        // all above, up to tip, is in the window
	tip      event.Cursor // the newest position known
	epochs   event.Epochs // the log's lives, as far as known
	oldest   event.Cursor // where the log began when they were read
	topics   map[event.Topic]*topic
	readers  map[*Reader]struct{}
	degraded string
}

// New returns a Hub that has read the newest part of the log.
func New(ctx context.Context, c Config) (*Hub, error) {
	h := &Hub{
		log: c.Log, limit: c.WindowBytes, pollEvery: c.PollEvery, system: c.System, seen: c.Seen, metrics: c.Metrics,
		wake: make(chan struct{}, 1), slots: fair.NewGate(coldSlots, coldShare), cold: map[string]*coldRead{},
		topics: map[event.Topic]*topic{}, readers: map[*Reader]struct{}{},
	}
	h.life, h.end = context.WithCancel(context.WithoutCancel(ctx))
	h.fresh = fresh{life: h.life, read: c.Log.Bounds}
	if err := h.open(ctx); err != nil {
		h.end()
		return nil, err
	}
	return h, nil
}

// open reads the newest part of the log.
func (h *Hub) open(ctx context.Context) error {
	b, err := h.log.Bounds(ctx)
	if err != nil {
		return err
	}
	h.floor = max(b.Tip.Position-preload, b.Floor)
	h.tip = event.Cursor{Epoch: b.Tip.Epoch, Position: h.floor}
	if _, err := h.verify(ctx); err != nil {
		return err
	}
	return h.catchUp(ctx)
}

// Wake says that the log may have grown to this position; 0 is "look, and not
// only for what is new": the line to the log was broken. It never blocks.
func (h *Hub) Wake(last int64) {
	if last == 0 {
		h.suspect.Store(true)
	}
	if last != 0 && last <= h.position.Load() {
		return // another hint of it came first
	}
	if last > h.hinted.Load() {
		h.hinted.Store(last)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Tip is the newest position the hub has read.
func (h *Hub) Tip() event.Cursor {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.tip
}

// Degraded says why the hub cannot read the log, "" when it can.
func (h *Hub) Degraded() string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.degraded
}

// Run follows the log until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	defer h.end()
	poll := time.NewTimer(h.pollEvery())
	defer poll.Stop()
	for {
		err := h.catchUp(ctx)
		if err != nil && ctx.Err() == nil && h.Degraded() == "" {
			err = h.catchUp(ctx) // it may have been a connection that was dead already
		}
		if ctx.Err() != nil {
			return nil
		}
		h.setDegraded(ctx, err)
		if err != nil {
			poll.Reset(retryPause)
		} else {
			poll.Reset(h.pollEvery())
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-poll.C:
			h.suspect.Store(true) // in silence there is time to look closely
		}
	}
}

// catchUp reads the log to its end. After an error it is suspect: what answers
// next may be another log.
func (h *Hub) catchUp(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			h.suspect.Store(true)
		}
	}()
	if h.suspect.Swap(false) {
		if _, err := h.verify(ctx); err != nil {
			return err
		}
	}
	for {
		tip := h.Tip()
		unheard := h.hinted.Load() <= tip.Position
		readCtx, cancel := context.WithTimeout(ctx, tailTimeout)
		entries, err := h.log.Tail(readCtx, tip.Position, tailRows)
		cancel()
		if err != nil || len(entries) == 0 {
			return err
		}
		if h.unknown(entries[len(entries)-1].Cursor) {
			if rewound, err := h.verify(ctx); err != nil {
				return err
			} else if rewound {
				continue // there is more than what comes after the old tip
			}
		}
		if err := h.renew(ctx, entries); err != nil {
			return err
		}
		for _, e := range entries {
			if e.Namespace == event.System {
				h.system(&e.Event)
			}
		}
		if unheard {
			h.metrics.polled.Add(float64(len(entries)))
		}
		bytes := h.take(entries)
		if h.seen != nil {
			h.seen(entries)
		}
		if len(entries) < tailRows && bytes < fullBytes {
			return nil
		}
	}
}

// take adds entries to the window and wakes whoever follows one of them.
func (h *Hub) take(entries []*event.Entry) (bytes int) {
	var keys []event.Topic
	touched := map[*topic]struct{}{}
	h.mu.Lock()
	for _, e := range entries {
		keys = e.Topics(keys[:0])
		for _, key := range keys {
			t := h.topicFor(key)
			t.entries.push(e)
			touched[t] = struct{}{}
		}
		h.window.push(e)
		bytes += e.Size()
	}
	h.bytes += bytes
	h.tip = entries[len(entries)-1].Cursor
	h.position.Store(h.tip.Position)
	h.evict()
	h.metrics.window(h.window.len(), h.bytes, h.tip)
	h.mu.Unlock()
	h.metrics.read.Add(float64(len(entries)))

	h.mu.RLock()
	defer h.mu.RUnlock()
	for t := range touched {
		for r := range t.readers {
			r.signal()
		}
	}
	return bytes
}

// evict drops the oldest entries until the window is within its bound.
func (h *Hub) evict() {
	var keys []event.Topic
	for h.bytes > h.limit && h.window.len() > 1 {
		e := h.window.front()
		h.window.pop()
		h.bytes -= e.Size()
		h.floor = e.Cursor.Position
		keys = e.Topics(keys[:0])
		for _, key := range keys {
			// The oldest of the window is the oldest of each of its topics.
			t := h.topics[key]
			t.entries.pop()
			h.forget(t)
		}
	}
}

// setDegraded remembers whether the log can be read, and wakes every reader
// when that has changed.
func (h *Hub) setDegraded(ctx context.Context, err error) {
	reason := ""
	if err != nil {
		reason = "the log cannot be read"
	}
	h.mu.Lock()
	changed := h.degraded != reason
	h.degraded = reason
	h.mu.Unlock()
	if !changed {
		return
	}
	if err != nil {
		slog.ErrorContext(ctx, "the log cannot be read", "component", "hub", "error", err)
	} else {
		slog.InfoContext(ctx, "the log can be read again", "component", "hub")
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	for r := range h.readers {
		r.signal()
	}
}
