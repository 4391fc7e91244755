package engineio

import (
	"math/rand/v2"
	"time"

	"github.com/tailroom/tailroom/internal/transport/wire"
)

// heartbeat is guarded by Conn.mu.
type heartbeat struct {
	timer    *time.Timer // until the next ping, or until the pong is late
	awaiting bool        // a pong
	told     bool        // the handler was told of the ping
	stirred  bool        // the client did something since the ping
	extended bool        // and was given more time for it
}

var pingFrame = append(wire.AppendHeader(nil, wire.Text, false, 1), pingPacket)

// startBeat begins with a ping somewhere in the second half of the interval, so that
// connections that came together do not beat together. It is for who holds mu.
func (c *Conn) startBeat() {
	interval := c.server.PingInterval
	c.beat.timer = time.AfterFunc(interval-rand.N(interval/2+1), c.tick)
}

// tick is the timer's.
func (c *Conn) tick() {
	c.mu.Lock()
	if c.phase == closed || c.beat.awaiting {
		c.late()
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	// The handler notes what it has sent before the ping is placed behind that. A ping must
	// not wait for a handler: the client's patience has an end.
	told := c.calling.TryLock()
	if told {
		if c.ctx.Err() == nil {
			c.handler.Pinged()
		}
		c.calling.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat.awaiting, c.beat.told, c.beat.stirred, c.beat.extended = true, told, false, false
	switch c.phase {
	case closed:
		return
	case upgraded:
		c.socket.line.Alive() // from now on
		c.mu.Unlock()
		_ = c.wrote(c.socket.line.Send(pingFrame))
		c.mu.Lock()
	default:
		c.out = appendPacket(c.out, pingPacket, nil)
		c.serve()
	}
	if c.phase != closed && c.beat.awaiting {
		c.beat.timer.Reset(c.server.PingTimeout)
	}
}

// late ends a connection whose pong did not come. A client that did something else
// meanwhile, or has much to read before the ping, is given as much time again, once. It
// is for who holds mu.
func (c *Conn) late() {
	if c.phase == closed {
		return
	}
	stirs := c.beat.stirred || c.taking > 0
	if c.phase == upgraded {
		stirs = c.socket.line.Alive()
	}
	if stirs && !c.beat.extended {
		c.beat.extended = true
		c.beat.timer.Reset(c.server.PingTimeout)
		return
	}
	c.end(timedOut)
}

// ponged takes a pong in. One that nobody waits for is nothing. The caller holds calling.
func (c *Conn) ponged() {
	c.mu.Lock()
	told := c.beat.awaiting && c.beat.told
	if c.phase != closed && c.beat.awaiting {
		c.beat.awaiting = false
		c.beat.timer.Reset(c.server.PingInterval)
	}
	c.mu.Unlock()
	if told {
		c.handler.Ponged()
	}
}

// stir notes that the client does something.
func (c *Conn) stir() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beat.stirred = true
}
