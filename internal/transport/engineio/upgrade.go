package engineio

import (
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/transport/wire"
)

const (
	// upgradeTimeout is how long an upgrade may take.
	upgradeTimeout = 10 * time.Second
	// noopPeriod is how often GETs that wait are ended while the client upgrades. One noop
	// is not enough: it can be there before the answer to the probe, and the client then
	// polls again.
	noopPeriod = 100 * time.Millisecond
)

var probeFrame = append(wire.AppendHeader(nil, wire.Text, false, 6), "3probe"...)

// upgrade takes a WebSocket for a connection that polls. One that is upgraded, or is being,
// gets no other; that WebSocket is accepted and then closed, for clients may have nobody who
// hears of an error.
func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, c *Conn) {
	if c.over() {
		s.refuse(w, sidUnknown)
		return
	}
	claimed := c.claim()
	k, ok := s.accept(w, r, c)
	ok = ok && s.run(k, func() {
		if claimed && c.tryOut(k) {
			if c.adopt(k) {
				s.metrics.upgrades.WithLabelValues(upgradeDone).Inc()
				c.tellUpgraded()
				c.read(k)
			}
			k.hangUp(c.cause())
			return
		}
		k.line.Finish()
		_ = k.Close(websocket.StatusNormalClosure, "")
	})
	if !ok && k != nil {
		_ = k.CloseNow()
	}
	if !ok && claimed {
		c.giveUp(nil)
	}
}

func (c *Conn) tellUpgraded() {
	c.calling.Lock()
	defer c.calling.Unlock()
	if c.ctx.Err() == nil {
		c.handler.Upgraded()
	}
}

func (c *Conn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == closed
}

// claim lets one upgrade at a time be tried.
func (c *Conn) claim() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != onPolling || c.upgrading {
		return false
	}
	c.upgrading = true
	return true
}

// giveUp ends an upgrade: the connection goes on polling.
func (c *Conn) giveUp(k *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == onPolling && c.probe == k {
		c.upgrading, c.probe = false, nil
		c.server.metrics.upgrades.WithLabelValues(upgradeFailed).Inc()
	}
}

// probing makes a socket the one on which the client tries to upgrade.
func (c *Conn) probing(k *socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != onPolling {
		return false
	}
	c.probe = k
	return true
}

// tryOut answers the client's probe until it upgrades, and reports whether it does.
func (c *Conn) tryOut(k *socket) bool {
	if !c.probing(k) {
		return false
	}
	late := time.AfterFunc(upgradeTimeout, k.line.Cut)
	defer late.Stop()
	for nudged := false; ; nudged = true {
		p, e := k.next()
		switch {
		case e == nil && p.kind == pingPacket && string(p.data) == "probe":
			if k.line.Send(probeFrame) == nil {
				if !nudged { // it goes on by itself, and once
					c.nudge(k)
				}
				continue
			}
		case e == nil && p.kind == upgradePacket && late.Stop():
			return true
		}
		c.giveUp(k)
		return false
	}
}

// nudge ends the GET that waits, so that the client can go on to upgrade, and does so
// again while it has not.
func (c *Conn) nudge(k *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != onPolling || c.probe != k {
		return
	}
	if c.parked != nil {
		c.release([]byte{noopPacket})
	}
	time.AfterFunc(noopPeriod, func() { c.nudge(k) })
}
