package engineio

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/session"
)

func TestWebSocket_Messages(t *testing.T) {
	t.Parallel()
	c, k := serve(t).socket(t)
	c.send(t, "4hello")
	require.Equal(t, "4hello", c.next(t))
	require.NoError(t, c.Write(t.Context(), websocket.MessageBinary, []byte{1, 2, 3, 4}))
	c.send(t, "bAQIDBA==")
	for _, ignored := range []string{"3", "5", "6", "0"} {
		c.send(t, ignored)
	}
	long := "4" + strings.Repeat("é", 70_000)
	c.send(t, long)
	require.Equal(t, long, c.next(t))
	k.hears(t, "message hello", "binary \x01\x02\x03\x04", "binary \x01\x02\x03\x04", "message "+long[1:])
}

// Clients that name subprotocols hang up unless one of them is chosen.
func TestWebSocket_Subprotocols(t *testing.T) {
	t.Parallel()
	s := serve(t)
	p := s.poller(t)
	for _, url := range []string{s.url + "&transport=websocket", s.url + "&transport=websocket&sid=" + p.sid} {
		for _, offered := range [][]string{{"v2.pos", "v1.pos"}, nil} {
			c, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1), &websocket.DialOptions{Subprotocols: offered})
			require.NoError(t, err)
			require.Equal(t, strings.Join(offered[:min(1, len(offered))], ""), c.Subprotocol())
			require.NoError(t, c.CloseNow())
		}
	}
}

// Each way to end, as the client and as the handler see it.
func TestWebSocket_Closes(t *testing.T) {
	t.Parallel()
	const abnormal = -1
	for name, test := range map[string]struct {
		do     func(c clientSocket, k *talk)
		code   websocket.StatusCode
		reason string
		word   string
	}{
		"a close packet":         {func(c clientSocket, _ *talk) { c.send(t, "1") }, abnormal, "", "transport close"},
		"an unknown type":        {func(c clientSocket, _ *talk) { c.send(t, "abc") }, 4103, "invalid_message", "parse error"},
		"an empty frame":         {func(c clientSocket, _ *talk) { c.send(t, "") }, 4103, "invalid_message", "parse error"},
		"a ping":                 {func(c clientSocket, _ *talk) { c.send(t, "2") }, 4103, "invalid_message", "parse error"},
		"a late probe":           {func(c clientSocket, _ *talk) { c.send(t, "2probe") }, 4103, "invalid_message", "parse error"},
		"what nobody knows":      {func(c clientSocket, _ *talk) { c.send(t, "4fail") }, 4103, "invalid_message", "parse error"},
		"a handler's reason":     {func(c clientSocket, _ *talk) { c.send(t, "4overload") }, 1013, "overloaded", "forced server close"},
		"too large":              {func(c clientSocket, _ *talk) { c.send(t, "4"+strings.Repeat("x", 1000)) }, 1009, "too_large", "transport error"},
		"the server":             {func(_ clientSocket, k *talk) { k.conn.Close(session.TokenExpired) }, 4002, "token_expired", "forced server close"},
		"the server, going away": {func(_ clientSocket, k *talk) { k.conn.Close(session.Draining) }, 1001, "draining", "server shutting down"},
		"the client":             {func(c clientSocket, _ *talk) { _ = c.Close(1000, "bye") }, abnormal, "", "transport close"},
		"the client, at once":    {func(c clientSocket, _ *talk) { _ = c.CloseNow() }, abnormal, "", "transport close"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, k := serve(t, func(c *Config) { c.MaxPayload = 1000 }).socket(t)
			test.do(c, k)
			err := c.closes(t)
			require.Equal(t, test.code, websocket.CloseStatus(err), "%v", err)
			if test.code != abnormal {
				require.ErrorContains(t, err, test.reason)
			}
			for heard := range k.said {
				if !strings.HasPrefix(heard, "message ") {
					require.Equal(t, "closed "+test.word, heard)
				}
			}
			require.Error(t, k.conn.Send([]byte("x")))
		})
	}
}

