// Package pgtest gives tests a real Postgres and starts it by itself.
//
// A package whose tests use it says
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
// and then, in any test, pgtest.Database(t): a database of its own with
// Tailroom's schema, so that tests may run in parallel, commit, listen and
// leave a mess. There is one server per test process. It starts when the first
// test asks for it, in a temporary directory, and is gone afterwards; databases
// are cloned from a template that is migrated once.
//
// A test that restarts or kills its Postgres takes a server of its own with
// Server and DatabaseOn. What backups and failovers leave behind is made by
// BaseBackup, Snapshot and Dump, and started by ServerIn.
package pgtest

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/migrations"
)

// patience is how long a server may take to start or to stop.
const patience = time.Minute

// Main runs the tests, stops the server and fails if a goroutine is left that
// no option excuses. It does not return.
func Main(m interface{ Run() int }, options ...goleak.Option) {
	code := m.Run()
	err := suite.stop()
	if err == nil && code == 0 {
		err = goleak.Find(options...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// Database returns the address of a fresh, migrated database, which is dropped
// when the test ends. The role in it is a superuser.
func Database(t testing.TB) string {
	t.Helper()
	server, err := suite.start()
	require.NoError(t, err)

	name := newName()
	execute(t, server, "CREATE DATABASE "+name+" TEMPLATE "+template)
	t.Cleanup(func() { execute(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	return server.URL(name)
}

// Server starts a server for this test alone, to be restarted or killed. It is
// stopped and removed when the test ends.
func Server(t testing.TB) *localpg.Server {
	t.Helper()
	return ServerIn(t, Dir(t))
}

// DatabaseOn returns the address of a fresh, migrated database on a server of
// the test's own.
func DatabaseOn(t testing.TB, server *localpg.Server) string {
	t.Helper()
	name := newName()
	execute(t, server, "CREATE DATABASE "+name)
	require.NoError(t, migrations.Up(t.Context(), server.URL(name)))
	execute(t, server, makeWriter)
	return server.URL(name)
}

// Pool opens a pool on a database and closes it when the test ends.
func Pool(t testing.TB, dsn string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	require.NoError(t, pool.Ping(t.Context()))
	return pool
}

var databases atomic.Int64

func newName() string { return fmt.Sprintf("test_%d", databases.Add(1)) }

// execute runs one statement beside the test's databases. It is used in
// clean-ups too, when t.Context() is over.
func execute(t testing.TB, server *localpg.Server, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, server.URL("postgres"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	require.NoError(t, err)
}
