package ws_test

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// limited is how often a limit has done its work.
func limited(t testing.TB, i *apptest.Instance, name string) float64 {
	t.Helper()
	return i.Metric(t, `tailroom_limited_total{limit="`+name+`"}`)
}

// until asks again and again, until the answer is right.
func until(t testing.TB, right func() bool) {
	t.Helper()
	require.Eventually(t, right, apptest.Patience, 10*time.Millisecond)
}

func TestFrameRate_PerConnection(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_FRAME_RATE_PER_CONNECTION=2")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	fast, other := join(t, i, token, `[]`), join(t, i, token, `[]`)
	const many = 20 // more than may come while they are sent
	since := time.Now()
	for n := range many {
		fast.Send(t, fmt.Sprintf(`{"type":"ping","ref":%d}`, n))
	}
	var refused []apptest.Message
	for n := range many {
		m := fast.Next(t)
		require.Equal(t, fmt.Sprint(n), string(m.Ref))
		if m.Type != "pong" {
			refused = append(refused, m)
		}
	}
	require.LessOrEqual(t, float64(many-len(refused)), 2+2*time.Since(since).Seconds())
	m := refused[0]
	require.NotContains(t, []string{"0", "1"}, string(m.Ref))
	require.Equal(t, "rate_limited", m.Code, string(m.Raw))
	require.False(t, m.OK)
	require.Regexp(t, `"retryAfterMs":[1-9]`, string(m.Raw))
	require.Positive(t, limited(t, i, "frame_rate_per_connection"))
	require.Equal(t, "pong", other.ask(t, "1", `{"type":"ping","ref":1}`).Type, "another connection of the same company")
	// What was refused was not done, and it goes on.
	until(t, func() bool { return fast.ask(t, `"x"`, `{"type":"ping","ref":"x"}`).Type == "pong" })
}

func TestFrameRate_PerCompany(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_FRAME_RATE_PER_COMPANY=5")[0]
	one, two := join(t, i, apptest.Token(t, access.Web, "c1", "b1"), `[]`), join(t, i, apptest.Token(t, access.Web, "c1"), `[]`)
	other := join(t, i, apptest.Token(t, access.Web, "c2"), `[]`)
	until(t, func() bool {
		one.ask(t, "1", `{"type":"ping","ref":1}`)
		m := two.ask(t, "1", `{"type":"ping","ref":1}`)
		return m.Code == "rate_limited" && strings.Contains(m.Message, "the company's connections")
	})
	require.Equal(t, "pong", other.ask(t, "1", `{"type":"ping","ref":1}`).Type)
	require.Positive(t, limited(t, i, "frame_rate_per_company"))
}

func TestPublishRate(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_PUBLISH_RATE_PER_CONNECTION=2", "TAILROOM_PUBLISH_RATE_PER_COMPANY=10")[0]
	token := apptest.Token(t, access.Service, "c1")
	s := join(t, i, token, `[]`)
	group := func(n int) string {
		return `{"type":"publish","ref":1,"events":[` + strings.TrimSuffix(strings.Repeat(order("1", "b1")+",", n), ",") + `]}`
	}
	require.True(t, s.ask(t, "1", group(100)).OK, "a large group goes, and is paid for afterwards")
	m := s.ask(t, "1", group(1))
	require.Equal(t, "reply", m.Type)
	require.Equal(t, "rate_limited", m.Code, string(m.Raw))
	require.Contains(t, m.Message, "the connection publishes")
	require.EqualValues(t, 1, limited(t, i, "publish_rate_per_connection"))
	// Another connection has its own rate, but the company's is used up.
	m = join(t, i, token, `[]`).ask(t, "1", group(1))
	require.Equal(t, "rate_limited", m.Code, string(m.Raw))
	require.Contains(t, m.Message, "the company publishes")
	require.True(t, join(t, i, apptest.Token(t, access.Service, "c2"), `[]`).ask(t, "1", group(1)).OK)
	require.Equal(t, "pong", s.ask(t, "2", `{"type":"ping","ref":2}`).Type)
	events, _, _ := i.History(t, token, "limit=1000")
	require.Len(t, events, 100, "what was refused is not in the log")
}

