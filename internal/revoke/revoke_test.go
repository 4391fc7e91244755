package revoke_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
	"github.com/tailroom/tailroom/internal/revoke"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // the log is taken away on purpose
	pgtest.Main(m)
}

// rig is a log, and a Watch of it that reaches it by way of a proxy.
type rig struct {
	*revoke.Watch

	dsn     string
	log     *eventlog.Log
	proxy   *pgproxy.Proxy
	changes atomic.Int64
	figures *prometheus.Registry
}

// newRig has a log in which the subject "old" was revoked before the Watch began.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{dsn: pgtest.Database(t), figures: prometheus.NewRegistry()}
	pool := pgtest.Pool(t, r.dsn)
	r.log = eventlog.New(pool)
	require.NoError(t, eventlog.MakePartitions(t.Context(), pool))
	r.revoke(t, "old")
	r.proxy = pgproxy.Start(t, r.dsn)
	var err error
	r.Watch, err = revoke.New(t.Context(), eventlog.New(pgtest.Pool(t, r.proxy.DSN())), func([]access.Revocation) { r.changes.Add(1) }, r.figures)
	require.NoError(t, err)
	return r
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func (r *rig) revoke(t *testing.T, subject string) {
	t.Helper()
	_, _, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: eventlog.Order{Tenant: "c1", Subject: subject, Actor: "user:admin"}})
	require.NoError(t, err)
}

// values are the Watch's figures.
func (r *rig) values(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := r.figures.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return values
}

func (r *rig) knows(subject string) bool {
	return r.Covers(access.Grant{Tenant: "c1", Subject: subject})
}

func (r *rig) awaits(t *testing.T, subject string) {
	t.Helper()
	require.Eventually(t, func() bool { return r.knows(subject) }, patience, 5*time.Millisecond, subject)
}

// What was revoked before is known from the first moment on.
func TestWatch_Loads(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.True(t, r.knows("old"))
	require.False(t, r.knows("new"))
	require.EqualValues(t, 1, r.changes.Load())
	require.Equal(t, map[string]float64{"tailroom_revocations": 1, "tailroom_revoked_total": 0}, r.values(t))
	require.True(t, r.Refuses(access.Grant{Tenant: "c1", Subject: "old"}))
	require.False(t, r.Refuses(access.Grant{Tenant: "c1", Subject: "new"}))
	require.Equal(t, map[string]float64{"tailroom_revocations": 1, "tailroom_revoked_total": 1}, r.values(t))
}

func TestWatch_WithoutALog(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := eventlog.New(pgtest.Pool(t, r.proxy.DSN()))
	r.proxy.Refuse(true)
	_, err := revoke.New(t.Context(), log, func([]access.Revocation) {}, prometheus.NewRegistry())
	require.Error(t, err, "who does not know what is revoked does not serve")
}

// Refresh is there and then; a wake comes soon, and without one the next look.
func TestWatch_HearsOfMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.revoke(t, "1")
	require.False(t, r.knows("1"))
	require.NoError(t, r.Refresh(t.Context()))
	require.True(t, r.knows("1"))
	require.EqualValues(t, 2, r.changes.Load())
	require.NoError(t, r.Refresh(t.Context()))
	require.EqualValues(t, 2, r.changes.Load(), "there is nothing new")

	r.start(t)
	for i := range 5 {
		r.revoke(t, fmt.Sprint("woken ", i))
		r.Wake()
		r.awaits(t, fmt.Sprint("woken ", i))
	}
	for _, subject := range []string{"unheard", "unheard again"} {
		r.revoke(t, subject)
		r.awaits(t, subject)
	}
	require.True(t, r.knows("old"))
}

// While the log cannot be reached, what is known holds, and when it is back, what
// has come meanwhile is known at once.
func TestWatch_WhileTheLogIsAway(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*pgproxy.Proxy, bool){
		"refused": (*pgproxy.Proxy).Refuse, "unheard": (*pgproxy.Proxy).Blackhole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(t)
			cut(r.proxy, true)
			r.revoke(t, "meanwhile")
			require.Error(t, r.Refresh(t.Context()))
			require.True(t, r.knows("old"))
			require.False(t, r.knows("meanwhile"))
			cut(r.proxy, false)
			r.awaits(t, "meanwhile")
		})
	}
}

// A log that has lost its end may have revoked others at the same positions. What
// was lost is forgotten, and the others are known.
func TestWatch_AnotherLife(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.revoke(t, "lost")
	require.NoError(t, r.Refresh(t.Context()))
	require.True(t, r.knows("lost"))
	pool := pgtest.Pool(t, r.dsn)
	for _, statement := range []string{ // as a restore would
		"ALTER TABLE tailroom.events_1 DISABLE TRIGGER append_only",
		"DELETE FROM tailroom.events WHERE position > 1", "DELETE FROM tailroom.revocations WHERE position > 1",
		"SELECT tailroom.epoch_open(1, 1, 'lost')",
	} {
		_, err := pool.Exec(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	r.revoke(t, "another")
	require.NoError(t, r.Refresh(t.Context()))
	require.True(t, r.knows("old"))
	require.True(t, r.knows("another"), "it has the position of the lost one")
	require.False(t, r.knows("lost"))
}
