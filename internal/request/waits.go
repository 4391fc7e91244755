package request

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
)

const (
	// maxWaits is how many requesters an instance lets wait, and maxTenantWaits how
	// many of one company.
	maxWaits       = 20_000
	maxTenantWaits = maxWaits / 4
	// maxTalkWaits is how many may wait at one correlation id: each of its events wakes
	// them all.
	maxTalkWaits = 256
	// maxSeen is how many events of a correlation id are kept for who waits, and maxKept
	// how many bytes for all of them. The answer is hardly ever behind more; then it is
	// read from the log.
	maxSeen = 8
	maxKept = 16 << 20
	// pollPeriod is how long silence is trusted.
	pollPeriod = time.Second
	// retryPause is between two tries while the log is away.
	retryPause = 250 * time.Millisecond
)

// Log is where answers are read from.
type Log interface {
	Answers(ctx context.Context, requests []eventlog.Place) (map[int64]eventlog.Place, error)
	Events(ctx context.Context, tenant string, positions []int64) (map[int64]*event.Entry, error)
}

// key is what a request and its answer have in common.
type key struct{ tenant, namespace, correlationID string }

// wait is one requester's.
type wait struct {
	key    key
	id     uuid.UUID     // of the request
	result chan *outcome // capacity 1, sent to once

	// Guarded by Waits.mu:
	position int64 // of the request; 0 until the log has it
	woken    bool  // before that
	seen     []*event.Entry
	settled  bool
}

// outcome is a request and its answer, or nothing when the log has lost the request.
type outcome struct{ request, reply *event.Entry }

// Waits are the requesters who wait on this instance. It is safe for concurrent use.
type Waits struct {
	log     Log
	metrics *metrics
	wake    chan struct{} // capacity 1: some are due
	drained chan struct{}
	count   atomic.Int64

	mu      sync.Mutex
	leaving bool
	talks   map[key]map[*wait]struct{}
	tenants map[string]int
	kept    int                // bytes, of what the waits have seen
	due     map[*wait]struct{} // to ask the table about
}

// NewWaits returns Waits for whom nobody waits yet. They must be told what the hub
// reads, by Seen, and Run must be running for anybody to be answered.
func NewWaits(log Log, reg prometheus.Registerer) *Waits {
	return &Waits{
		log: log, metrics: newMetrics(reg), wake: make(chan struct{}, 1), drained: make(chan struct{}),
		talks: map[key]map[*wait]struct{}{}, tenants: map[string]int{}, due: map[*wait]struct{}{},
	}
}

// begin lets somebody wait. The error is of code overloaded or draining.
func (w *Waits) begin(q publish.Question) (*wait, error) {
	n := &wait{key: key{q.Tenant, q.Namespace, q.CorrelationID}, id: q.ID, result: make(chan *outcome, 1)}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.leaving:
		return nil, draining()
	case w.count.Load() >= maxWaits || w.tenants[q.Tenant] >= maxTenantWaits || len(w.talks[n.key]) >= maxTalkWaits:
		return nil, problem.New(problem.Overloaded, "too many requests wait for their answer; nothing of this one was published").
			RetryAfter(time.Second)
	}
	if w.talks[n.key] == nil {
		w.talks[n.key] = map[*wait]struct{}{}
	}
	w.talks[n.key][n] = struct{}{}
	w.tenants[q.Tenant]++
	w.metrics.waiting.Set(float64(w.count.Add(1)))
	return n, nil
}

// placed says where the request of n is. When it was there before, the answer may be
// as well.
func (w *Waits) placed(n *wait, receipt event.Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n.position = receipt.Cursor.Position
	if receipt.Duplicate || n.woken {
		w.look(n)
	}
}

// look has the table asked about n. The caller holds w.mu.
func (w *Waits) look(n *wait) {
	w.due[n] = struct{}{}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// end takes n away.
func (w *Waits) end(n *wait) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.due, n)
	w.drop(n, func(*event.Entry) bool { return true })
	delete(w.talks[n.key], n)
	if len(w.talks[n.key]) == 0 {
		delete(w.talks, n.key)
	}
	if w.tenants[n.key.tenant]--; w.tenants[n.key.tenant] == 0 {
		delete(w.tenants, n.key.tenant)
	}
	w.metrics.waiting.Set(float64(w.count.Add(-1)))
}

// Seen is told what the hub has read, in order.
func (w *Waits) Seen(entries []*event.Entry) {
	if w.count.Load() == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range entries {
		if position, ok := e.Redacts(); ok {
			w.forget(position)
		}
		for n := range w.talks[key{e.Tenant, e.Namespace, e.CorrelationID}] {
			if len(n.seen) < maxSeen && w.kept+e.Size() <= maxKept {
				n.seen = append(n.seen, e)
				w.kept += e.Size()
			}
			switch {
			case e.ID == n.id: // the request itself
			case n.position > 0:
				w.look(n)
			default:
				n.woken = true
			}
		}
	}
}

// forget drops what was kept of an event whose data were erased: if it is needed, it is
// read from the log as it is now. The caller holds w.mu.
func (w *Waits) forget(position int64) {
	for _, list := range w.talks {
		for n := range list {
			w.drop(n, func(e *event.Entry) bool { return e.Cursor.Position == position })
		}
	}
}

// drop drops some of what was kept for n. The caller holds w.mu.
func (w *Waits) drop(n *wait, which func(*event.Entry) bool) {
	n.seen = slices.DeleteFunc(n.seen, func(e *event.Entry) bool {
		if !which(e) {
			return false
		}
		w.kept -= e.Size()
		return true
	})
}

// Drain ends all waits, and lets no others begin. The requests stay open.
func (w *Waits) Drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.leaving {
		w.leaving = true
		close(w.drained)
	}
}

// Run follows the log until ctx ends.
func (w *Waits) Run(ctx context.Context) error {
	poll := time.NewTimer(pollPeriod)
	defer poll.Stop()
	away := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake: // which puts no poll off
		case <-poll.C:
			w.lookAtAll()
			poll.Reset(pollPeriod)
		}
		err := w.ask(ctx)
		if err != nil {
			poll.Reset(retryPause)
		}
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				slog.WarnContext(ctx, "answers cannot be read", "component", "request", "error", err)
			} else {
				slog.InfoContext(ctx, "answers can be read again", "component", "request")
			}
		}
	}
}

// lookAtAll has the table asked about everybody.
func (w *Waits) lookAtAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, list := range w.talks {
		for n := range list {
			if n.position > 0 && !n.settled {
				w.due[n] = struct{}{}
			}
		}
	}
}

func draining() *problem.Error {
	return problem.New(problem.Draining, "this instance is going away and waits for no answers: "+
		"ask again, with the same id, to reach another").
		RetryAfter(drainRetry)
}