// Who does not care that he is refused is shown out, whether he sends messages or
// pings.
func TestFlood(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_FRAME_RATE_PER_CONNECTION=1")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	for name, frame := range map[string][]byte{
		"messages": maskedFrame(fin|opText, []byte(`{"type":"ping","ref":1}`)),
		"pings":    maskedFrame(fin|opPing, nil),
	} {
		r := helloRaw(t, i, token, "/orders")
		written := make(chan struct{})
		go func() {
			defer close(written)
			for range 5000 {
				if _, err := r.Write(frame); err != nil {
					return // it was shown out
				}
			}
		}()
		code, reason := r.closed(t)
		require.EqualValues(t, 1013, code, name)
		require.Equal(t, "overloaded", reason, name)
		_ = r.Conn.Close()
		<-written
	}
	require.EqualValues(t, 2, limited(t, i, "flood"))
	until(t, func() bool { return i.Metric(t, `tailroom_sessions_closed_total{reason="overloaded"}`) == 2 })
}

func TestSessions_PerCompany(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_SESSIONS_PER_COMPANY=2")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	first := join(t, i, token, `[]`)
	i.Stream(t, apptest.Token(t, access.Web, "c1"), "") // counts with the rest
	s := i.Dial(t)
	s.Send(t, `{"type":"hello","ref":"r","token":"`+token+`"}`)
	m := s.Next(t)
	require.Equal(t, "error", m.Type)
	require.Equal(t, "rate_limited", m.Code, string(m.Raw))
	require.Contains(t, string(m.Raw), `"retryAfterMs":5000`)
	require.Equal(t, websocket.CloseError{Code: 1013, Reason: "overloaded"}, s.Closed(t))
	join(t, i, apptest.Token(t, access.Web, "c2", "b1"), `[]`)
	require.EqualValues(t, 1, limited(t, i, "sessions_per_company"))
	require.EqualValues(t, 1, i.Metric(t, `tailroom_hello_refused_total{code="rate_limited",transport="websocket"}`))
	// A hello that is refused for another reason leaves no trace; a session that
	// ends makes room.
	bad := i.Dial(t)
	bad.Send(t, `{"type":"hello","token":"`+apptest.Token(t, access.Web, "c2", "b1")+`","cursor":"x"}`)
	require.EqualValues(t, 4106, bad.Closed(t).Code)
	welcomed := func(token string) func() bool {
		return func() bool {
			s := i.Dial(t)
			s.Send(t, `{"type":"hello","token":"`+token+`"}`)
			return s.Next(t).Type == "welcome"
		}
	}
	until(t, welcomed(apptest.Token(t, access.Web, "c2", "b1")))
	require.NoError(t, first.Conn.CloseNow())
	until(t, welcomed(token))
}

// upgrade asks for a WebSocket, and returns the status of the answer.
func upgrade(t testing.TB, i *apptest.Instance, forwarded string) (int, *websocket.Conn) {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(i.URL, "http")+"/v1/ws", &websocket.DialOptions{
		HTTPClient: apptest.Client, Subprotocols: []string{"tailroom.v1"}, HTTPHeader: http.Header{"X-Forwarded-For": {forwarded}},
	})
	if conn != nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
	} else {
		require.NotNil(t, response, err)
	}
	return response.StatusCode, conn
}

