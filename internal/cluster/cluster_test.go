package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

const patience = 30 * time.Second

func TestMain(m *testing.M) { pgtest.Main(m) }

// join makes a member that says nothing by itself.
func join(t *testing.T, pool *pgxpool.Pool, name string) *Member {
	t.Helper()
	m, err := Join(t.Context(), pool, name, prometheus.NewRegistry())
	require.NoError(t, err)
	return m
}

// run lets a member show itself until the test ends.
func run(t *testing.T, m *Member) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func names(t *testing.T, pool *pgxpool.Pool) (names []string) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT coalesce(array_agg(name ORDER BY name), '{}') FROM tailroom.instances").Scan(&names))
	return names
}

// Instances that live have each a name of their own; who leaves in order makes room
// at once.
func TestMember_NamesDiffer(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	first := join(t, pool, "node")
	run(t, first)
	second := join(t, pool, "node")
	run(t, second)
	third := join(t, pool, "node")
	require.Equal(t, []string{"node", "node-2", "node-3"}, []string{first.Name(), second.Name(), third.Name()})
	require.Equal(t, []string{"node", "node-2", "node-3"}, names(t, pool))
	require.NotEqual(t, first.Incarnation(), second.Incarnation())
	third.Leave(t.Context())
	require.Equal(t, []string{"node", "node-2"}, names(t, pool))
	require.Equal(t, "node-3", join(t, pool, "node").Name())
}

// Who was killed is not waited for until everybody takes him for dead: his successor
// gets the name when he has been silent for a moment.
func TestMember_SuccessorOfTheKilled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	killed := join(t, pool, "node")
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.instances SET seen_at = now() + interval '1 hour'") // as if he lived
	require.NoError(t, err)
	successor := join(t, pool, "node")
	require.Equal(t, "node", successor.Name())
	require.Equal(t, []string{"node"}, names(t, pool))
	// If he was not dead after all, he goes by another name when he is back.
	run(t, successor)
	require.NoError(t, killed.beat(t.Context()))
	require.Equal(t, "node-2", killed.Name())
}

// The dead are taken away after a while, and come back as they were.
func TestMember_TheDead(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	live, dead := join(t, pool, "live"), join(t, pool, "dead")
	require.NoError(t, live.beat(t.Context()))
	require.Equal(t, []string{"dead", "live"}, names(t, pool))
	old := func(age string) {
		tag, err := pool.Exec(t.Context(), "UPDATE tailroom.instances SET seen_at = now() - $1::text::interval WHERE name = 'dead'", age)
		require.NoError(t, err)
		require.Equal(t, int64(1), tag.RowsAffected())
	}
	old("50 seconds")
	require.NoError(t, live.beat(t.Context()))
	require.Equal(t, []string{"dead", "live"}, names(t, pool))
	old("61 seconds")
	require.NoError(t, live.beat(t.Context()))
	require.Equal(t, []string{"live"}, names(t, pool))
	require.NoError(t, dead.beat(t.Context()))
	require.Equal(t, []string{"dead", "live"}, names(t, pool))
	require.Equal(t, "dead", dead.Name())
	dead.Leave(t.Context())
	dead.Leave(t.Context())
	require.Equal(t, []string{"live"}, names(t, pool))
}

// A member shows itself all the time, whatever happens to its connections.
func TestMember_Beats(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	run(t, join(t, pool, "node"))
	seen := func() (at time.Time) {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT seen_at FROM tailroom.instances").Scan(&at))
		return at
	}
	for range 2 {
		before := seen()
		require.Eventually(t, func() bool { return seen().After(before) }, patience, 10*time.Millisecond)
		_, err := pool.Exec(t.Context(), "DELETE FROM tailroom.instances")
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(names(t, pool)) == 1 }, patience, 10*time.Millisecond)
	}
}
