package pgproxy_test

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestProxy_IsTransparent(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t)+"&application_name=transparent")
	pool := pgtest.Pool(t, proxy.DSN())

	const large = 300_000 // several of the proxy's buffers
	var text, application string
	err := pool.QueryRow(t.Context(), "SELECT $1::text, current_setting('application_name')",
		strings.Repeat("x", large)).Scan(&text, &application)
	require.NoError(t, err)
	require.Len(t, text, large)
	require.Equal(t, "transparent", application)

	var pgErr *pgconn.PgError
	_, err = pool.Exec(t.Context(), "SELECT 1/0")
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "22012", pgErr.Code)
}

func TestProxy_SwallowNotifications(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	var heard []string
	conn := connect(t, proxy, func(payload string) { heard = append(heard, payload) })
	execute(t, conn, "LISTEN channel")

	// One's own notification comes before the end of the statement's answer.
	execute(t, conn, "NOTIFY channel, 'before'")
	proxy.SwallowNotifications(true)
	execute(t, conn, "NOTIFY channel, 'lost'")
	proxy.SwallowNotifications(false)
	execute(t, conn, "NOTIFY channel, 'after'")

	require.Equal(t, []string{"before", "after"}, heard)
}

func TestProxy_Cut(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	idle, waiting := connect(t, proxy, nil), connect(t, proxy, nil)
	failed := make(chan error, 1)
	go func() {
		_, err := waiting.WaitForNotification(t.Context())
		failed <- err
	}()

	proxy.Cut()

	require.Error(t, <-failed)
	require.Error(t, idle.Ping(t.Context()))
	require.NoError(t, connect(t, proxy, nil).Ping(t.Context()), "new connections are welcome")
}

func TestProxy_Reset(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	waiting := connect(t, proxy, nil)
	failed := make(chan error, 1)
	go func() {
		_, err := waiting.WaitForNotification(t.Context())
		failed <- err
	}()
	proxy.Reset()
	require.ErrorIs(t, <-failed, syscall.ECONNRESET)
	require.NoError(t, connect(t, proxy, nil).Ping(t.Context()), "new connections are welcome")
}

func TestProxy_Blackhole(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	conn := connect(t, proxy, nil)
	proxy.Blackhole(true)
	proxy.Blackhole(true) // twice is once

	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := pgx.Connect(ctx, proxy.DSN())
	require.ErrorIs(t, err, context.DeadlineExceeded, "new connections hear nothing")
	select {
	case err := <-answered:
		require.Fail(t, "open connections hear nothing", "%v", err)
	default:
	}

	proxy.Blackhole(false)
	proxy.Blackhole(false)
	require.NoError(t, <-answered, "what had been sent arrives after all")
}

func TestProxy_CutInABlackhole(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	conn := connect(t, proxy, nil)
	proxy.Blackhole(true)
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(t.Context()) }()
	proxy.Cut()
	require.Error(t, <-answered)
}

func TestProxy_Refuse(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	conn := connect(t, proxy, nil)
	proxy.Refuse(true)
	require.Error(t, conn.Ping(t.Context()))
	_, err := pgx.Connect(t.Context(), proxy.DSN())
	require.Error(t, err)
	proxy.Refuse(false)
	require.NoError(t, connect(t, proxy, nil).Ping(t.Context()))
}

func TestProxy_Delay(t *testing.T) {
	t.Parallel()
	const delay = 50 * time.Millisecond
	proxy := pgproxy.Start(t, pgtest.Database(t))
	conn := connect(t, proxy, nil)
	proxy.Delay(delay)
	begin := time.Now()
	require.NoError(t, conn.Ping(t.Context()))
	require.GreaterOrEqual(t, time.Since(begin), delay)
}

func TestProxy_OutlivesItsServer(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	proxy := pgproxy.Start(t, server.URL("tailroom"))
	conn := connect(t, proxy, nil)

	require.NoError(t, server.Restart(t.Context(), os.Kill))

	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, connect(t, proxy, nil).Ping(t.Context()))

	require.NoError(t, server.Stop(t.Context()))
	_, err := pgx.Connect(t.Context(), proxy.DSN())
	require.Error(t, err, "and tells of its absence")
}

func TestProxy_Redirect(t *testing.T) {
	t.Parallel()
	first, second := pgtest.Database(t), pgtest.Server(t)
	database := pgtest.Pool(t, first).Config().ConnConfig.Database
	other, err := pgx.Connect(t.Context(), second.URL("tailroom"))
	require.NoError(t, err)
	execute(t, other, "CREATE DATABASE "+database)
	require.NoError(t, other.Close(t.Context()))
	proxy := pgproxy.Start(t, first)
	server := func(conn *pgx.Conn) (identifier string) {
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT system_identifier::text FROM pg_control_system()").Scan(&identifier))
		return identifier
	}
	before := connect(t, proxy, nil)
	there := server(before)

	proxy.Redirect(t, second.URL(database))

	require.Equal(t, there, server(before), "what is open stays")
	require.NotEqual(t, there, server(connect(t, proxy, nil)))
}

func connect(t *testing.T, proxy *pgproxy.Proxy, onNotify func(payload string)) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(proxy.DSN())
	require.NoError(t, err)
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { onNotify(n.Payload) }
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}
