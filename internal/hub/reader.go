package hub

import (
	"context"

	"github.com/tailroom/tailroom/internal/event"
)

// A batch from the window holds at most this much, unless a single event is
// larger: what one write to a socket should carry.
const (
	batchEntries = 256
	batchBytes   = 64 << 10
)

// Reader is one session's view of the hub: some topics and a wake. Its methods
// are for one goroutine.
type Reader struct {
	hub    *Hub
	wake   chan<- struct{}
	topics []*topic // guarded by hub.mu
	merged []*event.Entry
	rest   [][]*event.Entry
}

// NewReader returns a Reader of these topics. wake, of capacity 1, is signalled
// when there may be something to read. Close the Reader.
func (h *Hub) NewReader(topics []event.Topic, wake chan<- struct{}) *Reader {
	r := &Reader{hub: h, wake: wake}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readers[r] = struct{}{}
	r.follow(topics)
	return r
}

func (r *Reader) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Follow replaces the reader's topics.
func (r *Reader) Follow(topics []event.Topic) {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.unfollow()
	r.follow(topics)
}

// Close takes the reader out of the hub.
func (r *Reader) Close() {
	r.hub.mu.Lock()
	defer r.hub.mu.Unlock()
	r.unfollow()
	delete(r.hub.readers, r)
}

func (r *Reader) follow(topics []event.Topic) {
	r.topics = make([]*topic, len(topics))
	for i, key := range topics {
		t := r.hub.topicFor(key)
		if t.readers == nil {
			t.readers = map[*Reader]struct{}{}
		}
		t.readers[r] = struct{}{}
		r.topics[i] = t
	}
}

func (r *Reader) unfollow() {
	for _, t := range r.topics {
		delete(t.readers, r)
		r.hub.forget(t)
	}
	r.topics = nil
}

// Read returns what comes after a cursor, without waiting for news: an empty
// Live batch means that there is nothing yet. Only a read older than the
// window does I/O. The error is an *event.Reset when the cursor is older than
// the log. The batch is valid until the next Read.
func (r *Reader) Read(ctx context.Context, after event.Cursor) (event.Batch, error) {
	b, keys, err := r.readWindow(after)
	if keys == nil {
		return b, err
	}
	return r.hub.readCold(ctx, keys, after)
}

// readWindow merges the topics' entries after the cursor. It returns the
// topics' keys instead when the window does not reach back that far.
func (r *Reader) readWindow(after event.Cursor) (event.Batch, []event.Topic, error) {
	h := r.hub
	h.mu.RLock()
	defer h.mu.RUnlock()
	if reset := h.diverged(after); reset != nil {
		return event.Batch{}, nil, reset
	}
	if after.Epoch > h.tip.Epoch {
		// What is held may be of a past that the reader's epoch does not have.
		h.Wake(0)
		return event.Batch{Next: after, Live: true, Degraded: h.degraded}, nil, nil
	}
	if after.Position < h.floor {
		keys := make([]event.Topic, len(r.topics))
		for i, t := range r.topics {
			keys[i] = t.key
		}
		return event.Batch{}, keys, nil
	}
	r.rest = r.rest[:0]
	for _, t := range r.topics {
		if list := t.entries.after(after.Position); len(list) > 0 {
			r.rest = append(r.rest, list)
		}
	}
	b := event.Batch{Next: after, Degraded: h.degraded}
	b.Entries, b.Live = r.merge()
	switch {
	case !b.Live:
		b.Next = b.Entries[len(b.Entries)-1].Cursor
	case h.tip.Position > after.Position:
		b.Next = h.tip
	}
	return b, nil, nil
}

// merge takes the entries of r.rest in order of position, each once, up to a
// batch. It reports whether that is all of them.
func (r *Reader) merge() (merged []*event.Entry, complete bool) {
	// The entries are copied: the topics' memory moves once the lock is gone.
	clear(r.merged)
	r.merged = r.merged[:0]
	bytes := 0
	for len(r.rest) > 0 {
		first := 0
		for i := 1; i < len(r.rest); i++ {
			if r.rest[i][0].Cursor.Position < r.rest[first][0].Cursor.Position {
				first = i
			}
		}
		e := r.rest[first][0]
		if n := len(r.merged); n == 0 || r.merged[n-1] != e {
			if n == batchEntries || n > 0 && bytes+len(e.JSON()) > batchBytes {
				return r.merged, false
			}
			r.merged = append(r.merged, e)
			bytes += len(e.JSON())
		}
		if r.rest[first] = r.rest[first][1:]; len(r.rest[first]) == 0 {
			r.rest[first] = r.rest[len(r.rest)-1]
			r.rest = r.rest[:len(r.rest)-1]
		}
	}
	return r.merged, true
}
