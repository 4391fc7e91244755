package engineio

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/session"
)

func TestPolling_Messages(t *testing.T) {
	t.Parallel()
	c := serve(t).poller(t)
	got := c.post(t, "4hello")
	says(t, got, "ok")
	require.Equal(t, "text/html", got.Header.Get("Content-Type"))
	require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
	says(t, c.get(t), "4hello")
	// All that waits comes at once, in order.
	says(t, c.post(t, "4test1\x1e4test2\x1e4test3"), "ok")
	says(t, c.post(t, "4test4"), "ok")
	says(t, c.get(t), "4test1\x1e4test2\x1e4test3\x1e4test4")
	c.hears(t, "message hello", "message test1", "message test2", "message test3", "message test4")
	// Binary comes in base64.
	says(t, c.post(t, "4hello\x1ebAQIDBA=="), "ok")
	c.hears(t, "message hello", "binary \x01\x02\x03\x04")
	says(t, c.get(t), "4hello")
	// A GET that waits ends with the first that comes.
	waiting := c.polls(t)
	says(t, c.post(t, "4a\x1e4b"), "ok")
	says(t, answered(t, waiting), "4a")
	says(t, c.get(t), "4b")
	// What is not asked for is nothing: pong, upgrade, noop.
	says(t, c.post(t, "3\x1e5\x1e6\x1e0{}\x1e4after"), "ok")
	says(t, c.get(t), "4after")
	c.hears(t, "message a", "message b", "message after")
}

func TestPolling_TwoAtOnce(t *testing.T) {
	t.Parallel()
	c := serve(t).poller(t)
	first := c.polls(t)
	second := c.get(t)
	require.Equal(t, 400, second.status)
	says(t, answered(t, first), "1")
	c.gone(t)
	c.hears(t, "closed transport error")
}

// A proxy that got no answer to a GET asks again. What the first took is lost then if it
// went by way of another instance, so the client must begin again.
func TestPolling_Repeated(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, test := range map[string]struct {
		first, second string // how the two came
		mark          string // of the second
		lost          bool
	}{
		"both passed on":      {"Passed", "Passed", "a", true},
		"the first passed on": {"Passed", "", "a", true},
		"the second":          {"", "Passed", "a", true},
		"another GET":         {"Passed", "Passed", "b", false},
		"none passed on":      {"", "", "a", false},
		"without a mark":      {"Passed", "Passed", "", false},
		"too long a mark":     {"Passed", "Passed", strings.Repeat("a", 65), false},
	} {
		c := s.poller(t)
		poll := func(way, mark string) response {
			if test.mark == "" {
				mark = ""
			} else if len(test.mark) > 1 {
				mark = test.mark
			}
			return ask(t, http.MethodGet, c.url()+"&t="+mark, "", strings.Fields(way+" "+way)...)
		}
		require.NoError(t, c.conn.Send([]byte("one")))
		says(t, poll(test.first, "a"), "4one")
		require.NoError(t, c.conn.Send([]byte("two")))
		second := poll(test.second, test.mark)
		if !test.lost {
			says(t, second, "4two")
			continue
		}
		require.Equal(t, 400, second.status, name)
		require.Equal(t, `{"code":1,"message":"Session ID unknown"}`, second.body, name)
		c.gone(t)
		c.hears(t, "closed transport error")
	}
}

// However two GETs meet, at most one waits, and no packet comes twice.
func TestPolling_TwoAtOnceRace(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for range 50 {
		c := s.poller(t)
		var both sync.WaitGroup
		got := make([]response, 2)
		for n := range got {
			both.Go(func() { got[n] = c.get(t) })
		}
		both.Wait()
		bodies := map[int]string{got[0].status: got[0].body, got[1].status: got[1].body}
		require.Equal(t, map[int]string{200: "1", 400: `{"code":3,"message":"Bad request"}`}, bodies)
		c.gone(t)
	}
}

func TestPolling_Aborted(t *testing.T) {
	t.Parallel()
	c := serve(t).poller(t)
	ctx, abort := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), http.NoBody)
	require.NoError(t, err)
	done := make(chan response)
	go func() { done <- do(r) }()
	c.parks(t)
	abort()
	require.ErrorIs(t, (<-done).err, context.Canceled)
	c.hears(t, "closed transport error")
	c.gone(t)
}

// A GET that is aborted at the moment it is answered loses the packets or is told them,
// and the connection does not go on as if nothing were lost.
func TestPolling_AbortedRace(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for range 100 {
		c := s.poller(t)
		ctx, abort := context.WithCancel(t.Context())
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url(), http.NoBody)
		require.NoError(t, err)
		done := make(chan response)
		go func() { done <- do(r) }()
		c.parks(t)
		var both sync.WaitGroup
		both.Go(abort)
		both.Go(func() { _ = c.conn.Send([]byte("x")) })
		both.Wait()
		<-done
		c.conn.Close(session.Internal)
		<-c.said
	}
}

