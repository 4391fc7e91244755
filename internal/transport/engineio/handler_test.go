package engineio

import (
	"bytes"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

const upgradeHeaders = "Connection:Upgrade Upgrade:websocket Sec-WebSocket-Version:13 Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ=="

func handshakeOf(t testing.TB) []string {
	t.Helper()
	var headers []string
	for h := range strings.SplitSeq(upgradeHeaders, " ") {
		name, value, _ := strings.Cut(h, ":")
		headers = append(headers, name, value)
	}
	return headers
}

// What cannot be served is refused with the official server's bytes, in its order.
func TestRefusals(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	base := strings.TrimSuffix(s.url, "?EIO=4")
	ws := handshakeOf(t)
	const (
		transport = `{"code":0,"message":"Transport unknown"}`
		unknown   = `{"code":1,"message":"Session ID unknown"}`
		method    = `{"code":2,"message":"Bad handshake method"}`
		bad       = `{"code":3,"message":"Bad request"}`
		version   = `{"code":5,"message":"Unsupported protocol version"}`
	)
	for name, test := range map[string]struct {
		method, query string
		headers       []string
		body          string
	}{
		"no transport":                          {"GET", "?EIO=4", nil, transport},
		"another transport":                     {"GET", "?EIO=4&transport=flashsocket", nil, transport},
		"no transport, before all others":       {"PUT", "?EIO=3&sid=x", nil, transport},
		"an unknown sid":                        {"GET", "?EIO=4&transport=polling&sid=x", nil, unknown},
		"an unknown sid, before the method":     {"PUT", "?EIO=4&transport=polling&sid=x", nil, unknown},
		"an unknown sid, by WebSocket":          {"GET", "?EIO=4&transport=websocket&sid=x", ws, unknown},
		"a handshake by POST":                   {"POST", "?EIO=4&transport=polling", nil, method},
		"a handshake by PUT, before version":    {"PUT", "?EIO=3&transport=polling", nil, method},
		"OPTIONS that is no preflight":          {"OPTIONS", "?EIO=4&transport=polling", nil, method},
		"WebSocket without Upgrade":             {"GET", "?EIO=4&transport=websocket", nil, bad},
		"WebSocket of another version":          {"GET", "?EIO=4&transport=websocket", append(ws[:4:4], "Sec-WebSocket-Version", "8"), bad},
		"the wrong transport for the session":   {"GET", "?EIO=4&transport=websocket&sid=" + c.sid, nil, bad},
		"another method in a session":           {"DELETE", "?EIO=4&transport=polling&sid=" + c.sid, nil, bad},
		"no version":                            {"GET", "?transport=polling", nil, version},
		"another version":                       {"GET", "?EIO=3&transport=polling", nil, version},
		"another version, by WebSocket":         {"GET", "?EIO=3&transport=websocket", ws, version},
		"a version that is none, by WebSocket":  {"GET", "?EIO=abc&transport=websocket", ws, version},
		"a WebSocket handshake that is no such": {"GET", "?EIO=4&transport=websocket", []string{"Connection", "x", "Upgrade", "websocket"}, bad},
	} {
		got := ask(t, test.method, base+test.query, "", test.headers...)
		require.NoError(t, got.err, name)
		require.Equal(t, 400, got.status, name)
		require.Equal(t, test.body, got.body, name)
		require.Equal(t, "application/json", got.Header.Get("Content-Type"), name)
		require.Equal(t, "no-store", got.Header.Get("Cache-Control"), name)
	}
	require.Equal(t, 3, s.metric(t, "refused_total", "transport_unknown"))
	require.Equal(t, 4, s.metric(t, "refused_total", "unsupported_version"))

	// None of it has hurt the session; queries of the application's own change nothing.
	says(t, ask(t, "POST", c.url()+"&t=abc&b64=1&token=x", "4hello"), "ok")
	says(t, ask(t, "GET", c.url()+"&t=abd&b64=1", ""), "4hello")
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	s := serve(t)
	got := ask(t, "GET", s.url+"&transport=polling", "", "Authorization", "secret")
	require.Equal(t, 200, got.status)
	require.Equal(t, "text/plain; charset=UTF-8", got.Header.Get("Content-Type"))
	require.Equal(t, "no-store", got.Header.Get("Cache-Control"))
	o := opening(t, got.body)
	require.Equal(t, open{o.SID, []string{"websocket"}, 60_000, 60_000, 1_000_000}, o)
	require.Equal(t, `0{"sid":"`+o.SID+`","upgrades":["websocket"],"pingInterval":60000,"pingTimeout":60000,"maxPayload":1000000}`, got.body)
	owner, ok := Owner(o.SID)
	require.True(t, ok)
	require.Equal(t, s.Owner, owner)
	k := <-s.talks
	require.Equal(t, "secret", k.conn.Header().Get("Authorization"))
	require.Equal(t, "192.0.2.1", k.conn.Remote().String())
	require.Equal(t, "polling", k.conn.Transport())

	ws := dial(t, s.url+"&transport=websocket")
	first := ws.next(t)
	o = opening(t, first)
	require.Equal(t, open{o.SID, []string{}, 60_000, 60_000, 1_000_000}, o)
	require.Contains(t, first, `"upgrades":[]`)
	require.Equal(t, "websocket", (<-s.talks).conn.Transport())
	require.Equal(t, 1, s.metric(t, "connections", "polling"))
	require.Equal(t, 1, s.metric(t, "connections", "websocket"))
}

// Pages are judged by one rule, whatever the transport, and may read refusals as well.
func TestOrigins(t *testing.T) {
	t.Parallel()
	s := serve(t)
	own := strings.TrimSuffix(s.url, "/socket.io/?EIO=4")
	for _, transport := range []string{"polling", "websocket"} {
		var headers []string
		good := 200
		if transport == "websocket" {
			headers, good = handshakeOf(t), 101
		}
		for _, origin := range []string{"https://app.example", own, "null", "file://", "capacitor://localhost"} {
			got := ask(t, "GET", s.url+"&transport="+transport, "", append(headers, "Origin", origin)...)
			require.Equal(t, good, got.status, origin)
			require.Equal(t, origin, got.Header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "true", got.Header.Get("Access-Control-Allow-Credentials"))
			require.Equal(t, "Origin", got.Header.Get("Vary"))
		}
		for _, origin := range []string{"https://evil.example", "http://app.example", "https://app.example.evil", "\xff"} {
			got := ask(t, "GET", s.url+"&transport="+transport, "", append(headers, "Origin", origin)...)
			require.Equal(t, 403, got.status, origin)
			require.Equal(t, `{"code":4,"message":"pages of this origin may not call: CORS_ORIGINS lists those that may"}`, got.body)
			require.Equal(t, "application/json", got.Header.Get("Content-Type"))
			require.Empty(t, got.Header.Get("Access-Control-Allow-Origin"))
			require.Equal(t, "Origin", got.Header.Get("Vary"))
		}
	}
	got := ask(t, "GET", s.url+"&transport=polling&sid=x", "", "Origin", "https://app.example")
	require.Equal(t, 400, got.status)
	require.Equal(t, "https://app.example", got.Header.Get("Access-Control-Allow-Origin"))

	got = ask(t, "OPTIONS", s.url+"&transport=polling", "", "Origin", "https://app.example",
		"Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-token, content-type")
	require.Equal(t, 204, got.status)
	require.Contains(t, got.Header.Get("Access-Control-Allow-Methods"), "POST")
	require.Equal(t, "x-token, content-type", got.Header.Get("Access-Control-Allow-Headers"))
	require.Equal(t, []string{"Origin", "Access-Control-Request-Headers"}, got.Header.Values("Vary"))
	require.Equal(t, 8, s.metric(t, "refused_total", "forbidden"))
}

// The log names the pages that are refused, and is not theirs to fill.
func TestOrigins_Log(t *testing.T) { //nolint:paralleltest // the logger is everybody's
	var said bytes.Buffer
	before, writer, flags := slog.Default(), log.Writer(), log.Flags()
	slog.SetDefault(slog.New(slog.NewTextHandler(&said, nil)))
	defer func() {
		slog.SetDefault(before)
		log.SetOutput(writer)
		log.SetFlags(flags)
	}()
	s := serve(t)
	for range 2 * foreignAtOnce {
		require.Equal(t, 403, ask(t, "GET", s.url+"&transport=polling", "", "Origin", "https://evil.example").status)
	}
	require.GreaterOrEqual(t, strings.Count(said.String(), "origin=https://evil.example"), foreignAtOnce)
	require.Less(t, strings.Count(said.String(), "origin=https://evil.example"), 2*foreignAtOnce)
}

// Whoever is not admitted is told in the form of a refusal, with a status that clients
// come back from; whoever was gives his seat back, whatever becomes of him.
func TestAdmission(t *testing.T) {
	t.Parallel()
	seats := make(chan string, 10)
	s := serve(t, func(c *Config) {
		c.MaxConns = 1
		c.Admit = func(r *http.Request) (limit.Seat, error) {
			if r.Header.Get("X-Late") != "" {
				return nil, problem.New(problem.Draining, "going away").RetryAfter(1500 * time.Millisecond)
			}
			seats <- "taken"
			return func() { seats <- "left" }, nil
		}
	})
	for _, headers := range [][]string{{"X-Late", "1"}, append(handshakeOf(t), "X-Late", "1")} {
		transport := map[bool]string{true: "polling", false: "websocket"}[len(headers) == 2]
		got := ask(t, "GET", s.url+"&transport="+transport, "", headers...)
		require.Equal(t, 503, got.status)
		require.Equal(t, `{"code":4,"message":"going away"}`, got.body)
		require.Equal(t, "2", got.Header.Get("Retry-After"))
	}
	require.Equal(t, 400, ask(t, "GET", s.url[:len(s.url)-1]+"3&transport=polling", "").status)
	require.Equal(t, "taken", <-seats)
	require.Equal(t, "left", <-seats)
	require.Equal(t, 400, ask(t, "GET", s.url+"&transport=websocket", "", "Connection", "x", "Upgrade", "websocket").status)
	require.Equal(t, "taken", <-seats)
	require.Equal(t, "left", <-seats)

	c := s.poller(t)
	require.Equal(t, "taken", <-seats)
	got := ask(t, "GET", s.url+"&transport=polling", "")
	require.Equal(t, 503, got.status)
	require.Equal(t, `{"code":4,"message":"this instance has as many connections as it may have, or as this address may have of them"}`, got.body)
	require.Equal(t, "taken", <-seats)
	require.Equal(t, "left", <-seats)
	says(t, c.post(t, "1"), "ok")
	require.Equal(t, "left", <-seats)
	c.hears(t, "closed transport close")
	require.Eventually(t, func() bool { return ask(t, "GET", s.url+"&transport=polling", "").status == 200 }, patience, time.Millisecond)
}

// Who polls has no connection open that anybody counts. One address leaves room for others
// all the same, however many handshakes it makes.
func TestAdmission_OneAddress(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *Config) {
		c.MaxConns = 16
		c.Client = func(r *http.Request) netip.Addr { return netip.MustParseAddr(r.Header.Get("X-From")) }
	})
	shakes := func(from string) int { return ask(t, "GET", s.url+"&transport=polling", "", "X-From", from).status }
	for range 12 {
		require.Equal(t, 200, shakes("2001:db8::1"))
	}
	require.Equal(t, 503, shakes("2001:db8::1"))
	require.Equal(t, 503, shakes("2001:db8::2"), "of the same network")
	require.Equal(t, 200, shakes("192.0.2.1"))
	require.Equal(t, 200, shakes("192.0.2.2"))
	(<-s.talks).conn.Close(session.Overloaded)
	require.Eventually(t, func() bool { return shakes("192.0.2.3") == 200 }, patience, time.Millisecond)
	for i := range 13 {
		require.Equal(t, i < 2, shakes(fmt.Sprintf("192.0.2.%d", 10+i)) == 200, "all are taken")
	}
}

// Of a request's header nothing stays but what may be the token.
func TestHandshake_Header(t *testing.T) {
	t.Parallel()
	s := serve(t)
	require.Equal(t, 200, ask(t, "GET", s.url+"&transport=polling", "", "Authorization", "Bearer x", "Cookie", strings.Repeat("c", 50_000)).status)
	require.Equal(t, http.Header{"Authorization": {"Bearer x"}}, (<-s.talks).conn.Header())
	got := ask(t, "GET", s.url+"&transport=polling", "", "Authorization", strings.Repeat("c", maxAuthorization+1))
	require.Equal(t, 431, got.status)
	require.Equal(t, `{"code":3,"message":"Authorization longer than 8192 bytes"}`, got.body)
}
