package engineio

import (
	"log/slog"
	"time"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/session"
)

// Why connections end, in Socket.IO's words.
const (
	transportClose = "transport close"
	transportError = "transport error"
	parseError     = "parse error"
	pingTimeout    = "ping timeout"
	forcedClose    = "forced server close"
	shuttingDown   = "server shutting down"
)

var words = []string{transportClose, transportError, parseError, pingTimeout, forcedClose, shuttingDown}

const (
	// keepClosed is how long a connection that the server closed while no GET waited is
	// remembered for the next one.
	keepClosed = 30 * time.Second
	// keepLeft is how long one is that its client closed: his POST may overtake his GET.
	keepLeft = time.Second
	// replacedIn is how long a WebSocket is still written to whose client has come back by
	// another: it takes what it takes at once, or nothing any more.
	replacedIn = time.Second
)

// ending is a way for a connection to end.
type ending struct {
	reason session.Reason // for who sends, and for the peer of a socket; Gone and Slow are not said
	word   string         // for the handler
	poll   byte           // the packet that a GET ends with
	keep   time.Duration  // how long that waits for a GET if none does
}

var (
	clientClosed = ending{reason: session.Gone, word: transportClose, poll: noopPacket, keep: keepLeft}
	peerLeft     = ending{reason: session.Gone, word: transportClose, poll: closePacket}
	peerLost     = ending{reason: session.Gone, word: transportError, poll: closePacket}
	unparsable   = ending{reason: session.InvalidMessage, word: parseError, poll: closePacket}
	timedOut     = ending{reason: session.HeartbeatMissed, word: pingTimeout, poll: closePacket}
)

func byServer(reason session.Reason) ending {
	e := ending{reason: reason, word: forcedClose, poll: closePacket, keep: keepClosed}
	if reason == session.Draining {
		e.word = shuttingDown
	}
	return e
}

// Close ends the connection: a WebSocket with the reason's code and name, a GET with a close
// packet, in a payload of its own behind what was sent. It does not wait for the peer.
func (c *Conn) Close(reason session.Reason) { c.shut(byServer(reason)) }

// shut ends the connection in a way, unless it has ended.
func (c *Conn) shut(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end(e)
}

// end is shut for who holds mu.
func (c *Conn) end(e ending) {
	if c.phase == closed {
		return
	}
	s := c.server
	polled := c.phase == onPolling
	c.phase, c.reason = closed, e.reason
	if c.beat.timer != nil {
		c.beat.timer.Stop()
	}
	switch {
	case c.parked != nil:
		c.release([]byte{e.poll})
	case polled && e.keep > 0:
		// What was sent has a GET of its own. The official client is closed by a close packet before
		// it has looked at messages beside it; it keeps them for its next connection, where they
		// come before it is connected, and then once more, since its offset is older.
		if len(c.out) > 0 && e.poll == closePacket {
			c.farewell = append(c.farewell, c.out)
		}
		c.farewell = append(c.farewell, []byte{e.poll})
	}
	if c.farewell == nil {
		s.forget(c.sid)
	} else {
		time.AfterFunc(e.keep, func() { s.forget(c.sid) })
	}
	c.out = nil
	c.lookAgain()
	if c.probe != nil {
		c.probe.line.Cut()
	}
	s.metrics.connections.WithLabelValues(c.transport).Dec()
	s.metrics.closed.WithLabelValues(label(e.word)).Inc()
	slog.DebugContext(c.ctx, "a connection ended", "component", "engineio", "remote", c.remote.String(),
		"transport", c.transport, "why", e.word, "reason", e.reason.Name)
	c.cancel(e.reason)
	if k := c.socket; k != nil {
		s.working.Go(func() { k.hangUp(e.reason) })
	}
	go func() {
		c.calling.Lock()
		defer c.calling.Unlock()
		if c.handler != nil {
			c.handler.Closed(e.word)
		}
		s.leave(c)
	}()
}

// cause is why a connection that is closed was.
func (c *Conn) cause() session.Reason {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// hangUp closes the WebSocket for a reason, which takes as long as the client's own close
// does. Nothing of ours is written behind the close frame. Whoever comes second waits.
func (k *socket) hangUp(reason session.Reason) {
	if reason == session.Gone || reason == session.Slow {
		_ = k.CloseNow() // nobody listens
		return
	}
	now := time.Now()
	if reason == session.Replaced { // who waits to replace it waits for this
		now = now.Add(replacedIn - k.conn.server.WriteTimeout)
	}
	k.line.EndBy(now)
	k.line.Finish()
	_ = k.Close(websocket.StatusCode(reason.Code), reason.Name)
}
