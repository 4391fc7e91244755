package limit

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// listen returns a Listener for so many connections, and what makes one.
func listen(t *testing.T, most int, proxies ...string) (*Listener, func() *Conn) {
	t.Helper()
	l := limits(Config{})
	var lc net.ListenConfig
	tcp, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	listener := l.Listen(tcp.(*net.TCPListener), most, func(a netip.Addr) bool {
		return len(proxies) > 0 && a == netip.MustParseAddr(proxies[0])
	})
	t.Cleanup(func() { _ = listener.Close() })
	return listener, func() *Conn {
		var d net.Dialer
		client, err := d.DialContext(t.Context(), "tcp", tcp.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = client.Close() })
		tcp, err := listener.AcceptTCP()
		require.NoError(t, err)
		c := listener.admit(tcp)
		if c != nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return c
	}
}

func (c *Conn) turns(states ...http.ConnState) {
	for _, state := range states {
		c.listener.limits.ConnState(c, state)
	}
}

// Whoever was chosen to go is not chosen again, though he gets a request, and is done
// with it, before he is closed.
func TestListener_ChoosesOnce(t *testing.T) {
	t.Parallel()
	l, connect := listen(t, 100)
	one, two := connect(), connect()
	for _, c := range []*Conn{one, two} {
		c.turns(http.StateActive, http.StateIdle)
	}
	require.Equal(t, one, l.peers.victim(two, 100))
	one.turns(http.StateActive, http.StateIdle)
	require.Equal(t, two, l.peers.victim(two, 100))
	require.NoError(t, one.Close())
	one.turns(http.StateActive, http.StateIdle, http.StateClosed)
	require.Nil(t, l.peers.victim(two, 100))
	require.ErrorIs(t, one.Close(), net.ErrClosed)
	require.EqualValues(t, 1, l.open.Load())
	require.NoError(t, two.Close())
	require.Empty(t, l.peers.known)
}

// Many who come at once do not drive out each other before they have spoken; who has
// had the time to goes before those who are idle.
func TestListener_SilentOnes(t *testing.T) {
	t.Parallel()
	l, connect := listen(t, 100)
	idle := connect()
	idle.turns(http.StateActive, http.StateIdle)
	var silent []*Conn
	for range fewSilent {
		c := connect()
		c.place.since = c.place.since.Add(time.Hour) // he has the time, however slow the machine is
		silent = append(silent, c)
	}
	stranger := &Conn{listener: l}
	l.peers.enter(stranger, netip.MustParseAddr("192.0.2.1"), false)
	require.Equal(t, idle, l.peers.victim(silent[3], 100))
	require.Nil(t, l.peers.victim(silent[3], 100))
	require.Nil(t, l.peers.victim(stranger, 100))
	silent[0].place.since = time.Now().Add(-handshake)
	require.Equal(t, silent[0], l.peers.victim(stranger, 100))
	silent[1].place.since = time.Now()
	connect()
	more := connect()
	require.Equal(t, silent[1], l.peers.victim(more, 100))
	require.Nil(t, l.peers.victim(stranger, 100))
}

// An address that has no connection to spare gets no more than it leaves to others;
// a proxy's are not its own.
func TestListener_SharesByAddress(t *testing.T) {
	t.Parallel()
	const most = 200
	busy := func(connect func() *Conn) (taken int) {
		for range 2 * (most + spare) {
			if c := connect(); c != nil {
				c.turns(http.StateActive)
				taken++
			}
		}
		return taken
	}
	l, connect := listen(t, most)
	require.Equal(t, 3*most/4, busy(connect), "alone it has three quarters")
	require.Positive(t, l.limits.hit(t, Connections))
	_, connect = listen(t, most, "127.0.0.1")
	require.Equal(t, most+spare, busy(connect))
}
