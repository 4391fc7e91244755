package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

const (
	health = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	// unfinished keeps its connection for as long as a body may take.
	unfinished = "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
)

// rawFrom is raw for a client of another address than everybody else's. It may be cut
// while it speaks.
func rawFrom(t testing.TB, i *apptest.Instance, address, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(apptest.Patience)))
	_, _ = io.WriteString(conn, text)
	return conn, bufio.NewReader(conn)
}

// One address does not keep the others out, whatever it holds connections with.
func TestConnections_OneAddressTakesNotAll(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"silent": "", "a header": "GET /", "a body": unfinished} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := apptest.Cluster(t, 1, "TAILROOM_MAX_CONNECTIONS=200", "TAILROOM_HEADER_TIMEOUT=1h", "TAILROOM_BODY_TIMEOUT=1h")[0]
			for range 3 {
				for range 120 {
					rawFrom(t, i, "127.0.0.2", text)
				}
				require.Equal(t, http.StatusOK, i.Get(t, "/metrics", "").Status)
				require.Equal(t, http.StatusOK, i.Get(t, "/readyz", "").Status)
				answer := i.Do(t, http.MethodPost, "/v1/revocations", apptest.Token(t, access.Admin, "c1"), `{"subject":"x"}`)
				require.Equal(t, http.StatusCreated, answer.Status)
				i.Stream(t, apptest.Token(t, access.Web, "c1"), "").Close()
			}
		})
	}
}

// Who opens connections and says nothing drives out himself.
func TestConnections_SilentOnesGoFirst(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_CONNECTIONS=40", "TAILROOM_HEADER_TIMEOUT=1h")[0]
	for _, address := range []string{"127.0.0.1", "127.0.0.2"} { // his own idle connection is as good as another's
		conn, in := rawFrom(t, i, address, health)
		require.Equal(t, http.StatusOK, answered(t, in).Status)
		_, oldest := rawFrom(t, i, "127.0.0.2", "")
		for range 40 {
			rawFrom(t, i, "127.0.0.2", "")
		}
		requireEnded(t, oldest)
		_, err := io.WriteString(conn, health)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answered(t, in).Status, address)
		require.NoError(t, conn.Close())
	}
	require.LessOrEqual(t, i.Metric(t, "tailroom_open_connections"), 40.0)
}
