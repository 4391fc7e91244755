package cluster

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
)

const (
	// farewell is how long a peer must be missed before it is gone. When the
	// database was away all seem dead at first, until each has shown itself.
	farewell = 3 * time.Second
	// lookPause is between two looks for peers that somebody asked for: ids that
	// nobody has may be asked for without end.
	lookPause = 100 * time.Millisecond
	// lookTimeout bounds one such look.
	lookTimeout = time.Second
)

// Peer is another instance that lives.
type Peer struct {
	Incarnation uuid.UUID
	URL         *url.URL // where it is reached: a scheme and a host

	life   context.Context //nolint:containedctx // the peer's, as far as it is known
	end    context.CancelFunc
	missed time.Time // when it was not seen for the first time; zero: it was
}

func newPeer(incarnation uuid.UUID, address *url.URL) *Peer {
	p := &Peer{Incarnation: incarnation, URL: address}
	p.life, p.end = context.WithCancel(context.Background())
	return p
}

// OnGone calls f when the peer is gone; stop prevents that.
func (p *Peer) OnGone(f func()) (stop func() bool) { return context.AfterFunc(p.life, f) }

// peers are the other instances, as the last look has found them. What was found
// last counts while the database is away.
type peers struct {
	mu    sync.Mutex
	known map[uuid.UUID]*Peer

	looking sync.Mutex
	looked  time.Time // when the last look began that was asked for
}

// Advertise tells the others where they reach the instance. Call it before Run.
func (m *Member) Advertise(ctx context.Context, address string) error {
	m.address = address
	return m.beat(ctx)
}

// Peers are the other instances that live, those that have just joined as well; while the
// database is away, those that were seen last.
func (m *Member) Peers(ctx context.Context) []*Peer {
	_ = m.look(ctx, lookTimeout) // Run tells of a database that is away
	m.peers.mu.Lock()
	defer m.peers.mu.Unlock()
	return slices.Collect(maps.Values(m.peers.known))
}

// Peer is the instance of that incarnation, or nil if it does not live. One that has
// just joined is looked for.
func (m *Member) Peer(ctx context.Context, incarnation uuid.UUID) *Peer {
	if p := m.peers.get(incarnation); p != nil {
		return p
	}
	asked := time.Now()
	m.peers.looking.Lock()
	defer m.peers.looking.Unlock()
	if !m.peers.looked.After(asked) { // a look that began before might not have seen it
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookPause - time.Since(m.peers.looked)):
		}
		m.peers.looked = time.Now()
		_ = m.look(context.WithoutCancel(ctx), lookTimeout) // others wait for it; Run tells of a database that is away
	}
	return m.peers.get(incarnation)
}

// look reads who else lives.
func (m *Member) look(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	rows, err := m.sql.InstancePeers(ctx, m.pool, m.id())
	if err == nil {
		m.peers.update(rows, time.Now())
	}
	return err
}

func (p *peers) get(incarnation uuid.UUID) *Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[incarnation]
}

// update takes in whom a look has found.
func (p *peers) update(rows []db.InstancePeersRow, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := map[uuid.UUID]bool{}
	for _, row := range rows {
		id := uuid.UUID(row.Incarnation.Bytes)
		if p.known[id] == nil {
			address, err := url.Parse(row.Address)
			if err != nil {
				continue // no instance writes such
			}
			p.known[id] = newPeer(id, address)
		}
		found[id] = true
	}
	for id, peer := range p.known {
		switch {
		case found[id]:
			peer.missed = time.Time{}
		case peer.missed.IsZero():
			peer.missed = now
		case now.Sub(peer.missed) >= farewell:
			delete(p.known, id)
			peer.end()
		}
	}
}

func (m *Member) id() pgtype.UUID { return pgtype.UUID{Bytes: m.incarnation, Valid: true} }
