package consumer

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// nowhere is where sessions send that are never run.
type nowhere struct{}

func (nowhere) Send(*session.Frame) error { return nil }
func (nowhere) Heartbeat() error          { return nil }
func (nowhere) EndBy(time.Time)           {}

// What was acknowledged before a desk stops is written, whether its session has ended
// or not.
func TestDesk_WritesTheLast(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	d := New(pool, uuid.New(), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	claim, err := d.Claim(t.Context(), "n", s, nil, nil)
	require.NoError(t, err)
	last := event.Cursor{Epoch: 1, Position: 7}
	claim.Ack(last, last)
	stop()
	require.NoError(t, <-done)
	var position int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT position FROM tailroom.consumers").Scan(&position))
	require.Equal(t, int64(7), position)
}

// losing is a database whose answers to claims are lost while the line is down: what
// was asked for is done.
type losing struct {
	*pgxpool.Pool
	down bool
}

func (l *losing) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	row := l.Pool.QueryRow(ctx, sql, args...)
	if !l.down || !strings.Contains(sql, "consumer_claim") {
		return row
	}
	return lostRow{row}
}

type lostRow struct{ pgx.Row }

func (r lostRow) Scan(to ...any) error {
	if err := r.Row.Scan(to...); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}

// A claim whose answer is lost may have been made. Nobody holds it, so it is released
// as soon as that can be written.
func TestDesk_AnswerLost(t *testing.T) {
	t.Parallel()
	line := &losing{Pool: pgtest.Pool(t, pgtest.Database(t)), down: true}
	d := New(line, uuid.New(), prometheus.NewRegistry())
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	claimed := make(chan error, 1)
	go func() {
		_, err := d.Claim(context.Background(), "n", s, nil, nil)
		claimed <- err
	}()
	for len(claimed) == 0 {
		_ = d.pass(t.Context(), false)
	}
	require.Equal(t, problem.Unavailable, problem.From(<-claimed).Code)
	connected := func() (is bool) {
		require.NoError(t, line.Pool.QueryRow(t.Context(), "SELECT disconnected_at IS NULL FROM tailroom.consumers").Scan(&is))
		return is
	}
	line.down = false
	require.NoError(t, d.pass(t.Context(), false))
	require.False(t, connected())
}

// An acknowledgement is told in the history if it covers an event, and a bookmark is
// none.
func TestDesk_History(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	d := New(pool, uuid.New(), prometheus.NewRegistry())
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	claimed := make(chan session.Claim, 1)
	go func() {
		c, _ := d.Claim(context.Background(), "n", s, nil, nil)
		claimed <- c
	}()
	for len(claimed) == 0 {
		require.NoError(t, d.pass(t.Context(), false))
	}
	claim := <-claimed
	at := func(position int64) event.Cursor { return event.Cursor{Epoch: 1, Position: position} }
	for _, ack := range []struct{ cursor, newest int64 }{
		{2, 0}, {3, 3}, {4, 3}, {6, 5}, // in one second: only the last is told
	} {
		claim.Ack(at(ack.cursor), at(ack.newest))
	}
	require.NoError(t, d.pass(t.Context(), true))
	claim.Ack(at(7), at(5)) // a bookmark
	require.NoError(t, d.pass(t.Context(), true))
	claim.Ack(at(9), at(9))
	require.NoError(t, d.pass(t.Context(), true))
	var told []int64
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT array_agg(position ORDER BY position) FROM tailroom.consumer_acks").Scan(&told))
	require.Equal(t, []int64{6, 9}, told)
}
