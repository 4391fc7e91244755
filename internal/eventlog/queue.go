package eventlog

import (
	"sync"
	"time"

	"github.com/google/uuid"

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

// queue is the groups that wait for the next batch, oldest first.
type queue struct {
	wake chan struct{} // capacity 1: something was added

	mu      sync.Mutex
	groups  []*pending
	bytes   int
	tenants map[string]*share
}

// share is how much of the queue is one tenant's.
type share struct{ groups, bytes int }

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1), tenants: map[string]*share{}} }

// add appends g, or reports false when the queue, or its tenant's share of it,
// is full.
func (q *queue) add(g *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.tenants[g.tenant()]
	if mine == nil {
		mine = &share{}
	}
	if len(q.groups) >= maxQueueGroups || q.bytes+g.bytes > maxQueueBytes ||
		mine.groups >= maxTenantGroups || mine.bytes+g.bytes > maxTenantBytes {
		return false
	}
	q.tenants[g.tenant()] = mine
	mine.groups++
	mine.bytes += g.bytes
	q.bytes += g.bytes
	q.groups = append(q.groups, g)
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// remove takes g out and reports whether it was still waiting.
func (q *queue) remove(g *pending) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.groups {
		if other == g {
			q.groups = append(q.groups[:i], q.groups[i+1:]...)
			q.leave(g)
			return true
		}
	}
	return false
}

// take removes and returns the next batch; it is empty when nothing waits.
// Groups that could spoil each other's verdict are kept apart: the later one
// waits for the next batch, and with it all later ones of its source, so that
// what one connection publishes stays in order.
func (q *queue) take() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	b := &batch{}
	s := scope{ids: map[idKey]struct{}{}, streams: map[streamKey]bool{}, deferred: map[any]struct{}{}}
	var left []*pending
	for i, g := range q.groups {
		if len(b.groups) > 0 && (b.events+len(g.drafts) > maxBatchEvents || b.bytes+g.bytes > maxBatchBytes) {
			left = append(left, q.groups[i:]...)
			break
		}
		if !s.admit(g) {
			left = append(left, g)
			continue
		}
		b.groups = append(b.groups, g)
		b.events += len(g.drafts)
		b.bytes += g.bytes
		q.leave(g)
	}
	q.groups = left
	return b
}

// leave takes g out of the accounts.
func (q *queue) leave(g *pending) {
	q.bytes -= g.bytes
	mine := q.tenants[g.tenant()]
	mine.groups--
	mine.bytes -= g.bytes
	if mine.groups == 0 {
		delete(q.tenants, g.tenant())
	}
}

type idKey struct {
	tenant string
	id     uuid.UUID
}

// scope is what a batch that is being formed touches already.
type scope struct {
	ids      map[idKey]struct{}
	streams  map[streamKey]bool // true: with an expected version
	deferred map[any]struct{}   // sources with a group that waits
}

// admit reports whether g can be judged beside the groups admitted so far,
// and takes it in if so.
func (s *scope) admit(g *pending) bool {
	if !s.compatible(g) {
		s.deferred[g.source] = struct{}{}
		return false
	}
	for i := range g.drafts {
		d := &g.drafts[i]
		s.ids[idKey{d.Tenant, d.ID}] = struct{}{}
		if d.Stream != "" {
			key := keyOf(d)
			s.streams[key] = s.streams[key] || d.ExpectedVersion.Set
		}
	}
	return true
}

func (s *scope) compatible(g *pending) bool {
	if _, waits := s.deferred[g.source]; waits && g.source != nil {
		return false
	}
	for i := range g.drafts {
		d := &g.drafts[i]
		if _, taken := s.ids[idKey{d.Tenant, d.ID}]; taken {
			return false
		}
		if d.Stream == "" {
			continue
		}
		if conditional, touched := s.streams[keyOf(d)]; touched && (conditional || d.ExpectedVersion.Set) {
			return false
		}
	}
	return true
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
}

// tenant is whose the group is; a group is of one.
func (g *pending) tenant() string { return g.drafts[0].Tenant }
