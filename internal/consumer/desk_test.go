package consumer

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/session"
)

// What was acknowledged before a desk stops is written, whether its session has ended
// or not.
func TestDesk_WritesTheLast(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	d := New(pool, uuid.New(), prometheus.NewRegistry())
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	s, err := session.New(session.Config{ID: uuid.NewString(), Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
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

// An acknowledgement is told in the history if it covers an event, and a bookmark is
// none.
func TestDesk_History(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	d := New(pool, uuid.New(), prometheus.NewRegistry())
	s, err := session.New(session.Config{ID: uuid.NewString(), Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
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
