package socketio

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/engineio"
)

// A connection that joins nothing is closed.
func TestServer_ConnectTimeout(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	limits := limit.New(limit.Config{Metrics: registry})
	server := New(Config{ConnectTimeout: 100 * time.Millisecond, Limits: limits, Metrics: registry})
	engine := engineio.New(engineio.Config{
		Accept: server.Accept, Limits: limits, Metrics: registry, PingInterval: time.Minute, PingTimeout: time.Minute,
		WriteTimeout: time.Minute, BodyTimeout: time.Minute, MaxPayload: 1 << 20, MaxConns: 10,
		Admit:  func(*http.Request) (limit.Seat, error) { return nil, nil },
		Client: func(*http.Request) netip.Addr { return netip.Addr{} },
	})
	site := httptest.NewServer(engine)
	t.Cleanup(site.Close)
	ws, _, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(site.URL, "http")+"/socket.io/?EIO=4&transport=websocket", nil)
	require.NoError(t, err)
	_, _, err = ws.Read(t.Context())
	require.NoError(t, err)
	_, _, err = ws.Read(t.Context())
	require.Equal(t, websocket.CloseError{Code: 4003, Reason: "hello_timeout"}, *closeError(t, err))
	engine.Close(t.Context())
	server.Close(t.Context())
}

// Who joins a namespace again waits until the one before is silent: its last words, and its
// DISCONNECT, would be taken for the new one's.
func TestConnect_AfterTheOneBefore(t *testing.T) {
	t.Parallel()
	for name, byServer := range map[string]bool{"the client left": false, "the server sent it out": true} {
		synctest.Test(t, func(t *testing.T) {
			begun := false
			registry := prometheus.NewRegistry()
			server := New(Config{
				Rules: session.Rules{Known: func(string) error { return nil }}, Metrics: registry,
				Limits: limit.New(limit.Config{Metrics: registry}),
				Verify: func(string) (access.Grant, error) {
					begun = true
					return access.Grant{}, problem.New(problem.Draining, "far enough")
				},
			})
			c := &conn{server: server, ctx: t.Context()}
			before, other := newSocket(c, "/orders"), newSocket(c, "/availability")
			c.joined = []*socket{before, other}
			c.forget(before, byServer)
			c.forget(other, byServer) // which nobody waits for
			p, err := parsePacket([]byte(`0/orders,{"token":"x"}`))
			require.NoError(t, err)
			var end error
			go func() { end = c.connect(p) }()
			synctest.Wait()
			require.False(t, begun, name)
			before.leave()
			synctest.Wait()
			require.True(t, begun, name)
			require.Equal(t, session.Draining, end)
			require.Equal(t, []*socket{other}, c.leaving)

			// It is not waited for without end.
			begun = false
			c.joined = []*socket{newSocket(c, "/orders")}
			c.forget(c.joined[0], byServer)
			require.NoError(t, c.connect(p))
			require.True(t, c.turnedAway, name)
			require.False(t, begun, name)
		})
	}
}

func closeError(t testing.TB, err error) *websocket.CloseError {
	t.Helper()
	var closed websocket.CloseError
	require.ErrorAs(t, err, &closed)
	return &closed
}
