package cluster

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// found is what a look finds when these live.
func found(ids ...uuid.UUID) (rows []db.InstancePeersRow) {
	for _, id := range ids {
		rows = append(rows, db.InstancePeersRow{Incarnation: pgtype.UUID{Bytes: id, Valid: true}, Address: "http://10.0.0.7:3001"})
	}
	return rows
}

// Whoever says where he is reached is known to the others at once, before they have
// looked around by themselves; not to himself.
func TestMember_PeerThatHasJustJoined(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one, two := join(t, pool, "one"), join(t, pool, "two")
	require.Nil(t, one.Peer(t.Context(), two.Incarnation()), "it does not listen yet")
	require.NoError(t, two.Advertise(t.Context(), "http://10.0.0.7:3001"))
	peer := one.Peer(t.Context(), two.Incarnation())
	require.NotNil(t, peer)
	require.Equal(t, two.Incarnation(), peer.Incarnation)
	require.Equal(t, "http://10.0.0.7:3001", peer.URL.String())
	require.Same(t, peer, one.Peer(t.Context(), two.Incarnation()))
	require.Equal(t, []*Peer{peer}, one.Peers(t.Context()))
	require.NoError(t, one.Advertise(t.Context(), "http://10.0.0.6:3001"))
	require.Nil(t, one.Peer(t.Context(), one.Incarnation()))
}

// An instance that the others had forgotten is reached again when it is back.
func TestMember_AddressComesBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one, two := join(t, pool, "one"), join(t, pool, "two")
	require.NoError(t, two.Advertise(t.Context(), "http://10.0.0.7:3001"))
	run(t, two)
	_, err := pool.Exec(t.Context(), "DELETE FROM tailroom.instances")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return one.Peer(t.Context(), two.Incarnation()) != nil }, patience, time.Millisecond)
}

// One that dies is gone after a while, and those who deal with it are told.
func TestMember_PeerThatDies(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one, two := join(t, pool, "one"), join(t, pool, "two")
	require.NoError(t, one.Advertise(t.Context(), "http://10.0.0.6:3001"))
	require.NoError(t, two.Advertise(t.Context(), "http://10.0.0.7:3001"))
	run(t, one)
	peer := one.Peer(t.Context(), two.Incarnation())
	require.NotNil(t, peer)
	gone := make(chan struct{})
	peer.OnGone(func() { close(gone) })
	begin := time.Now()
	select {
	case <-gone:
	case <-time.After(patience):
		require.Fail(t, "nobody was told")
	}
	require.Greater(t, time.Since(begin), farewell)
	require.Nil(t, one.Peer(t.Context(), two.Incarnation()))
	require.Empty(t, one.Peers(t.Context()))
}

// Nobody is taken for dead because the database was away: what counts is that others
// were seen meanwhile, for longer than it takes everybody to come back.
func TestPeers_Farewell(t *testing.T) {
	t.Parallel()
	id, now := uuid.New(), time.Now()
	p := peers{known: map[uuid.UUID]*Peer{}}
	p.update(found(id), now)
	peer := p.get(id)
	now = now.Add(time.Hour) // without a look
	p.update(found(), now)
	p.update(found(), now.Add(farewell-time.Millisecond))
	require.Same(t, peer, p.get(id))
	p.update(found(id), now.Add(farewell))
	p.update(found(), now.Add(2*farewell))
	require.Same(t, peer, p.get(id), "it was seen in between")
	require.NoError(t, peer.life.Err())
	p.update(found(), now.Add(3*farewell))
	require.Nil(t, p.get(id))
	require.Error(t, peer.life.Err())
}

// Ids that nobody has cost the database a few looks, and not one each.
func TestMember_MadeUpPeers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one := join(t, pool, "one")
	begin := time.Now()
	done := make(chan *Peer)
	for range 200 {
		go func() { done <- one.Peer(context.Background(), uuid.New()) }()
	}
	for range 200 {
		require.Nil(t, <-done)
	}
	require.Less(t, time.Since(begin), 200*lookPause/2, "each has waited for the others")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Nil(t, one.Peer(ctx, uuid.New()))
}
