package pgtest

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
)

// TLSServer starts a server that is also reached over TCP, with TLS, under the
// name localhost and the address 127.0.0.1; it shows the certificate that was
// last given to Show. It is stopped and removed when the test ends.
func TLSServer(t testing.TB, cert, key []byte) (server *localpg.Server, port string) {
	t.Helper()
	free, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	_, port, err = net.SplitHostPort(free.Addr().String())
	require.NoError(t, err)
	require.NoError(t, free.Close())
	c := config(Dir(t))
	c.Settings["listen_addresses"], c.Settings["port"] = "127.0.0.1", port
	server = start(t, c)
	execute(t, server, "ALTER SYSTEM SET ssl = on")
	Show(t, server, cert, key)
	return server, port
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
	execute(t, server, "SELECT pg_reload_conf()")
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
