package client

import (
	"encoding/json"
	"sync"
)

const (
	// maxBehind is how many bytes of events and states may wait for the handler.
	maxBehind = 16 << 20
	// maxWider is how often a snapshot gets twice the room.
	maxWider = 6
)

// item is one thing for the dispatcher, in the order in which it came. One of
// event, reset, snapshot and status is set, or nothing but a cursor.
type item struct {
	event    json.RawMessage
	cursor   string // everything up to here is dealt with when this is
	reset    *Reset
	snapshot *Snapshot
	size     int // of the snapshot's message, in bytes
	status   Phase
	reason   string
	from     *conn
}

// queue holds what was received and not handled. It outlives connections: the
// next one goes on behind it.
type queue struct {
	changed chan struct{} // of capacity one: there is something to do
	limit   int

	mu    sync.Mutex
	items []item
	bytes int
}

// push never blocks. It returns how many bytes wait.
func (q *queue) push(items ...item) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, items...)
	for _, i := range items {
		q.bytes += len(i.event) + i.size
	}
	q.signal()
	return q.bytes
}

// signal has the dispatcher look.
func (q *queue) signal() {
	select {
	case q.changed <- struct{}{}:
	default:
	}
}

// full reports whether there is no room for more events.
func (q *queue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.bytes > q.limit
}

func (q *queue) pop() (item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		q.items = nil // what it grew to
		return item{}, false
	}
	i := q.items[0]
	q.items[0] = item{}
	q.items = q.items[1:]
	q.bytes -= len(i.event) + i.size
	return i, true
}

func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.bytes = nil, 0
}
