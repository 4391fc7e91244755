package eventlog_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// An append that the network held up arrives when its publisher has been told
// that the log is unavailable: it must not be carried out any more.
func TestAppend_HeldUpOnTheWay(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := pgproxy.Start(t, r.dsn)
	a := r.instanceOn(t, p.DSN()+"&application_name=held_up", moment)
	a.start()
	first := a.append(t, draft("order:1"))

	p.Blackhole(true)
	_, err := wait(t, a.submit(t, draft("order:1")))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.True(t, value[bool](t, r, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'held_up'"))
	p.Blackhole(false)
	// The session reads what was sent to it, then that its client has left.
	r.await(t, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'held_up'")

	require.Len(t, r.all(t), len(first))
	require.Equal(t, []int64{2}, versions(a.append(t, draft("order:1"))), "and the log goes on")
	requireConsistent(t, r)
}

// The deadline is one of the database's clock, whatever ours shows, and holds
// once the lock is had.
func TestAppend_Deadline(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	try := func(deadline string) error {
		_, err := r.pool.Exec(t.Context(), `
			SELECT tailroom.append_batch(false, 0, 0, `+deadline+`, '{}', '{}', '{}', '{}', '{}', '{}', '{}',
				'{c1}', '{/orders}', '{newOrder}', '{1}', ARRAY[gen_random_uuid()], '{branch:b1}', '{0}', '{0}',
				ARRAY[now()], '{""}', '{x}', ARRAY[NULL::uuid], ARRAY[now()], ARRAY['{}'::jsonb])`)
		return err
	}
	require.NoError(t, try("clock_timestamp() + interval '1 hour'"))
	require.ErrorContains(t, try("clock_timestamp() - interval '1 millisecond'"), "TR005")

	release := r.holdLock(t)
	late := make(chan error, 1)
	go func() { late <- try("clock_timestamp() + interval '1 second'") }()
	r.awaitQueue(t, 1)
	r.await(t, "SELECT clock_timestamp() > $1", value[time.Time](t, r, "SELECT clock_timestamp() + interval '1 second'"))
	release()
	require.ErrorContains(t, <-late, "TR005")
	require.Len(t, r.all(t), 1)
}
