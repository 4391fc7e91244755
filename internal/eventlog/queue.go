package eventlog

import (
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// What may wait for the log, in all and of one tenant. Beyond it publishers are
// told to come back: a queue that grows without end only hides that the log is
// too slow, and one that a single tenant fills is closed to all others.
const (
	maxQueueGroups  = 20_000
	maxQueueBytes   = 64 << 20
	maxTenantGroups = maxQueueGroups / 4
	maxTenantBytes  = maxQueueBytes / 4
)

// queue is the groups that wait for the next batch. Each tenant has a lane, and
// the lanes take turns. A group that must not be taken yet stands in a line
// behind the one it waits for, out of its lane's way. So whatever is in a lane
// may be taken, and nothing walks over all that waits.
type queue struct {
	wake    chan struct{} // capacity 1: something was added
	metrics *AppendMetrics

	mu      sync.Mutex
	groups  int
	bytes   int
	arrived int64 // groups so far

	lanes map[string]*lane // by tenant
	turns sorted[*lane]
	clock int64 // the start of the lane that had the last turn

	lines  map[any]*line
	closed []*line // until the next batch
}

func newQueue(m *AppendMetrics) *queue {
	return &queue{wake: make(chan struct{}, 1), metrics: m, lanes: map[string]*lane{}, lines: map[any]*line{}}
}

// add lets g wait, or reports false when the queue, or its tenant's share of
// it, is full.
func (q *queue) add(g *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lanes[g.tenant()]
	if l == nil {
		l = &lane{tenant: g.tenant()}
	}
	if q.groups >= maxQueueGroups || overfull(q.bytes, g.bytes, maxQueueBytes) ||
		l.groups >= maxTenantGroups || overfull(l.bytes, g.bytes, maxTenantBytes) {
		return false
	}
	q.lanes[l.tenant] = l
	q.arrived++
	g.lane, g.arrival = l, q.arrived
	q.account(g, 1)
	if q.standsInFront(g) {
		q.ready(g)
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// overfull reports whether more does not fit beside what is there. Where nothing
// is, anything fits: a single group may be larger than the limit.
func overfull(there, more, limit int) bool { return there > 0 && there+more > limit }

// remove takes g out and reports whether it was still waiting.
func (q *queue) remove(g *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if g.in == nil {
		return false
	}
	g.leave()
	q.discharge(g)
	return true
}

// take removes and returns the next batch; it is empty when nothing waits.
// Groups that could spoil each other's verdict are kept apart: the later one
// waits for the next batch, and with it all later ones of its source, so that
// what one connection publishes stays in order. The batch ends when the next
// group has no room in it, or its tenant has given enough.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open()
	b, s := &batch{}, newScope()
	for len(q.turns) > 0 {
		l := q.turns[0]
		if len(l.ready) == 0 {
			q.retire(l)
			continue
		}
		g := l.ready[0]
		if !b.fits(g) || !s.fits(g) {
			break
		}
		g.leave()
		if key := s.conflict(g); key != nil {
			q.park(g, key)
			continue
		}
		b.add(g)
		s.add(g)
		q.charge(l, g)
		q.discharge(g)
	}
	return b
}

// discharge takes g out of the accounts, and lets come forward who stood behind
// it.
func (q *queue) discharge(g *pending) {
	q.account(g, -1)
	for _, l := range [...]*line{g.sourceLine, g.keyLine} {
		if l != nil && l.front == g {
			q.advance(l)
		}
	}
	q.forget(g.lane)
}

// account counts g in, or with -1 out.
func (q *queue) account(g *pending, sign int) {
	q.groups += sign
	q.bytes += sign * g.bytes
	g.lane.groups += sign
	g.lane.bytes += sign * g.bytes
	q.metrics.waiting.Set(float64(q.groups))
	q.metrics.bytes.Set(float64(q.bytes))
}

// pending is a group that waits for its verdict.
type pending struct {
	source any
	drafts []event.Draft
	bytes  int
	// deadline is when its publisher is told that the log is unavailable.
	deadline time.Time
	// tried says that an attempt ended without an answer: ids that are known
	// now may be known from it.
	tried   bool
	verdict chan verdict // capacity 1, sent to once

	// The queue's own:
	arrival    int64
	lane       *lane
	in         *sorted[*pending] // a lane's or a line's; nil when it waits no more
	place      int               // in it
	sourceLine *line             // what it stands in, nil for none
	keyLine    *line
}

// wait puts g among those that wait in a lane or a line, and leave takes it away.
func (g *pending) wait(in *sorted[*pending]) {
	g.in = in
	in.add(g)
}

func (g *pending) leave() {
	g.in.remove(g.place)
	g.in = nil
}

// Before is the order of waiting.
func (g *pending) Before(other *pending) bool { return g.arrival < other.arrival }

// Moved is told the place by the heap.
func (g *pending) Moved(place int) { g.place = place }

// tenant is whose the group is; a group is of one.
func (g *pending) tenant() string { return g.drafts[0].Tenant }