// To close is to wait for nobody, though nothing can be written.
func TestWebSocket_CloseDoesNotWait(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.WriteTimeout = 6 * time.Second })
	_, k := s.socket(t)
	sent, took := make(chan error, 1), make(chan struct{})
	go func() {
		for {
			if err := k.conn.Send(make([]byte, 1<<20)); err != nil {
				sent <- err
				return
			}
			took <- struct{}{}
		}
	}()
	for stuck := false; !stuck; {
		select {
		case <-took:
		case <-time.After(time.Second):
			stuck = true
		}
	}
	since := time.Now()
	k.conn.Close(session.Draining)
	k.hears(t, "closed server shutting down")
	require.Less(t, time.Since(since), s.WriteTimeout/2)
	require.Equal(t, session.Draining, <-sent)
}

func TestSend_Slow(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) { c.WriteTimeout = 300 * time.Millisecond })
	_, k := s.socket(t)
	for name, k := range map[string]*talk{"polling": s.poller(t).talk, "websocket": k} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var err error
			for err == nil {
				err = k.conn.Send(make([]byte, 100<<10))
			}
			require.Equal(t, session.Slow, err)
			require.Equal(t, session.Slow, k.conn.Send([]byte("x")))
			k.hears(t, "closed transport error")
		})
	}
}

// Who polls now and then is not slow, whatever there is for him. Nothing is lost.
func TestSend_WaitsForPolls(t *testing.T) {
	t.Parallel()
	// All of it takes longer than that, and no poll nearly as long.
	c := serve(t, func(c *Config) { c.WriteTimeout = 4 * time.Second }).poller(t)
	const each, messages = 50 << 10, 80
	sent := make(chan error, 1)
	go func() {
		for n := range messages {
			if err := c.conn.Send([]byte(fmt.Sprintf("%d:%s", n, strings.Repeat("x", each)))); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for n := 0; n < messages; {
		<-time.After(500 * time.Millisecond)
		got := c.get(t)
		require.NoError(t, got.err)
		require.Equal(t, 200, got.status, got.body)
		require.LessOrEqual(t, len(got.body), maxBuffered+2*each)
		for p, err := range packets([]byte(got.body)) {
			require.NoError(t, err)
			number, _, _ := strings.Cut(string(p.data), ":")
			require.Equal(t, strconv.Itoa(n), number)
			n++
		}
	}
	require.NoError(t, <-sent)
}

// A half-open connection with a full buffer does not keep its client from taking its place.
func TestSend_Replaced(t *testing.T) {
	t.Parallel()
	s := serve(t)
	_, k := s.socket(t)
	var sent, before atomic.Int64
	failed := make(chan error, 1)
	go func() {
		for {
			if err := k.conn.Send(make([]byte, 100<<10)); err != nil {
				failed <- err
				return
			}
			sent.Add(1)
		}
	}()
	require.Eventually(t, func() bool { // until the client takes nothing any more
		now := sent.Load()
		return now > 0 && before.Swap(now) == now
	}, patience, 100*time.Millisecond)
	since := time.Now()
	k.conn.Close(session.Replaced)
	require.Equal(t, session.Replaced, <-failed)
	require.Less(t, time.Since(since), s.WriteTimeout/2)
	k.hears(t, "closed forced server close")
}

// When it is over for who waits, he has one timeout left, though the client takes something.
func TestSend_EndBy(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	c := serve(t, func(c *Config) { c.WriteTimeout = timeout }).poller(t)
	require.NoError(t, c.conn.Send(make([]byte, maxBuffered)))
	c.conn.mu.Lock()
	c.conn.taking++ // a response that is being written all the time
	c.conn.mu.Unlock()
	sent := make(chan error, 1)
	go func() { sent <- c.conn.Send([]byte("x")) }()
	select {
	case err := <-sent:
		require.FailNow(t, "it did not wait", "%v", err)
	case <-time.After(3 * timeout):
	}
	since := time.Now()
	c.conn.EndBy(since)
	require.Equal(t, session.Slow, <-sent)
	require.InDelta(t, timeout, time.Since(since), float64(timeout))
}

// What is sent at once stays together, whoever else sends.
func TestSend_Together(t *testing.T) {
	t.Parallel()
	s := serve(t)
	ws, k := s.socket(t)
	c := s.poller(t)
	const senders, groups = 8, 50
	for _, conn := range []*Conn{k.conn, c.conn} {
		for n := range senders {
			go func() {
				for m := range groups {
					id := fmt.Sprintf("%d.%d", n, m)
					_ = conn.Send([]byte(id+" a"), []byte(id+" b"), []byte(id+" c"))
				}
			}()
		}
	}
	var polled []string
	next := map[string]func() string{
		"websocket": func() string { return ws.next(t) },
		"polling": func() string {
			if len(polled) == 0 {
				polled = strings.Split(c.get(t).body, "\x1e")
			}
			first := polled[0]
			polled = polled[1:]
			return first
		},
	}
	for name, next := range next {
		last := map[string]int{}
		for range senders * groups {
			first := next()
			id, _, _ := strings.Cut(first[1:], " ")
			require.Equal(t, []string{"4" + id + " a", "4" + id + " b", "4" + id + " c"}, []string{first, next(), next()}, name)
			sender, number, _ := strings.Cut(id, ".")
			require.Equal(t, strconv.Itoa(last[sender]), number, "the order of one sender")
			last[sender]++
		}
	}
}

// Packets and pings that nobody asked for are counted, and a flood of them ends the connection.
func TestFlood(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.Limits = limit.New(limit.Config{FrameRatePerConnection: 1, Metrics: prometheus.NewRegistry()})
	})
	for name, flood := range map[string]func(c clientSocket) error{
		"pongs": func(c clientSocket) error { return c.Write(context.Background(), websocket.MessageText, []byte("3")) },
		"pings": func(c clientSocket) error {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			return c.Ping(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, k := s.socket(t)
			closes := make(chan error, 1)
			go func() { closes <- c.closes(t) }()
			var err error
			for err == nil {
				err = flood(c)
			}
			require.EqualValues(t, 1013, websocket.CloseStatus(<-closes))
			k.hears(t, "closed forced server close")
		})
	}
	c := s.poller(t)
	says(t, c.post(t, strings.Repeat("3\x1e", 2000)+"3"), "ok")
	c.hears(t, "closed forced server close")
}

