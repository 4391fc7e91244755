package engineio

import (
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

func TestHeartbeat_Polling(t *testing.T) {
	t.Parallel()
	s := serve(t, quick)
	c := s.poller(t)
	for range 3 {
		since := time.Now()
		says(t, c.get(t), "2")
		require.Less(t, time.Since(since), s.PingInterval+s.PingTimeout)
		says(t, c.post(t, "3"), "ok")
		c.hears(t, "pinged", "ponged")
	}
}

func TestHeartbeat_WebSocket(t *testing.T) {
	t.Parallel()
	c, k := serve(t, quick).socket(t)
	for range 3 {
		require.Equal(t, "2", c.next(t))
		c.send(t, "3")
		k.hears(t, "pinged", "ponged")
		c.send(t, "3") // which nobody waits for
	}
}

func TestHeartbeat_Missed(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.PingInterval, c.PingTimeout = 300*time.Millisecond, 2*time.Second })
	since := time.Now()
	ws, k := s.socket(t)
	unread, waiting := s.poller(t), s.poller(t)
	says(t, waiting.get(t), "2")
	got := waiting.polls(t)
	require.EqualValues(t, 4001, websocket.CloseStatus(ws.closes(t)))
	require.Less(t, time.Since(since), 3*(s.PingInterval+s.PingTimeout))
	k.hears(t, "pinged", "closed ping timeout")
	unread.hears(t, "pinged", "closed ping timeout")
	unread.gone(t)
	says(t, answered(t, got), "1")
	waiting.gone(t)
}

// Who does something else when the ping comes is given as much time again, once.
func TestHeartbeat_BusyClient(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	s := serve(t, func(c *Config) { c.PingInterval, c.PingTimeout = 100*time.Millisecond, timeout })
	c := s.poller(t)
	ws, k := s.socket(t)
	says(t, c.get(t), "2")
	require.Equal(t, "2", ws.next(t))
	since := time.Now()
	says(t, c.post(t, "4busy"), "ok")
	ws.send(t, "4busy")
	for _, k := range []*talk{c.talk, k} {
		k.hears(t, "pinged", "message busy", "closed ping timeout")
		require.GreaterOrEqual(t, time.Since(since), timeout*3/2)
	}
	require.Less(t, time.Since(since), timeout*7/2)
}

// A ping does not wait for a handler, who then is told neither of it nor of its pong.
func TestHeartbeat_WhileTheHandlerIsBusy(t *testing.T) {
	t.Parallel()
	s := serve(t, quick, func(c *Config) { c.PingInterval = 2 * time.Second }) // the first comes when it is busy
	c, k := s.socket(t)
	c.send(t, "4hold")
	k.hears(t, "message hold")
	require.Equal(t, "2", c.next(t))
	c.send(t, "3")
	close(k.held)
	require.Equal(t, "2", c.next(t))
	c.send(t, "3")
	k.hears(t, "pinged", "ponged")
}

// beforePing is a Handler that sends a last thing when it is told of a ping.
type beforePing struct{ *talk }

func (k beforePing) Pinged() {
	_ = k.conn.Send([]byte("before"))
	k.talk.Pinged()
}

// What is sent until the handler has been told of a ping is before the ping.
func TestHeartbeat_BehindWhatWasSent(t *testing.T) {
	t.Parallel()
	s := serve(t, quick, func(c *Config) {
		accept := c.Accept
		c.Accept = func(c *Conn) Handler { return beforePing{accept(c).(*talk)} }
	})
	ws, k := s.socket(t)
	for range 3 {
		require.Equal(t, "4before", ws.next(t))
		require.Equal(t, "2", ws.next(t))
		ws.send(t, "3")
		k.hears(t, "pinged", "ponged")
	}
	c := s.poller(t)
	c.hears(t, "pinged")
	// The handler is told before the ping is placed: it may come with the next answer.
	first := c.get(t)
	if first.body == "4before" {
		says(t, first, "4before")
		says(t, c.get(t), "2")
		return
	}
	says(t, first, "4before\x1e2")
}
