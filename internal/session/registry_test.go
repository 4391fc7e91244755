package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// crowd is a registry with some sessions.
type crowd struct {
	*Registry
	sinks []*sink
	ended chan Reason
	stop  context.CancelFunc
}

func newCrowd(t *testing.T, sessions int) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{Registry: NewRegistry(prometheus.NewRegistry()), ended: make(chan Reason, 1000), stop: cancel}
	for range sessions {
		c.join(t, ctx)
	}
	t.Cleanup(func() {
		cancel()
		synctest.Wait()
		require.Zero(t, c.Count())
	})
	return c
}

func (c *crowd) join(t *testing.T, ctx context.Context) *sink { //nolint:revive // the test comes first
	t.Helper()
	f := newFeed()
	s := &sink{start: time.Now()}
	session, err := New(Config{Origin: Origin{Transport: "websocket"}, Open: f.open, Sink: s, Grant: branch(), Rules: rules, Heartbeat: heartbeat, Start: f.tip}, nil)
	require.NoError(t, err)
	c.sinks = append(c.sinks, s)
	go func() { c.ended <- c.Run(ctx, session) }()
	synctest.Wait()
	return s
}

func TestRegistry_Counts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 3)
		require.Equal(t, 3, c.Count())
		c.stop()
		for range 3 {
			require.Equal(t, Gone, <-c.ended)
		}
		synctest.Wait()
		require.Zero(t, c.Count())
	})
}

// Sessions leave at moments of their own, spread over the time there is.
func TestRegistry_Drain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sessions, spread = 200, 10 * time.Second
		c := newCrowd(t, sessions)
		begin := time.Now()
		left := make(chan int)
		go func() { left <- c.Drain(context.Background(), spread) }()
		synctest.Wait()
		early := 0
		for _, s := range c.sinks {
			words := s.heard()
			require.Len(t, words, 2)
			require.Contains(t, words[1], "goaway draining in ")
		}
		for range sessions {
			require.Equal(t, Draining, <-c.ended)
			if time.Since(begin) < spread/2 {
				early++
			}
		}
		require.Zero(t, <-left)
		require.LessOrEqual(t, time.Since(begin), spread)
		require.InDelta(t, sessions/2, early, sessions/4)

		late := c.join(t, t.Context())
		require.Equal(t, Draining, <-c.ended)
		require.Equal(t, []string{"live 1-0", "goaway draining in 0s at 1-0"}, late.heard(), "who comes now is sent on at once")
		require.Zero(t, c.Drain(t.Context(), spread), "draining twice is fine")
	})
}

func TestRegistry_DrainOfNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 0)
		begin := time.Now()
		require.Zero(t, c.Drain(t.Context(), time.Hour))
		require.Zero(t, time.Since(begin))
	})
}

// Who does not leave in time is counted, and left to whoever asked.
func TestRegistry_DrainInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrowd(t, 2)
		stuck := make(chan struct{})
		c.sinks[0].mu.Lock()
		c.sinks[0].block = stuck
		c.sinks[0].mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begin := time.Now()
		require.Equal(t, 1, c.Drain(ctx, time.Second))
		require.Equal(t, 5*time.Second, time.Since(begin))
		close(stuck)
	})
}

func TestRegistry_Figures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		figures := prometheus.NewRegistry()
		r := NewRegistry(figures)
		value := func(name, label string) float64 {
			families, err := figures.Gather()
			require.NoError(t, err)
			sum, found := 0.0, false
			for _, f := range families {
				for _, m := range f.GetMetric() {
					if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
						sum, found = sum+m.GetCounter().GetValue()+m.GetGauge().GetValue(), true
					}
				}
			}
			require.True(t, found, "%s of %s", name, label)
			return sum
		}
		require.Zero(t, value("tailroom_sessions_total", "sse"), "there from the start")
		c := &crowd{Registry: r, ended: make(chan Reason, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		c.join(t, ctx)
		require.InDelta(t, 1, value("tailroom_connections", string(branch().Role)), 0)
		cancel()
		require.Equal(t, Gone, <-c.ended)
		require.InDelta(t, 1, value("tailroom_sessions_total", "websocket"), 0)
		require.InDelta(t, 1, value("tailroom_sessions_closed_total", "gone"), 0)
		require.Zero(t, value("tailroom_connections", string(branch().Role)))
	})
}
