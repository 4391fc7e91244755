package pgtest_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Each copy has what was there when it was made, and the original has more.
func TestCopies(t *testing.T) {
	t.Parallel()
	dir, backup, snapshot := pgtest.Dir(t), pgtest.Dir(t), pgtest.Dir(t)
	server := pgtest.ServerIn(t, dir)
	execute(t, server, "CREATE TABLE things AS SELECT 1 AS thing")
	pgtest.BaseBackup(t, server, backup)
	standby := pgtest.Dir(t)
	pgtest.BaseBackup(t, server, standby, "--write-recovery-conf")
	following := pgtest.ServerIn(t, standby)
	dump := pgtest.Dump(t, server, "tailroom")
	execute(t, server, "INSERT INTO things VALUES (2)")
	require.NoError(t, server.Stop(t.Context()))
	pgtest.Snapshot(t, server, snapshot)
	server = pgtest.ServerIn(t, dir)
	execute(t, server, "INSERT INTO things VALUES (3)")
	require.Equal(t, 3, count(t, server, "tailroom"))
	require.Eventually(t, func() bool { return count(t, following, "tailroom") == 3 }, time.Minute, 20*time.Millisecond)

	require.Equal(t, 1, count(t, pgtest.ServerIn(t, backup), "tailroom"))
	copied := pgtest.ServerIn(t, snapshot)
	require.Equal(t, 2, count(t, copied, "tailroom"))
	require.NoError(t, copied.Stop(t.Context()))
	pgtest.Load(t, server, "loaded", dump)
	require.Equal(t, 1, count(t, server, "loaded"))
	pgtest.Kill(t, server)
	pgtest.PutBack(t, snapshot, server)
	require.Equal(t, 2, count(t, pgtest.ServerIn(t, dir), "tailroom"))
}

func execute(t *testing.T, server *localpg.Server, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("tailroom"))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func count(t *testing.T, server *localpg.Server, database string) (n int) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL(database))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM things").Scan(&n))
	return n
}
