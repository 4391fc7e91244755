package pgtest

import (
	"context"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
)

// TLSServer starts a server that is also reached over TCP, with TLS, under the
// name localhost and the address 127.0.0.1; it shows the certificate that was
// last given to Show. It is stopped and removed when the test ends.
func TLSServer(t testing.TB, cert, key []byte) (server *localpg.Server, port string) {
	t.Helper()
	port = FreePort(t)
	c := config(Dir(t))
	c.Settings["listen_addresses"], c.Settings["port"] = "127.0.0.1", port
	server = start(t, c)
	execute(t, server, "ALTER SYSTEM SET ssl = on")
	Show(t, server, cert, key)
	return server, port
}

// FreePort is a port of 127.0.0.1 on which nobody listens. It is below those that the
// kernel gives to connections and to listeners that name none: nobody takes it before
// the caller does.
func FreePort(t testing.TB) string {
	t.Helper()
	for {
		port := strconv.Itoa(20_000 + rand.IntN(12_000))
		free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			require.NoError(t, free.Close())
			return port
		}
	}
}

// Show gives a server another certificate and its key, in PEM. New connections
// get it.
func Show(t testing.TB, server *localpg.Server, cert, key []byte) {
	t.Helper()
	info, err := os.Stat(server.DataDir())
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // so on every unix
	for name, text := range map[string][]byte{"server.crt": cert, "server.key": key} {
		path := filepath.Join(server.DataDir(), name)
		require.NoError(t, os.WriteFile(path, text, 0o600))
		require.NoError(t, os.Chown(path, int(owner.Uid), int(owner.Gid)))
	}
	loaded := configured(t, server)
	execute(t, server, "SELECT pg_reload_conf()")
	require.Eventually(t, func() bool { return configured(t, server).After(loaded) }, patience, 5*time.Millisecond,
		"the server reads its new certificate for the connections to come")
}

// configured is when the server read the settings that new connections get.
func configured(t testing.TB, server *localpg.Server) (at time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	require.NoError(t, conn.QueryRow(ctx, "SELECT pg_conf_load_time()").Scan(&at))
	return at
}

// TLSAddress is the address of a database of a TLSServer by a host name, which
// is verified with the authority in a file.
func TLSAddress(dsn, host, port, authority string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		panic("pgtest: an address that is none: " + err.Error())
	}
	u.Host = net.JoinHostPort(host, port)
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {authority}}.Encode()
	return u.String()
}
