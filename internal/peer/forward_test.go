package peer

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

// A poll comes from the owner through whoever it reaches, and says what the owner says.
func TestForward_Poll(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	done := later(t, http.MethodGet, b.address(a.sid(), "&t=a%20b&x=%zz;y=1"), "")
	asked := receive(t, a.asked)
	require.Equal(t, visitor, a.Client(asked), "the client's address goes along")
	require.Equal(t, "a b", asked.URL.Query().Get("t"))
	require.Equal(t, strings.TrimPrefix(b.url, "http://"), asked.Host, "by which origins are judged")
	require.Empty(t, asked.Header[header])
	a.parked <- struct{}{}
	got := receive(t, done)
	require.Equal(t, http.StatusOK, got.StatusCode)
	require.Equal(t, "4hello", got.body)
	require.Equal(t, "text/plain; charset=UTF-8", got.Header.Get("Content-Type"))
	require.Len(t, got.Header["Vary"], 1, "nothing is said twice")
	require.Len(t, got.Header["Access-Control-Allow-Origin"], 1)
	require.Empty(t, got.Header[header])
	require.Empty(t, b.asked)
	require.Eventually(t, func() bool { return b.sent(sentAnswered) == 1 }, patience, time.Millisecond)
	require.Equal(t, 1, a.received(taken))
}

// What is one's own, and what names no instance, is answered here.
func TestForward_NotOnesOwn(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	for _, sid := range []string{a.sid(), "", "nonsense", strings.Repeat("A", 22) + "=.x"} {
		require.Equal(t, "now", do(t, http.MethodGet, a.address(sid, "&now"), "").body)
		require.Equal(t, visitor, a.Client(receive(t, a.asked)))
	}
	require.Zero(t, b.accepted.Load())
	requireUnknown(t, do(t, http.MethodGet, a.address(sidOf(uuid.New()), ""), ""))
	require.Equal(t, 1, a.sent(sentUnknown))
}

// A post comes through with its body, however large; requests one after the other use
// one connection between the instances.
func TestForward_Post(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	body := strings.Repeat("4message\x1e", 200_000)
	for range 20 {
		require.Equal(t, body, do(t, http.MethodPost, b.address(a.sid(), ""), body).body)
		<-a.asked
	}
	require.EqualValues(t, 1, a.accepted.Load())
}

// What the owner writes goes on at once, before there is more.
func TestForward_Flushes(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.address(a.sid(), "&begin"), nil)
	require.NoError(t, err)
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	begin := make([]byte, 6)
	_, err = io.ReadFull(answer.Body, begin)
	require.NoError(t, err)
	a.parked <- struct{}{}
	rest, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "begin 4hello", string(begin)+string(rest))
}

// The owner notices that the client has left.
func TestForward_ClientLeaves(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	ctx, leave := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.address(a.sid(), ""), nil)
	require.NoError(t, err)
	left := make(chan error)
	go func() {
		answer, err := client.Do(r)
		if err == nil {
			_ = answer.Body.Close()
		}
		left <- err
	}()
	receive(t, a.asked)
	leave()
	require.ErrorIs(t, <-left, context.Canceled)
	receive(t, a.left)
	require.Eventually(t, func() bool { return b.sent(sentLeft) == 1 }, patience, time.Millisecond)
}

// dial opens a WebSocket to a session through a node.
func dial(t *testing.T, n *node, sid string) *websocket.Conn {
	t.Helper()
	ws, answer, err := websocket.Dial(t.Context(), n.address(sid, ""), &websocket.DialOptions{HTTPClient: client})
	require.NoError(t, err)
	require.Empty(t, answer.Header[header])
	ws.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// A WebSocket comes through in both directions, and ends at both ends.
func TestForward_WebSocket(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	ws := dial(t, b, a.sid())
	require.Equal(t, visitor, a.Client(receive(t, a.asked)))
	for _, text := range []string{"2probe", "5", strings.Repeat("x", 1<<19)} {
		require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte(text)))
		_, got, err := ws.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	require.NoError(t, ws.CloseNow())
	receive(t, a.left)
	require.Eventually(t, func() bool { return b.sent(sentAnswered) == 1 }, patience, time.Millisecond)
}

