package maintenance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
)

// consumer makes a consumer that has acknowledged up to a position.
func (r *rig) consumer(t *testing.T, name string, position int64) {
	t.Helper()
	r.exec(t, `INSERT INTO tailroom.consumers (tenant, name, subject, role, follows, created_at, joined_epoch, joined_position, epoch, position,
		instance, session, generation, connected_at, disconnected_at)
		VALUES ('c1', $1, 'agent', 'desktop_app', '{}', now(), 1, 0, 1, $2, gen_random_uuid(), '', 1, now(), now())`, name, position)
	r.exec(t, "INSERT INTO tailroom.consumer_acks VALUES ('c1', $1, 1, $2, now())", name, position)
}

// warnings are the consumers that were warned of, in order.
func (r *rig) warnings(t *testing.T) []string {
	t.Helper()
	return value[[]string](t, r, `SELECT coalesce(array_agg(tenant || ' ' || rooms[1] || ' ' || (data->>'consumer') ORDER BY position), '{}')
		FROM tailroom.events WHERE namespace = '/system' AND type = 'consumerLagging'`)
}

// A consumer that has not acknowledged what retention takes when a quarter of its time
// has passed is warned of: once, and again when it has caught up in between.
func TestConsumers_WarnedBeforeRetention(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	ago := func(hours int) string {
		return time.Now().Add(time.Duration(-hours) * time.Hour).UTC().Format(time.RFC3339)
	}
	old, aging, young := ago(99), ago(80), ago(70)
	r.insert(t, old, old, old, aging, aging, aging, young, young, young, "now")
	for name, position := range map[string]int64{"gone": 2, "late": 3, "later": 5, "caught-up": 6, "ahead": 9} {
		r.consumer(t, name, position)
	}
	k := r.idle(t, r.dsn, Policy{MaxAge: 100 * time.Hour})
	conn := k.sweeper(t)
	r.seal(t)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool)) // for what is told
	for range 2 {
		require.NoError(t, k.warnConsumers(t.Context(), conn))
		require.Equal(t, []string{"c1 company:c1 gone", "c1 company:c1 late", "c1 company:c1 later"}, r.warnings(t))
	}
	require.InDelta(t, 3, k.figure(t, "tailroom_consumers_lagging", ""), 0)
	require.Equal(t, "1-5", value[string](t, r, `SELECT data->>'cursor' FROM tailroom.events WHERE data->>'consumer' = 'later'`))
	require.Equal(t, int64(6), value[int64](t, r, `SELECT (data->>'upto')::bigint FROM tailroom.events WHERE data->>'consumer' = 'later'`))

	r.exec(t, "UPDATE tailroom.consumers SET position = 6 WHERE name = 'later'")
	require.NoError(t, k.warnConsumers(t.Context(), conn))
	require.InDelta(t, 2, k.figure(t, "tailroom_consumers_lagging", ""), 0)
	r.exec(t, "UPDATE tailroom.consumers SET position = 5 WHERE name = 'later'")
	require.NoError(t, k.warnConsumers(t.Context(), conn))
	require.Len(t, r.warnings(t), 4)

	// What was acknowledged when is known as long as the events are.
	r.exec(t, "UPDATE tailroom.log SET floor = 3")
	require.NoError(t, k.warnConsumers(t.Context(), conn))
	require.Equal(t, []string{"ahead", "caught-up", "later"}, value[[]string](t, r, "SELECT array_agg(name ORDER BY name) FROM tailroom.consumer_acks"))
}

// Without consumers that lag nothing is told, and nobody waits for the append lock.
func TestConsumers_NobodyLags(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.insert(t, "now", "now", "now", "now")
	r.consumer(t, "behind", 0)
	k := r.idle(t, r.dsn, Policy{MaxAge: time.Hour})
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1952541036, 1)")
	require.NoError(t, err)
	require.NoError(t, k.warnConsumers(t.Context(), k.sweeper(t)))
	require.NoError(t, tx.Rollback(t.Context()))
	require.Empty(t, r.warnings(t))
}
