package limit

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

// Honest clients who come at once must not drive out each other before they have
// spoken. So a connection may say nothing for the time of a handshake before it goes
// to make room, unless its address has more than a few such.
const (
	handshake = 2 * time.Second
	fewSilent = 16
)

// peers are the open connections by the address at their other end, and among them
// those with no request under way, who are the first to go. Whether one waits is
// decided under one lock, so that nobody is chosen twice, or when he is closed.
type peers struct {
	mu    sync.Mutex
	known map[netip.Addr]*peer
	queue // of everybody
}

// peer is one address: of IPv6 a /64. A connection of a proxy is a peer by itself.
type peer struct {
	address netip.Addr
	open    int
	queue
}

// queue has the connections that wait for a request: silent ones, which have never
// sent a whole header, and idle ones, which have. One whose next header has begun is
// idle until that has come: a byte now and then must not make it anything better.
// Who has waited for longest stands first.
type queue struct{ silent, idle list.List } // of *Conn

// place is a connection's in the queues, guarded by their lock.
type place struct {
	peer         *peer
	since        time.Time     // it is open
	own, general *list.Element // in the peer's queue and in everybody's; nil when it does not wait
	barred       bool          // it was chosen to go, or is closed
	left         bool          // it is counted out
}

// enter counts a connection in.
func (p *peers) enter(c *Conn, address netip.Addr, proxy bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.place.since = time.Now()
	c.place.peer = p.known[address]
	if c.place.peer == nil || proxy {
		c.place.peer = &peer{address: address}
	}
	if !proxy {
		p.known[address] = c.place.peer
	}
	c.place.peer.open++
}

// leave counts it out, and reports whether it was in.
func (p *peers) leave(c *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bar(c)
	if c.place.left {
		return false
	}
	c.place.left = true
	known := c.place.peer
	if known.open--; known.open == 0 && p.known[known.address] == known {
		delete(p.known, known.address)
	}
	return true
}

// wait puts a connection at the end of its queues.
func (p *peers) wait(c *Conn, silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.place.own == nil && !c.place.barred {
		c.place.own, c.place.general = c.place.peer.add(c, silent), p.add(c, silent)
	}
}

// again puts one that waits to the end of the idle ones.
func (p *peers) again(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.place.own != nil {
		c.place.peer.idle.MoveToBack(c.place.own)
		p.idle.MoveToBack(c.place.general)
	}
}

// busy takes one out that has got its request.
func (p *peers) busy(c *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.remove(c)
}

// victim is who goes for a connection that comes when so many more could be open: one
// of the same address, if any waits; itself, if its address has more than it leaves to
// all others; else whoever has waited for longest, or nobody. So an address drives
// out nobody else for more than its share, and none takes more than half of what
// others leave.
func (p *peers) victim(c *Conn, free int64) *Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	patience := handshake
	if c.place.peer.silent.Len() > fewSilent {
		patience = 0
	}
	found := c.place.peer.first(patience)
	if found == nil && int64(c.place.peer.open) > max(free, 1) {
		return c
	}
	if found == nil {
		found = p.first(handshake)
	}
	if found != nil {
		p.bar(found)
	}
	return found
}

func (p *peers) bar(c *Conn) {
	p.remove(c)
	c.place.barred = true
}

func (p *peers) remove(c *Conn) {
	if c.place.own != nil {
		c.place.peer.take(c.place.own)
		p.take(c.place.general)
		c.place.own, c.place.general = nil, nil
	}
}

func (q *queue) add(c *Conn, silent bool) *list.Element {
	if silent {
		return q.silent.PushBack(c)
	}
	return q.idle.PushBack(c)
}

// take takes an element out of the list that it is in; the other does not know it.
func (q *queue) take(e *list.Element) {
	q.silent.Remove(e)
	q.idle.Remove(e)
}

// first is who goes first: a silent one, if it has been so for long enough, or an idle one.
func (q *queue) first(patience time.Duration) *Conn {
	if e := q.silent.Front(); e != nil {
		if c := e.Value.(*Conn); time.Since(c.place.since) >= patience { //nolint:forcetypeassert // nothing else is put in
			return c
		}
	}
	if e := q.idle.Front(); e != nil {
		return e.Value.(*Conn) //nolint:forcetypeassert // nothing else is put in
	}
	return nil
}