// Closing ends everything: who waits, who upgrades, who does not answer.
func TestServer_Close(t *testing.T) {
	t.Parallel()
	s := serve(t)
	waiting, idle := s.poller(t), s.poller(t)
	got := waiting.polls(t)
	polite, k := s.socket(t)
	rude, _ := s.socket(t)
	probing := s.poller(t)
	probe := probing.probes(t)
	var closing sync.WaitGroup
	var code websocket.StatusCode
	closing.Go(func() { code = websocket.CloseStatus(polite.closes(t)) })
	closing.Go(func() { _ = probe.closes(t) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	since := time.Now()
	s.Server.Close(ctx)
	require.Less(t, time.Since(since), 3*time.Second, "it waited for the close of who does not answer")
	closing.Wait()
	require.EqualValues(t, 1001, code)
	require.EqualValues(t, 1001, websocket.CloseStatus(rude.closes(t)))
	says(t, answered(t, got), "1")
	says(t, idle.get(t), "1")
	k.hears(t, "closed server shutting down")
	refused := ask(t, http.MethodGet, s.url+"&transport=polling", "")
	require.Equal(t, 503, refused.status)
	require.Equal(t, `{"code":4,"message":"this instance is going away: connect again to reach another"}`, refused.body)
	require.Zero(t, s.metric(t, "connections", "polling"))
	require.Zero(t, s.metric(t, "connections", "websocket"))
	require.Equal(t, 5, s.metric(t, "closed_total", "server_shutting_down"))
}

// A server may close between a connection's being known and its first beat.
func TestServer_CloseDuringHandshake(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.newConn(httptest.NewRequest(http.MethodGet, "/socket.io/", nil), nil, polling)
	require.NoError(t, s.enter(c))
	c.Close(session.Draining)
	c.start()
	require.Nil(t, c.beat.timer, "it does not beat any more")
	c.introduce()
	k := <-s.talks
	k.hears(t, "closed server shutting down")
	require.Equal(t, 0, s.metric(t, "connections", "polling"))
}