func TestPolling_PostsAtOnce(t *testing.T) {
	t.Parallel()
	c := serve(t).poller(t)
	waiting := c.polls(t)
	first := make(chan response, 1)
	go func() { first <- c.post(t, "4hold") }()
	c.hears(t, "message hold")
	require.Equal(t, 400, c.post(t, "4second").status)
	says(t, answered(t, waiting), "1")
	c.gone(t)
	select {
	case heard := <-c.said:
		require.FailNow(t, "the handler was called while it was at work", heard)
	case <-time.After(100 * time.Millisecond):
	}
	close(c.held)
	answered(t, first)
	c.hears(t, "closed transport error")
	// But one after the other, however closely, is right.
	c = c.poller(t)
	for range 200 {
		says(t, c.post(t, "3"), "ok")
	}
}

func TestPolling_TooLarge(t *testing.T) {
	t.Parallel()
	c := serve(t, func(c *Config) { c.MaxPayload = 1000 }).poller(t)
	large := "4" + strings.Repeat("x", 1000)
	require.Equal(t, 413, c.post(t, large).status)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.url(), struct{ *strings.Reader }{strings.NewReader(large)})
	require.NoError(t, err)
	require.EqualValues(t, 0, r.ContentLength) // of which nobody knows how long it is
	require.Equal(t, 413, do(r).status)
	// The session goes on.
	says(t, c.post(t, large[:1000]), "ok")
	says(t, c.get(t), large[:1000])
}

func TestPolling_Invalid(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for name, body := range map[string]string{
		"no type": "abc", "nothing": "", "an empty packet": "4a\x1e\x1e4b", "a separator at the end": "4a\x1e",
		"broken base64": "bAQI", "version 3's ping": "2", "what the handler does not understand": "4fail\x1e4b",
	} {
		c := s.poller(t)
		waiting := c.polls(t)
		got := c.post(t, body)
		require.Equal(t, 400, got.status, name)
		require.Equal(t, `{"code":3,"message":"Bad request"}`, got.body)
		if !strings.HasPrefix(body, "4a") { // which was sent back
			says(t, answered(t, waiting), "1")
		}
		c.gone(t)
		for heard := range c.said {
			require.Contains(t, []string{"message a", "message fail", "closed parse error"}, heard, name)
		}
	}
	c := s.poller(t)
	require.Equal(t, 400, c.post(t, "4hello", "Content-Type", "application/octet-stream").status)
	c.gone(t)
	c.hears(t, "closed parse error")
	require.Equal(t, 8, s.metric(t, "closed_total", "parse_error"))
}

// The client closes: a GET that waits is ended cleanly, and so is one that comes behind.
func TestPolling_ClientCloses(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	waiting := c.polls(t)
	says(t, c.post(t, "4a\x1e1\x1e4b"), "ok")
	says(t, answered(t, waiting), "4a")
	says(t, c.get(t), "6")
	c.gone(t)
	c.hears(t, "message a", "closed transport close")

	c = s.poller(t)
	waiting = c.polls(t)
	says(t, c.post(t, "1"), "ok")
	says(t, answered(t, waiting), "6")
	c.gone(t)

	for range 50 { // in any order
		c = s.poller(t)
		got := make(chan response, 1)
		go func() { got <- c.get(t) }()
		says(t, c.post(t, "1"), "ok")
		says(t, answered(t, got), "6")
		c.gone(t)
	}
	// It is not remembered for long.
	c = s.poller(t)
	says(t, c.post(t, "1"), "ok")
	require.Equal(t, `{"code":1,"message":"Session ID unknown"}`, c.post(t, "4x").body)
	require.NotNil(t, s.find(c.sid))
	require.Eventually(t, func() bool { return s.find(c.sid) == nil }, patience, 10*time.Millisecond)
	c.gone(t)
}

// The server closes: what was sent before is there, and the GET behind it has a close packet: the client
// would read messages that stand beside one only when it is connected again.
func TestPolling_ServerCloses(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	waiting := c.polls(t)
	c.conn.Close(session.TokenExpired)
	says(t, answered(t, waiting), "1")
	c.gone(t)
	c.hears(t, "closed forced server close")
	require.Equal(t, session.TokenExpired, c.conn.Send([]byte("x")))
	require.Equal(t, session.TokenExpired, context.Cause(c.conn.Context()))

	c = s.poller(t)
	require.NoError(t, c.conn.Send([]byte("a"), []byte("b")))
	c.conn.Close(session.Overloaded)
	c.conn.Close(session.Internal) // it is closed
	says(t, c.get(t), "4a\x1e4b")
	says(t, c.get(t), "1")
	c.gone(t)

	c = s.poller(t)
	says(t, c.post(t, "4overload\x1e4b"), "ok")
	says(t, c.get(t), "1")
	c.hears(t, "message overload", "closed forced server close")
}
