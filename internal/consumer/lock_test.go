package consumer

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Whoever has the append lock waits for no consumer that is being written to: nobody
// could publish meanwhile.
func TestConsumers_AppendsDoNotWait(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	require.NoError(t, eventlog.MakePartitions(t.Context(), pool))
	d := newDesk(pool)
	d.claimedFor(t).Release()
	require.NoError(t, d.pass(t.Context(), true))
	lagging := func(upto int64) (n int64) {
		t.Helper()
		require.NoError(t, quick(t, pool).QueryRow(t.Context(), "SELECT tailroom.consumers_lagging($1, 10)", upto).Scan(&n))
		return n
	}

	unlock := locked(t, pool)
	require.EqualValues(t, 0, lagging(10), "it is told of the next time")
	unlock()
	require.EqualValues(t, 1, lagging(10))
	unlock = locked(t, pool)
	require.EqualValues(t, 1, lagging(0))
	_, err := quick(t, pool).Exec(t.Context(), "SELECT tailroom.consumer_erase('c1', 'n', NULL, 'admin:1')")
	require.ErrorContains(t, err, "lock timeout")
	unlock()
	require.EqualValues(t, 0, lagging(0))
}

// locked holds the consumers' rows.
func locked(t *testing.T, pool *pgxpool.Pool) (unlock func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM tailroom.consumers FOR UPDATE")
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	return func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }
}

// quick is a connection on which a statement takes less than what is waited for a lock.
func quick(t *testing.T, pool *pgxpool.Pool) *pgx.Conn {
	t.Helper()
	config := pool.Config().ConnConfig
	config.RuntimeParams["statement_timeout"] = "4s"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}
