package consumer

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/session"
)

// model is some consumers, and instances whose sessions take them from each other.
// What each instance has not written can be lost with it at any time.
type model struct {
	pool  *pgxpool.Pool
	desks []*Desk
	held  []*holding
	// most is the greatest position that was acknowledged under a name; least is
	// what must be known of it.
	most, least map[string]int64
	names       int
}

// holding is a claim that a session believes to have.
type holding struct {
	desk  int
	name  string
	claim session.Claim
	acked int64
}

func (m *model) desk() *Desk { return New(m.pool, uuid.New(), prometheus.NewRegistry()) }

// claim claims a name on an instance. It begins behind what is known to be written,
// and at no more than was ever acknowledged.
func (m *model) claim(t *rapid.T) {
	h := &holding{desk: rapid.IntRange(0, len(m.desks)-1).Draw(t, "desk"), name: fmt.Sprint("n", rapid.IntRange(0, m.names-1).Draw(t, "name"))}
	d := m.desks[h.desk]
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	claimed := make(chan error, 1)
	go func() {
		var err error
		h.claim, err = d.Claim(context.Background(), h.name, s, nil, &event.Cursor{Epoch: 1})
		claimed <- err
	}()
	for len(claimed) == 0 {
		require.NoError(t, d.pass(context.Background(), false))
	}
	require.NoError(t, <-claimed)
	h.acked = h.claim.Start().Position
	require.LessOrEqual(t, h.acked, m.most[h.name])
	require.GreaterOrEqual(t, h.acked, m.least[h.name])
	m.held = append(m.held, h)
	m.look(t)
}

func (m *model) any(t *rapid.T) *holding {
	if len(m.held) == 0 {
		t.Skip("nobody")
	}
	return rapid.SampledFrom(m.held).Draw(t, "holding")
}

// lose claims a name, and the answer is lost: nobody holds the claim that was made.
func (m *model) lose(t *rapid.T) {
	d := rapid.SampledFrom(m.desks).Draw(t, "desk")
	s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.Service}}, nil)
	require.NoError(t, err)
	name := fmt.Sprint("n", rapid.IntRange(0, m.names-1).Draw(t, "name"))
	batch := []*pending{{
		claim: &claim{key: key{"c1", name}, session: s, follows: encode(nil), desk: d},
		begin: &event.Cursor{Epoch: 1}, done: make(chan error, 1), subject: "s", role: "service",
	}}
	far := time.Now().Add(time.Hour)
	_, params := d.claimParams(batch, far, far, far)
	_, err = d.sql.ConsumerClaim(context.Background(), m.pool, params)
	require.NoError(t, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.disown(batch)
}

// ack acknowledges, forwards or backwards.
func (m *model) ack(t *rapid.T) {
	h := m.any(t)
	to := rapid.Int64Range(0, h.acked+5).Draw(t, "to")
	h.claim.Ack(event.Cursor{Epoch: 1, Position: to}, event.Cursor{Epoch: 1, Position: to})
	h.acked = max(h.acked, to)
	m.most[h.name] = max(m.most[h.name], to)
}

func (m *model) release(t *rapid.T) { m.any(t).claim.Release() }

func (m *model) flush(t *rapid.T) {
	d := rapid.SampledFrom(m.desks).Draw(t, "desk")
	require.NoError(t, d.pass(context.Background(), rapid.Bool().Draw(t, "all")))
	m.look(t)
}

// die loses what an instance had not written; another one takes its place.
func (m *model) die(t *rapid.T) {
	n := rapid.IntRange(0, len(m.desks)-1).Draw(t, "desk")
	m.desks[n] = m.desk()
	m.held = filter(m.held, func(h *holding) bool { return h.desk != n })
}

// look looks at what is written: it has not moved back, nor beyond what somebody has
// acknowledged, and one session at most is a consumer's.
func (m *model) look(t *rapid.T) {
	rows, err := m.pool.Query(context.Background(), "SELECT name, position, (SELECT coalesce(max(a.position), 0) FROM tailroom.consumer_acks a WHERE a.name = c.name) FROM tailroom.consumers c")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var name string
		var position, told int64
		require.NoError(t, rows.Scan(&name, &position, &told))
		require.GreaterOrEqual(t, position, m.least[name], name)
		require.LessOrEqual(t, position, m.most[name], name)
		require.Equal(t, position, told, "every position here is an event's")
		m.least[name] = position
	}
	require.NoError(t, rows.Err())
}

func filter(list []*holding, keep func(*holding) bool) (kept []*holding) {
	for _, h := range list {
		if keep(h) {
			kept = append(kept, h)
		}
	}
	return kept
}

// Whatever instances do to each other, an acknowledged cursor never moves back, and
// never beyond what was acknowledged.
func TestDesk_Model(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	rapid.Check(t, func(t *rapid.T) {
		_, err := pool.Exec(context.Background(), "TRUNCATE tailroom.consumers, tailroom.consumer_acks")
		require.NoError(t, err)
		m := &model{pool: pool, most: map[string]int64{}, least: map[string]int64{}, names: 2}
		m.desks = []*Desk{m.desk(), m.desk()}
		t.Repeat(map[string]func(*rapid.T){"claim": m.claim, "lose": m.lose, "ack": m.ack, "release": m.release, "flush": m.flush, "die": m.die})
		for _, d := range m.desks {
			require.NoError(t, d.pass(context.Background(), true))
		}
		m.look(t)
		live := 0
		for _, d := range m.desks {
			live += len(d.live)
		}
		var connected int
		require.NoError(t, pool.QueryRow(context.Background(), "SELECT count(*) FROM tailroom.consumers WHERE disconnected_at IS NULL AND instance = ANY ($1)",
			[]uuid.UUID{m.desks[0].instance.Bytes, m.desks[1].instance.Bytes}).Scan(&connected))
		require.Equal(t, live, connected)
		// What the last holder of a name has acknowledged is written, if he still is one.
		for _, d := range m.desks {
			for _, c := range d.live {
				require.Equal(t, c.acked.Position, m.least[c.name])
			}
		}
	})
}
