package client

import (
	"encoding/json"
	"sync"
)

// maxBehind is how many bytes of events may wait for the handler.
const maxBehind = 16 << 20

// item is one thing for the dispatcher, in the order in which it came. One of
// event, reset, snapshot and status is set, or nothing but a cursor.
type item struct {
	event    json.RawMessage
	cursor   string // everything up to here is dealt with when this is
	reset    *Reset
	snapshot *Snapshot
	status   Phase
	reason   string
	from     *conn
}

// queue holds what was received and not handled. It outlives connections: the
// next one goes on behind it.
type queue struct {
	changed chan struct{} // of capacity one: something was pushed
	limit   int

	mu    sync.Mutex
	items []item
	bytes int
}

// push never blocks. It reports whether there is room for more.
func (q *queue) push(items ...item) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, items...)
	for _, i := range items {
		q.bytes += len(i.event)
	}
	select {
	case q.changed <- struct{}{}:
	default:
	}
	return q.bytes <= q.limit
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
	q.bytes -= len(i.event)
	return i, true
}

func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items, q.bytes = nil, 0
}
