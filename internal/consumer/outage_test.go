package consumer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

func exec(t *testing.T, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	tag, err := pool.Exec(t.Context(), sql, args...)
	require.NoError(t, err)
	require.Positive(t, tag.RowsAffected(), sql)
}

func pong(t *testing.T, s *apptest.Socket) {
	t.Helper()
	s.SendJSON(t, map[string]any{"type": "ping"})
	s.Until(t, "pong")
}

// An instance that shuts down writes what was acknowledged last, and that its
// consumers have gone.
func TestConsumer_DrainWrites(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	one, two := apptest.Start(t, dsn), apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := one.Consume(t, agent, "k", orders)
	order(t, one, service, "a", "b1")
	require.Equal(t, []int64{1}, positions(t, s, 1))
	s.Ack(t, "1-1")
	pong(t, s)
	one.Stop()
	list := two.Consumers(t, service, "")
	require.Len(t, list, 1)
	require.Equal(t, "1-1", list[0].Cursor)
	require.False(t, list[0].Connected)
	pool := pgtest.Pool(t, dsn)
	var instances int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.instances").Scan(&instances))
	require.Equal(t, 1, instances)
}

// An instance that cannot reach the database keeps what is acknowledged, and writes
// it when it can again. Meanwhile it takes no new consumers, and those it has stay.
func TestConsumer_DatabaseAway(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	cut, other := apptest.Start(t, proxy.DSN()), apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := cut.Consume(t, agent, "k", orders)
	gone, _ := cut.Consume(t, agent, "gone", orders)
	order(t, other, service, "a", "b1")
	require.Equal(t, []int64{1}, positions(t, s, 1))
	require.Equal(t, []int64{1}, positions(t, gone, 1))
	proxy.Refuse(true)
	s.Ack(t, "1-1")
	pong(t, s)
	gone.Ack(t, "1-1")
	pong(t, gone)
	require.NoError(t, gone.Conn.CloseNow())

	refused := cut.Dial(t)
	refused.SendJSON(t, map[string]any{"type": "hello", "token": agent, "consumer": "new", "subscribe": []any{}})
	require.Equal(t, "unavailable", refused.Next(t).Code)
	require.Equal(t, 1013, int(refused.Closed(t).Code))
	away := other.AwaitConsumer(t, service, "k", away) // so the others believe
	require.Equal(t, "1-0", away.Cursor)

	proxy.Refuse(false)
	// What it acknowledged is written beside its instance's heartbeat, in any order.
	other.AwaitConsumer(t, service, "k", func(c apptest.Consumer) bool { return acked("1-1")(c) && c.Connected })
	c := other.AwaitConsumer(t, service, "gone", acked("1-1"))
	require.False(t, c.Connected)
	pong(t, s)
}

// Its consumers can be taken over by another instance meanwhile. Then what they
// acknowledged to it counts no more, and is delivered again.
func TestConsumer_TakenOverMeanwhile(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	cut, other := apptest.Start(t, proxy.DSN()), apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	old, _ := cut.Consume(t, agent, "k", orders)
	order(t, other, service, "a", "b1")
	order(t, other, service, "b", "b1")
	require.Equal(t, []int64{1, 2}, positions(t, old, 2))
	proxy.Refuse(true)
	old.Ack(t, "1-2")
	pong(t, old)
	s, welcome := other.Consume(t, agent, "k", orders)
	require.Equal(t, "1-0", welcome.Cursor)
	require.Equal(t, []int64{1, 2}, positions(t, s, 2))
	s.Ack(t, "1-1")
	other.AwaitConsumer(t, service, "k", acked("1-1"))

	proxy.Refuse(false)
	require.Equal(t, 4104, int(old.Closed(t).Code))
	c := other.AwaitConsumer(t, service, "k", acked("1-1"))
	require.True(t, c.Connected)
	require.Equal(t, other.Get(t, "/healthz", "").Field("instance"), c.Instance)
}

