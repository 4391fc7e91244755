package hub

import (
	"sort"

	"github.com/tailroom/tailroom/internal/event"
)

// topic is the part of the window that one Topic matches, and its readers.
type topic struct {
	key     event.Topic
	entries deque
	readers map[*Reader]struct{}
}

// deque is entries in order, taken off the front as the window moves on.
type deque struct {
	list []*event.Entry // list[:head] is gone
	head int
}

func (d *deque) len() int            { return len(d.list) - d.head }
func (d *deque) front() *event.Entry { return d.list[d.head] }
func (d *deque) push(e *event.Entry) { d.list = append(d.list, e) }

func (d *deque) back() *event.Entry  { return d.list[len(d.list)-1] }
func (d *deque) all() []*event.Entry { return d.list[d.head:] }

func (d *deque) popBack() {
	d.list[len(d.list)-1] = nil
	d.list = d.list[:len(d.list)-1]
}

func (d *deque) pop() {
	d.list[d.head] = nil
	d.head++
	if d.head > 32 && d.head > len(d.list)/2 {
		n := copy(d.list, d.list[d.head:])
		clear(d.list[n:])
		d.list, d.head = d.list[:n], 0
	}
}

// after returns the entries above a position. Most readers are near the end.
func (d *deque) after(position int64) []*event.Entry {
	list := d.list[d.head:]
	i := len(list)
	for range 16 {
		if i == 0 || list[i-1].Cursor.Position <= position {
			return list[i:]
		}
		i--
	}
	return list[sort.Search(i, func(j int) bool { return list[j].Cursor.Position > position }):]
}

// topicFor returns the topic, made if need be. The caller holds h.mu.
func (h *Hub) topicFor(key event.Topic) *topic {
	t := h.topics[key]
	if t == nil {
		t = &topic{key: key}
		h.topics[key] = t
	}
	return t
}

// forget drops a topic that holds nothing and nobody follows. The caller
// holds h.mu.
func (h *Hub) forget(t *topic) {
	if t.entries.len() == 0 && len(t.readers) == 0 {
		delete(h.topics, t.key)
	}
}
