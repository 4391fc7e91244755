package peer

import (
	"crypto/tls"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// startTLS makes a node that is reached by TLS, with a certificate of that authority
// for a name.
func startTLS(t *testing.T, pool *pgxpool.Pool, authority *certtest.Authority, name string) *node {
	t.Helper()
	n := bare(t, pool)
	listener := n.listen(t)
	cert, err := tls.X509KeyPair(authority.Sign(t, time.Now().Add(time.Hour), name))
	require.NoError(t, err)
	n.server.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	go func() { _ = n.server.ServeTLS(listener, "", "") }()
	n.url = "https://" + listener.Addr().String()
	n.show(t, n.url)
	return n
}

// trusted is the authority that the process trusts. It reads once whom.
var (
	trust   sync.Once
	trusted *certtest.Authority
)

func trustOf(t *testing.T) *certtest.Authority {
	t.Helper()
	authority := certtest.NewAuthority(t)
	pem, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(systemRoots, pem, 0o600))
	t.Cleanup(func() { _ = os.Remove(systemRoots) }) // has been read by then
	return authority
}

// Instances speak TLS to each other where one advertises https, and believe what the
// system does: here, what SSL_CERT_FILE names. Whoever cannot show a certificate of
// that, for that address, is not spoken to.
func TestForward_TLS(t *testing.T) {
	t.Parallel()
	trust.Do(func() { trusted = trustOf(t) })
	authority := trusted

	pool := pgtest.Pool(t, pgtest.Database(t))
	b := start(t, pool)
	a := startTLS(t, pool, authority, "127.0.0.1")
	require.Equal(t, "now", do(t, http.MethodGet, b.address(a.sid(), "&now"), "").body)
	require.NotNil(t, receive(t, a.asked).TLS)
	ws := dial(t, b, a.sid())
	require.NoError(t, ws.Write(t.Context(), websocket.MessageText, []byte("2probe")))
	_, got, err := ws.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, "2probe", string(got))
	b.Announce("sid")
	require.Equal(t, "sid", receive(t, a.taken).SID)

	for _, stranger := range []*node{
		startTLS(t, pool, authority, "elsewhere.example"), startTLS(t, pool, certtest.NewAuthority(t), "127.0.0.1"),
	} {
		requireUnknown(t, do(t, http.MethodGet, b.address(stranger.sid(), "&now"), ""))
		require.Empty(t, stranger.asked)
	}
	require.Equal(t, 2, b.sent(sentFailed))
}
