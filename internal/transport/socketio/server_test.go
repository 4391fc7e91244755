package socketio

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/limit"
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

func closeError(t testing.TB, err error) *websocket.CloseError {
	t.Helper()
	var closed websocket.CloseError
	require.ErrorAs(t, err, &closed)
	return &closed
}