// When the owner is killed, what hangs on it ends at once, and the next request is told
// to begin anew: from then on and for good.
func TestForward_OwnerIsKilled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	poll := later(t, http.MethodGet, b.address(a.sid(), ""), "")
	receive(t, a.asked)
	ws := dial(t, b, a.sid())
	receive(t, a.asked)
	begin := time.Now()
	a.kill(t)
	requireUnknown(t, receive(t, poll))
	_, _, err := ws.Read(t.Context())
	require.Error(t, err)
	requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), ""), "", "Origin", "https://shop.example"))
	requireUnknown(t, do(t, http.MethodPost, b.address(a.sid(), ""), "4late"))
	require.Less(t, time.Since(begin), 2*time.Second)
	require.Equal(t, "https://shop.example",
		do(t, http.MethodGet, b.address(a.sid(), ""), "", "Origin", "https://shop.example").Header.Get("Access-Control-Allow-Origin"),
		"a page must be able to read that")
	require.GreaterOrEqual(t, b.sent(sentFailed), 4)
	require.Eventually(t, func() bool {
		requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), ""), ""))
		return b.sent(sentUnknown) > 0 // it is not even asked any more
	}, patience, 50*time.Millisecond)
}

// When the owner's machine is lost, no byte comes to say so. What hangs on it ends when
// it has not been seen for a while.
func TestForward_OwnerVanishes(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	poll := later(t, http.MethodGet, b.address(a.sid(), ""), "")
	receive(t, a.asked)
	ws := dial(t, b, a.sid())
	receive(t, a.asked)
	a.stop()
	requireUnknown(t, receive(t, poll))
	_, _, err := ws.Read(t.Context())
	require.Error(t, err)
	receive(t, a.left)
	receive(t, a.left)
}

// An owner that takes a request and says nothing is not waited for longer than for the
// longest poll.
func TestForward_OwnerSaysNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool, func(c *Config) { c.Patience = 2 * time.Second })
	requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), ""), ""))
	receive(t, a.left)
}

// A client that takes nothing is cut, and its owner hears of it.
func TestForward_ClientTakesNothing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	conn := raw(t, b, a.sid(), "")
	ended := make(chan struct{})
	go func() { // it says 64 KiB again and again, and hears nothing
		defer close(ended)
		frame := append([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 64<<10)...)
		for {
			if _, err := conn.Write(frame); err != nil {
				return
			}
		}
	}()
	receive(t, a.left)
	require.NoError(t, conn.Close())
	<-ended
}

// raw begins a WebSocket of which nothing more is read.
func raw(t *testing.T, at *node, sid, more string) net.Conn {
	t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(at.url, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "GET /socket.io/?sid="+sid+more+" HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
	require.NoError(t, err)
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusSwitchingProtocols, answer.StatusCode)
	return conn
}

// A client that takes nothing does not hold up an instance that goes: its WebSocket is
// cut, and for anything else nobody waits for longer than there is time.
func TestSwitch_CloseWithoutTheClient(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool, func(c *Config) { c.WriteTimeout = time.Hour })
	raw(t, b, a.sid(), "&pour")
	var before int64
	require.Eventually(t, func() bool { // until there is no room on the way
		last := before
		before = a.poured.Load()
		return before > 0 && before == last
	}, patience, 200*time.Millisecond)
	b.Drain(t.Context(), time.Hour)
	receive(t, a.left)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b.Close(ctx)
	require.NoError(t, ctx.Err())

	c := start(t, pool)
	defer c.enter(&passing{end: func(error) {}})()
	cancel()
	c.Close(ctx)
}

// A switch that closes ends what it passes on, waits for it, and passes nothing on.
func TestSwitch_Close(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	first, second := dial(t, b, a.sid()), dial(t, b, a.sid())
	poll := later(t, http.MethodGet, b.address(a.sid(), ""), "")
	for range 3 {
		receive(t, a.asked)
	}
	b.Drain(t.Context(), 10*time.Millisecond)
	for _, ws := range []*websocket.Conn{first, second} {
		_, _, err := ws.Read(t.Context())
		require.Error(t, err)
		receive(t, a.left)
	}
	require.Empty(t, poll, "polls are left to end by themselves")
	go b.Close(context.Background())
	requireUnknown(t, receive(t, poll))
	receive(t, a.left)
	requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), ""), ""))
}
