package limit

import (
	"container/list"
	"sync"
)

// idlers are the connections between two requests, the one that has been silent for
// longest first. One whose next header has begun is among them until that has
// come: a byte now and then must not make it anything better.
type idlers struct {
	mu   sync.Mutex
	list list.List // of *Conn
}

// add puts a connection at the end.
func (i *idlers) add(c *Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.place == nil {
		c.place = i.list.PushBack(c)
	}
}

// again puts one that is there to the end.
func (i *idlers) again(c *Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.place != nil {
		i.list.MoveToBack(c.place)
	}
}

func (i *idlers) remove(c *Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if c.place != nil {
		i.list.Remove(c.place)
		c.place = nil
	}
}

// oldest is who has been silent for longest, nil when there is nobody.
func (i *idlers) oldest() *Conn {
	i.mu.Lock()
	defer i.mu.Unlock()
	if first := i.list.Front(); first != nil {
		return first.Value.(*Conn) //nolint:forcetypeassert // nothing else is put in
	}
	return nil
}