func TestSessions_PerAddress(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_SESSIONS_PER_ADDRESS=1", "TRUSTED_PROXIES=127.0.0.0/8,10.0.0.0/8")[0]
	status, first := upgrade(t, i, "203.0.113.7")
	require.Equal(t, http.StatusSwitchingProtocols, status, "a hello is not needed to count")
	for _, spoofed := range []string{"203.0.113.7", "198.51.100.1, 203.0.113.7", "203.0.113.7:999", "198.51.100.1, 203.0.113.7, 10.9.9.9"} {
		status, _ := upgrade(t, i, spoofed)
		require.Equal(t, http.StatusTooManyRequests, status, spoofed)
	}
	require.EqualValues(t, 4, limited(t, i, "sessions_per_address"))
	answer := i.Do(t, http.MethodGet, "/v1/stream", apptest.Token(t, access.Web, "c1"), "", "X-Forwarded-For", "203.0.113.7")
	require.Equal(t, http.StatusTooManyRequests, answer.Status)
	require.Equal(t, "rate_limited", answer.Code())
	require.Equal(t, "5", answer.Header.Get("Retry-After"))
	for _, other := range []string{"203.0.113.8", "203.0.113.7, 198.51.100.1", "2001:db8::1", "2001:db8:0:1::1"} {
		status, _ := upgrade(t, i, other)
		require.Equal(t, http.StatusSwitchingProtocols, status, other)
	}
	status, _ = upgrade(t, i, "2001:db8::ffff")
	require.Equal(t, http.StatusTooManyRequests, status, "of the same network")
	require.NoError(t, first.CloseNow())
	until(t, func() bool { status, _ := upgrade(t, i, "203.0.113.7"); return status == http.StatusSwitchingProtocols })
}

// Nobody may say where he comes from who is no trusted proxy.
func TestSessions_PerAddress_NoProxy(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_SESSIONS_PER_ADDRESS=1", "TRUSTED_PROXIES=192.0.2.1")[0]
	status, _ := upgrade(t, i, "203.0.113.7")
	require.Equal(t, http.StatusSwitchingProtocols, status)
	status, _ = upgrade(t, i, "203.0.113.8")
	require.Equal(t, http.StatusTooManyRequests, status)
}

func TestNamespaces_PerSession(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_NAMESPACES=2", "TAILROOM_MAX_ROOMS=3")[0]
	s := join(t, i, apptest.Token(t, access.Web, "c1"), `[{"namespace":"/orders"},{"namespace":"/availability"}]`)
	m := s.ask(t, "1", `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/printing-ws"}]}`)
	require.Equal(t, "too_large", m.Code)
	require.Contains(t, string(m.Raw), `"limit":2`)
	require.EqualValues(t, 1, limited(t, i, "namespaces"))
	require.True(t, s.ask(t, "2", `{"type":"subscribe","ref":2,"subscribe":[{"namespace":"/orders","rooms":["branch:b1"]}]}`).OK)
	m = s.ask(t, "3", `{"type":"subscribe","ref":3,"subscribe":[{"namespace":"/orders","rooms":["branch:b2","branch:b3","branch:b4"]}]}`)
	require.Equal(t, "too_large", m.Code)
	require.EqualValues(t, 1, limited(t, i, "rooms"))
	// A list that says the same again and again is work for nothing.
	list := strings.TrimSuffix(strings.Repeat(`{"namespace":"/orders","rooms":[]},`, 6), ",")
	for _, kind := range []string{"subscribe", "unsubscribe"} {
		m = s.ask(t, "4", `{"type":"`+kind+`","ref":4,"`+kind+`":[`+list+`]}`)
		require.Equal(t, "too_large", m.Code, kind)
	}
}