// Peers take an instance away that was silent for too long. When it comes back, so
// do its consumers.
func TestConsumer_InstanceForgottenMeanwhile(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	proxy := pgproxy.Start(t, dsn)
	cut, other := apptest.Start(t, proxy.DSN(), "INSTANCE_ID=cut"), apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := cut.Consume(t, agent, "k", orders)
	order(t, other, service, "a", "b1")
	require.Equal(t, []int64{1}, positions(t, s, 1))
	proxy.Refuse(true)
	away := other.AwaitConsumer(t, service, "k", away)
	require.WithinDuration(t, time.Now().Add(-5*time.Second), away.Since, 4*time.Second, "since it was last seen")
	exec(t, pool, "UPDATE tailroom.instances SET seen_at = now() - interval '2 minutes' WHERE name = 'cut'")
	require.Eventually(t, func() bool {
		var left, marked bool
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM tailroom.instances) = 1, disconnected_at IS NOT NULL FROM tailroom.consumers").Scan(&left, &marked))
		return left && marked
	}, apptest.Patience, 20*time.Millisecond)
	proxy.Refuse(false)
	c := other.AwaitConsumer(t, service, "k", func(c apptest.Consumer) bool { return c.Connected })
	require.Equal(t, "cut", c.Instance)
	s.Ack(t, "1-1")
	other.AwaitConsumer(t, service, "k", acked("1-1"))
	pong(t, s)
}

// A database that was put back knows an older session of a consumer, or none. The one
// that lives stays the consumer's, with what it has acknowledged.
func TestConsumer_DatabasePutBack(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"an older session": "UPDATE tailroom.consumers SET session = 'older', generation = generation - 1, position = 0, instance = gen_random_uuid(), disconnected_at = now()",
		"none":             "DELETE FROM tailroom.consumers",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			i := apptest.Start(t, dsn)
			service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
			s, _ := i.Consume(t, agent, "k", orders)
			order(t, i, service, "a", "b1")
			order(t, i, service, "b", "b1")
			require.Equal(t, []int64{1, 2}, positions(t, s, 2))
			s.Ack(t, "1-1")
			i.AwaitConsumer(t, service, "k", acked("1-1"))
			exec(t, pgtest.Pool(t, dsn), sql)
			c := i.AwaitConsumer(t, service, "k", func(c apptest.Consumer) bool { return acked("1-1")(c) && c.Connected })
			require.Equal(t, int64(1), c.LagEvents)
			s.Ack(t, "1-2")
			i.AwaitConsumer(t, service, "k", acked("1-2"))
			pong(t, s)
		})
	}
}

// A company has so many consumers at most. Those that it has are not touched by it.
func TestConsumer_TooMany(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	agent := tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := i.Consume(t, agent, "k", orders)
	s.Until(t, "live")
	exec(t, pgtest.Pool(t, dsn), `INSERT INTO tailroom.consumers (tenant, name, subject, role, follows, created_at, joined_epoch,
		joined_position, epoch, position, instance, session, generation, connected_at, disconnected_at)
		SELECT tenant, 'n' || n, subject, role, follows, created_at, 1, 0, 1, 0, instance, '', 1, connected_at, now()
		FROM tailroom.consumers, generate_series(2, 10000) n`)
	refused := i.Dial(t)
	refused.SendJSON(t, map[string]any{"type": "hello", "token": agent, "consumer": "one-more", "subscribe": []any{}})
	said := refused.Next(t)
	require.Equal(t, "too_large", said.Code)
	require.Contains(t, string(said.Raw), `"limit":10000`)
	require.Equal(t, 1009, int(refused.Closed(t).Code))
	require.InDelta(t, 1, i.Metric(t, `tailroom_limited_total{limit="consumers_per_company"}`), 0)
	again, _ := i.Consume(t, agent, "k", orders)
	again.Until(t, "live")
	other, _ := i.Consume(t, tokenOf(t, "agent", access.DesktopApp, "c2"), "one-more", orders)
	other.Until(t, "live")
}

// An agent that retention has overtaken is told so, and goes on with what there is.
// When its events were acknowledged that are gone, nobody asks any more.
func TestConsumer_OvertakenByRetention(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn, "TAILROOM_WINDOW_BYTES=256KiB")
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := i.Consume(t, agent, "k", orders)
	s.Until(t, "live")
	require.NoError(t, s.Conn.CloseNow())
	i.AwaitConsumer(t, service, "k", away)
	for n := range 5 {
		order(t, i, service, fmt.Sprint(n), "b1")
	}
	i.Stop()
	exec(t, pgtest.Pool(t, dsn), "UPDATE tailroom.log SET floor = 3")
	i = apptest.Start(t, dsn)
	require.Equal(t, int64(2), i.Consumers(t, service, "")[0].LagEvents)
	s, welcome := i.Consume(t, agent, "k", orders)
	require.Equal(t, "1-3", welcome.Cursor)
	reset := s.Next(t)
	require.Equal(t, []string{"reset", "expired", "1-3"}, []string{reset.Type, reset.Reason, reset.Resume})
	require.Equal(t, []int64{4, 5}, positions(t, s, 2))
}
