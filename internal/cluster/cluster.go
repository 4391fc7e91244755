// Package cluster lets the instances know of each other. Each shows itself in a
// table every second; one is alive that was seen in the last five, by the
// database's clock. Two that live never have the same name: who finds his taken
// goes by another. Each says where the others reach it, and who is connected to it:
// changes are shown at once and then every second, and a dead instance's connections
// are nobody's.
//
// Nothing that must be right depends on it. An instance that cannot reach the
// database counts as dead, and goes on serving what it has.
//
//	cluster.go      Member: this instance; its name, its heartbeat
//	peers.go        Peer: the others
//	connections.go  Connections: the sessions of this instance, shown to all
//	listing.go      Listing: who is connected, at all instances
package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/db"
)

const (
	// beatPeriod is how often an instance shows itself.
	beatPeriod = time.Second
	// beatTimeout bounds one try.
	beatTimeout = 2 * time.Second
	// watchTime is how long the holder of a name is watched. One that lives shows
	// itself meanwhile; one that does not was killed, and its name is taken over.
	watchTime = 2 * beatPeriod
	// watchPause is between two looks at it.
	watchPause = 100 * time.Millisecond
)

// Member is this instance among its peers.
type Member struct {
	pool        *pgxpool.Pool
	sql         *db.Queries
	wanted      string
	incarnation uuid.UUID
	name        atomic.Pointer[string]
	address     string // where it is reached; "" until it listens
	peers       peers
	live        prometheus.Gauge
}

// Join makes the instance known by a name, or by that name with a number behind it.
func Join(ctx context.Context, pool *pgxpool.Pool, name string, reg prometheus.Registerer) (*Member, error) {
	m := &Member{
		pool: pool, sql: db.New(), wanted: name, incarnation: uuid.New(), peers: peers{known: map[uuid.UUID]*Peer{}},
		live: promauto.With(reg).NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_instances", Help: "Instances that are alive, this one included; 0 when it cannot tell.",
		}),
	}
	if err := m.join(ctx); err != nil {
		return nil, fmt.Errorf("joining the other instances: %w", err)
	}
	return m, nil
}

// Incarnation tells this life of the instance from every other.
func (m *Member) Incarnation() uuid.UUID { return m.incarnation }

// Name is what the instance goes by at present.
func (m *Member) Name() string { return *m.name.Load() }

// Run shows the instance, and looks for the others, until ctx ends.
func (m *Member) Run(ctx context.Context) error {
	tick := time.NewTicker(beatPeriod)
	defer tick.Stop()
	away := false
	for {
		err := m.beat(ctx)
		if err == nil {
			err = m.look(ctx, beatTimeout)
		}
		if ctx.Err() != nil {
			return nil
		}
		if (err != nil) != away {
			if away = err != nil; away {
				slog.WarnContext(ctx, "this instance cannot be shown to the others", "component", "cluster", "error", err)
			} else {
				slog.InfoContext(ctx, "this instance is shown to the others again", "component", "cluster")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Leave takes the instance out of the others' sight.
func (m *Member) Leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	if err := m.sql.InstanceLeave(ctx, m.pool, m.id()); err != nil {
		slog.WarnContext(ctx, "the other instances could not be told of the end of this one, and notice by themselves",
			"component", "cluster", "error", err)
	}
}

// beat shows the instance. Who was away for so long that the others have forgotten
// him joins again.
func (m *Member) beat(ctx context.Context) error {
	beatCtx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	live, err := m.sql.InstanceBeat(beatCtx, m.pool, db.InstanceBeatParams{Incarnation: m.id(), Address: m.address})
	m.live.Set(float64(live))
	if err != nil || live > 0 {
		return err
	}
	return m.join(ctx)
}

// join takes the first name that is free.
func (m *Member) join(ctx context.Context) error {
	name := m.wanted
	for n := 2; ; n++ {
		joined, err := m.take(ctx, name)
		if err != nil {
			return err
		}
		if joined {
			break
		}
		name = fmt.Sprintf("%s-%d", m.wanted, n)
	}
	if before := m.name.Swap(&name); name != m.wanted && (before == nil || *before != name) {
		slog.WarnContext(ctx, "another instance that lives has the name of this one, which goes by another: give each its own INSTANCE_ID",
			"component", "cluster", "wanted", m.wanted, "name", name)
	}
	return nil
}

// take takes a name unless another instance that lives has it.
func (m *Member) take(ctx context.Context, name string) (bool, error) {
	var seen time.Time // the holder, when it was looked at first
	watched := time.Now().Add(watchTime)
	for {
		params := db.InstanceJoinParams{Incarnation: m.id(), Name: name}
		if !time.Now().Before(watched) {
			params.Silent = &seen
		}
		takeCtx, cancel := context.WithTimeout(ctx, beatTimeout)
		held, err := m.sql.InstanceJoin(takeCtx, m.pool, params)
		cancel()
		switch {
		case err != nil:
			return false, err
		case held.IsZero():
			return true, nil
		case seen.IsZero():
			seen = held
		case !held.Equal(seen):
			return false, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(watchPause):
		}
	}
}
