package pgtest_test

import (
	"context"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestDatabase_IsMigratedAndOnesOwn(t *testing.T) {
	t.Parallel()
	for i := range 4 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			var migrated bool
			err := pool.QueryRow(t.Context(), "SELECT to_regclass('tailroom.events') IS NOT NULL").Scan(&migrated)
			require.NoError(t, err)
			require.True(t, migrated)
			_, err = pool.Exec(t.Context(), "CREATE TABLE public.mine ()") // the same name in each
			require.NoError(t, err)
		})
	}
}

func TestDatabase_IsDroppedWithItsSessions(t *testing.T) { //nolint:tparallel // what follows looks at what the subtest left
	t.Parallel()
	var name string
	var forgotten *pgx.Conn
	t.Run("user", func(t *testing.T) {
		var err error
		forgotten, err = pgx.Connect(t.Context(), pgtest.Database(t))
		require.NoError(t, err)
		name = forgotten.Config().Database
	})
	require.Error(t, forgotten.Ping(t.Context()))
	require.NoError(t, forgotten.Close(context.Background()))

	var exists bool
	err := pgtest.Pool(t, pgtest.Database(t)).
		QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&exists)
	require.NoError(t, err)
	require.False(t, exists)
}

func TestServer_CanBeKilled(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, server)
	_, err := pgtest.Pool(t, dsn).Exec(t.Context(), "CREATE TABLE public.kept AS SELECT 42 AS answer")
	require.NoError(t, err)

	require.NoError(t, server.Restart(t.Context(), os.Kill))

	var answer int
	err = pgtest.Pool(t, dsn).QueryRow(t.Context(), "SELECT answer FROM public.kept").Scan(&answer)
	require.NoError(t, err)
	require.Equal(t, 42, answer)
}
