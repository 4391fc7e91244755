package consumer

import (
	"context"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// slow is a database in which statements that contain a text run only when they are
// let go, whether anybody waits for them by then or not.
type slow struct {
	*pgxpool.Pool
	text      string
	sent, run chan struct{}
}

func (s *slow) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	if !strings.Contains(sql, s.text) {
		return s.Pool.QueryRow(ctx, sql, args...)
	}
	close(s.sent)
	<-s.run
	return s.Pool.QueryRow(context.WithoutCancel(ctx), sql, args...)
}

func newSession(t *testing.T) *session.Session {
	t.Helper()
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	return s
}

func newDesk(pool db.DBTX) *Desk { return New(pool, uuid.New(), prometheus.NewRegistry()) }

// claimedFor claims the consumer n for a new session.
func (d *Desk) claimedFor(t *testing.T) *claim {
	t.Helper()
	claimed := make(chan session.Claim, 1)
	s := newSession(t)
	go func() {
		c, _ := d.Claim(context.Background(), "n", s, nil, nil)
		claimed <- c
	}()
	for len(claimed) == 0 {
		require.NoError(t, d.pass(t.Context(), false))
	}
	c, ok := (<-claimed).(*claim)
	require.True(t, ok)
	return c
}

// holds reports, after looking after its claims, whether c is the consumer's session.
func (d *Desk) holds(t *testing.T, pool *pgxpool.Pool, c *claim) bool {
	t.Helper()
	require.NoError(t, d.pass(t.Context(), true))
	var id string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT session FROM tailroom.consumers WHERE disconnected_at IS NULL").Scan(&id))
	return !c.over && id == c.session.ID()
}

// A claim that hangs until its client has given up does not take the consumer from
// the session that it has.
func TestDesk_LateClaim(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	line := &slow{Pool: pool, text: "consumer_claim", sent: make(chan struct{}), run: make(chan struct{})}
	hanging, other := newDesk(line), newDesk(pool)
	c := other.claimedFor(t)
	ctx, cancel := context.WithTimeout(t.Context(), claimTimeout/2) // by then it has been sent
	defer cancel()
	claimed, passed := make(chan error, 1), make(chan error, 1)
	s := newSession(t)
	go func() {
		_, err := hanging.Claim(ctx, "n", s, nil, nil)
		claimed <- err
	}()
	<-hanging.wake
	go func() { passed <- hanging.pass(context.Background(), false) }()
	<-line.sent
	require.Error(t, <-claimed)
	close(line.run)
	require.NoError(t, <-passed)
	require.True(t, other.holds(t, pool, c))
}

// A claim that hangs on its way takes nothing from a newer one that was faster, however
// short that was. Who still waits for it is told to come again.
func TestDesk_OvertakenClaim(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]bool{"new consumer": false, "known consumer": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			line := &slow{Pool: pool, text: "consumer_claim", sent: make(chan struct{}), run: make(chan struct{})}
			hanging, other := newDesk(line), newDesk(pool)
			if there {
				other.claimedFor(t).Release()
			}
			claimed, passed := make(chan error, 1), make(chan error, 1)
			s := newSession(t)
			go func() {
				_, err := hanging.Claim(context.Background(), "n", s, nil, nil)
				claimed <- err
			}()
			<-hanging.wake
			go func() { passed <- hanging.pass(context.Background(), false) }()
			<-line.sent
			c := other.claimedFor(t)
			close(line.run)
			require.NoError(t, <-passed)
			require.Equal(t, problem.Unavailable, problem.From(<-claimed).Code)
			require.True(t, other.holds(t, pool, c))
		})
	}
}

// A claim whose client has gone before it is sent is not made.
func TestDesk_ClientGone(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	line := &slow{Pool: pool, text: "clock_timestamp", sent: make(chan struct{}), run: make(chan struct{})}
	d := newDesk(line)
	ctx, leave := context.WithCancel(t.Context())
	claimed, passed := make(chan error, 1), make(chan error, 1)
	s := newSession(t)
	go func() {
		_, err := d.Claim(ctx, "n", s, nil, nil)
		claimed <- err
	}()
	<-d.wake
	go func() { passed <- d.pass(context.Background(), false) }()
	<-line.sent
	leave()
	require.Error(t, <-claimed)
	close(line.run)
	require.NoError(t, <-passed)
	var there int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.consumers").Scan(&there))
	require.Zero(t, there)
}

// A session that was lost claims again, unless its consumer has got a newer one
// meanwhile.
func TestDesk_ClaimsAgainTooLate(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]string{
		"taken for gone":    "UPDATE tailroom.consumers SET disconnected_at = now()",
		"database put back": "UPDATE tailroom.consumers SET session = 'older', generation = generation - 1",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := pgtest.Pool(t, pgtest.Database(t))
			one, other := newDesk(pool), newDesk(pool)
			c := one.claimedFor(t)
			lost := func() {
				_, err := pool.Exec(t.Context(), lose)
				require.NoError(t, err)
				require.NoError(t, one.flush(t.Context(), true, nil))
				require.Len(t, one.waiting, 1)
			}
			lost()
			require.NoError(t, one.pass(t.Context(), false))
			require.True(t, one.holds(t, pool, c))

			lost()
			newer := other.claimedFor(t)
			require.NoError(t, one.pass(t.Context(), false))
			require.True(t, other.holds(t, pool, newer))
			require.True(t, c.over)
		})
	}
}
