// Package apptest starts real instances for tests, and speaks to them as
// clients do: HTTP, and the raw WebSocket protocol. It hides nothing of the
// protocol, so that a test reads as the conversation it is.
package apptest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/app"
	"github.com/tailroom/tailroom/internal/apptest/leak"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Secret signs the tokens of every test. The others are those of every instance,
// unless its settings say otherwise.
const (
	Secret                = "a secret that is long enough for tests"
	SecretPrevious        = "the secret that was good before the one of today"
	ClusterSecret         = "what the instances of a test have in common"
	ClusterSecretPrevious = "what the instances of a test had in common"
)

// Patience is how long a test waits for what must happen, before it fails.
const Patience = 30 * time.Second

// Instance is a running instance.
type Instance struct {
	URL string
	DSN string // of its database
	// Client is what it is spoken to with; nil is this package's.
	Client *http.Client
	stop   context.CancelFunc
	done   chan struct{}
}

// Start runs an instance on a database until the test ends. Settings are given
// as in an environment, such as "TAILROOM_HEARTBEAT=50ms". The instance's role is
// a member of tailroom_writer and of nothing else, unless the address or a setting
// names another than the superuser. It sends no heartbeats and no bookmarks unless a
// setting says so: they could come between any two messages, and a socket that the test
// does not read would be given up.
func Start(t testing.TB, dsn string, environ ...string) *Instance {
	t.Helper()
	environ = append([]string{
		"DATABASE_URL=" + pgtest.Writer(dsn), "JWT_SECRET=" + Secret, "TAILROOM_HOST=127.0.0.1", "PORT=0", "TAILROOM_MIGRATE=off",
		"TAILROOM_DRAIN_TIMEOUT=1s", "TAILROOM_HEARTBEAT=1h", "CLUSTER_SECRET=" + ClusterSecret,
		"TAILROOM_JWT_SECRET_PREVIOUS=" + SecretPrevious, "TAILROOM_CLUSTER_SECRET_PREVIOUS=" + ClusterSecretPrevious,
	}, environ...)
	c, err := config.Load(environ, pflag.NewFlagSet("test", pflag.ContinueOnError), config.Database, config.Tokens)
	require.NoError(t, err)
	a, err := app.Build(t.Context(), c, "test")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	i := &Instance{URL: a.URL(), DSN: dsn, stop: cancel, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		if err := a.Run(ctx); err != nil {
			t.Errorf("the instance failed: %v", err)
		}
	}()
	t.Cleanup(i.Stop)
	return i
}

func (i *Instance) client() *http.Client { return cmp.Or(i.Client, Client) }

// Stop shuts the instance down as SIGTERM does, and waits for it.
func (i *Instance) Stop() {
	i.stop()
	<-i.done
}

// Cluster runs some instances on a database of their own.
func Cluster(t testing.TB, instances int, environ ...string) []*Instance {
	t.Helper()
	dsn := pgtest.Database(t)
	list := make([]*Instance, instances)
	for i := range list {
		list[i] = Start(t, dsn, environ...)
	}
	return list
}

// Token mints a token that is good for an hour. No branches is the whole
// company.
func Token(t testing.TB, role access.Role, company string, branches ...string) string {
	t.Helper()
	return TokenUntil(t, time.Now().Add(time.Hour), role, company, branches...)
}

// TokenUntil mints a token that is good until then.
func TokenUntil(t testing.TB, expires time.Time, role access.Role, company string, branches ...string) string {
	t.Helper()
	token, err := access.Mint([]byte(Secret), access.Claims{
		Subject: "test-" + string(role), CompanyID: company, BranchIDs: branches, UserRole: string(role),
		IssuedAt: time.Now().Add(-time.Minute), Expires: expires,
	})
	require.NoError(t, err)
	secrets.Token(token)
	return token
}

// Client is what tests send requests with: it keeps no connection, so that
// none is left when a test ends, and it dials as Dial does. What it is answered is
// watched.
var Client = &http.Client{Transport: Watch(&http.Transport{DisableKeepAlives: true, DialContext: dial})}

// Watch looks for secrets in what a transport is answered.
func Watch(base http.RoundTripper) http.RoundTripper {
	return leak.Transport{Finder: &secrets, Base: base}
}

// Dial connects for a test that speaks HTTP or frames by itself. What comes is
// watched.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return leak.NewConn(&secrets, conn), nil
}

// dial connects with small buffers and small segments, on which the other
// side's buffer depends: a reader who pauses holds the server up after 1 MB or
// two, where four would fit otherwise.
func dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(
				syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460))
		})
		return errors.Join(err, failed)
	}}
	return d.DialContext(ctx, network, address)
}

// Trickle reads so many bytes every quarter of a second, until the connection or the
// test ends.
func Trickle(t testing.TB, conn net.Conn, bytes int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.CopyN(io.Discard, conn, int64(bytes)); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}