// A frame says how large it is going to be. Nobody waits for it, and nobody reads
// on for ever if it comes all the same.
func TestMessage_OfATebibyte(t *testing.T) {
	t.Parallel()
	const most = 64 << 10
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=32KiB")[0]
	r := helloRaw(t, i, apptest.Token(t, access.Web, "c1", "b1"), "/orders")
	r.write(t, append(binary.BigEndian.AppendUint64([]byte{fin | opText, 0x80 | 127}, 1<<40), 0, 0, 0, 0))
	chunk := bytes.Repeat([]byte("x"), most+1)
	r.write(t, chunk)
	code, reason := r.closed(t)
	require.EqualValues(t, 1009, code)
	require.Equal(t, "too_large", reason)
	require.EqualValues(t, 1, limited(t, i, "message_bytes"))
	r.patience(t)
	var err error
	for err == nil {
		_, err = r.Write(chunk)
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server reads on and on")
}

func TestMessage_InManyFragments(t *testing.T) {
	t.Parallel()
	const most = 2 << 10
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=2KiB", "TAILROOM_MAX_EVENT_BYTES=1KiB")[0]
	r := helloRaw(t, i, apptest.Token(t, access.Web, "c1", "b1"), "/orders")
	frames := maskedFrame(opText, []byte(`"`))
	for range most {
		frames = append(frames, maskedFrame(opContinuation, []byte("x"))...)
	}
	r.write(t, frames) // and the message is not at its end
	code, reason := r.closed(t)
	require.EqualValues(t, 1009, code)
	require.Equal(t, "too_large", reason)
	require.EqualValues(t, 1, limited(t, i, "message_bytes"))
}

// The limit is for what a message inflates to: here a thousand times what is sent.
func TestMessage_Bomb(t *testing.T) {
	t.Parallel()
	const most = 64 << 10
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=32KiB")[0]
	r := helloRaw(t, i, apptest.Token(t, access.Web, "c1", "b1"), "/orders", "Sec-WebSocket-Extensions",
		"permessage-deflate; client_no_context_takeover; server_no_context_takeover")
	var bomb bytes.Buffer
	w, err := flate.NewWriter(&bomb, flate.BestCompression)
	require.NoError(t, err)
	_, err = w.Write(bytes.Repeat([]byte(" "), 64*most))
	require.NoError(t, err)
	require.NoError(t, w.Flush())
	require.Less(t, bomb.Len(), 64*most/900)
	r.send(t, fin|rsv1|opText, bomb.Bytes()[:bomb.Len()-4])
	code, reason := r.closed(t)
	require.EqualValues(t, 1009, code)
	require.Equal(t, "too_large", reason)
	require.EqualValues(t, 1, limited(t, i, "message_bytes"))
}

// A message that began must end, however lively the connection is.
func TestMessage_ThatNeverEnds(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	i := apptest.Cluster(t, 1, "TAILROOM_BODY_TIMEOUT="+timeout.String(), "TAILROOM_HEARTBEAT=1h")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	begun := maskedFrame(fin|opText, bytes.Repeat([]byte("x"), 1000))
	for name, drip := range map[string][]byte{
		"a frame that stops":         nil,
		"a byte now and then":        []byte("x"),
		"an empty fragment, ever on": maskedFrame(opContinuation, nil),
	} {
		r := helloRaw(t, i, token, "/orders")
		require.Equal(t, "live", r.message(t).Type)
		start := begun[:10]
		if len(drip) > 1 {
			start = maskedFrame(opText, []byte(`"`))
		}
		since := time.Now()
		r.write(t, start)
		stop := make(chan struct{})
		dripped := make(chan struct{})
		go func() {
			defer close(dripped)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for len(drip) > 0 {
				select {
				case <-stop:
					return
				case <-tick.C:
					_, _ = r.Write(drip)
				}
			}
		}()
		require.Equal(t, "request_timeout", r.message(t).Code, name)
		require.GreaterOrEqual(t, time.Since(since), timeout, name)
		code, reason := r.closed(t)
		require.EqualValues(t, 4004, code, name)
		require.Equal(t, "message_timeout", reason, name)
		close(stop)
		<-dripped
	}
	require.EqualValues(t, 3, limited(t, i, "body_timeout"))
	// Nor does a pause between messages matter, nor a long one that is on time.
	s := join(t, i, token, `[]`)
	for range 3 {
		require.Equal(t, "pong", s.ask(t, "1", `{"type":"ping","ref":1,"x":"`+strings.Repeat("x", 100<<10)+`"}`).Type)
		<-time.After(timeout * 5 / 4)
	}
}

func TestHello_TimeoutIsCounted(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_HELLO_TIMEOUT=50ms")[0]
	require.EqualValues(t, 4003, i.Dial(t).Closed(t).Code)
	require.EqualValues(t, 1, limited(t, i, "hello_timeout"))
}
