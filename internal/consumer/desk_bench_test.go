package consumer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
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
	"github.com/tailroom/tailroom/internal/session"
)

// crowd is a desk to which many consumers come at once.
type crowd struct {
	*Desk

	db     *pgxpool.Pool
	claims []session.Claim
}

// come lets them all claim their names, as after an instance has gone.
func (c *crowd) come(b *testing.B) {
	b.Helper()
	topics := []event.Topic{{Tenant: "c1", Namespace: "/printing-ws", Room: "branch:b7"}, {Tenant: "c1", Namespace: "/printing-ws", Room: "company:c1"}}
	var wg sync.WaitGroup
	for i := range c.claims {
		wg.Go(func() {
			s, err := session.New(session.Config{ID: uuid.NewString(), Sink: nowhere{}, Grant: access.Grant{Tenant: "c1", Subject: "s", Role: access.DesktopApp}}, nil)
			if err == nil {
				c.claims[i], err = c.Claim(context.Background(), fmt.Sprintf("agent-%d", i), s, topics, nil)
			}
			if err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
}

func newCrowd(b *testing.B, n int) *crowd {
	b.Helper()
	pool := pgtest.Pool(b, pgtest.Database(b))
	c := &crowd{Desk: New(pool, uuid.New(), prometheus.NewRegistry()), db: pool, claims: make([]session.Claim, n)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	c.come(b)
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-done)
	})
	return c
}

// backends is the processor time that PostgreSQL has taken for a database.
func (c *crowd) backends(b *testing.B) (used time.Duration) {
	b.Helper()
	rows, err := c.db.Query(b.Context(), "SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
	require.NoError(b, err)
	pids, err := pgx.CollectRows(rows, pgx.RowTo[int])
	require.NoError(b, err)
	for _, pid := range pids {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(b, err)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		for _, ticks := range fields[11:13] { // user and system, in hundredths of a second: proc(5)
			n, err := strconv.Atoi(string(ticks))
			require.NoError(b, err)
			used += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return used
}

// measure reports what PostgreSQL takes for each round.
func (c *crowd) measure(b *testing.B, round func()) {
	b.Helper()
	before, rounds := c.backends(b), 0
	for b.Loop() {
		round()
		rounds++
	}
	b.ReportMetric(float64((c.backends(b)-before).Microseconds())/1000/float64(rounds), "pg-ms/op")
}

// BenchmarkDesk is a second's work with so many consumers: those that acknowledge an
// event, and those that are merely there; and a storm of claims.
func BenchmarkDesk(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("consumers=%d/acking", n), func(b *testing.B) {
			c := newCrowd(b, n)
			position := int64(0)
			c.measure(b, func() {
				position++
				for _, claim := range c.claims {
					claim.Ack(event.Cursor{Epoch: 1, Position: position}, event.Cursor{Epoch: 1, Position: position})
				}
				require.NoError(b, c.flush(b.Context(), true, nil))
			})
		})
		b.Run(fmt.Sprintf("consumers=%d/idle", n), func(b *testing.B) {
			c := newCrowd(b, n)
			c.measure(b, func() { require.NoError(b, c.flush(b.Context(), true, nil)) })
		})
	}
	b.Run("claims=1000", func(b *testing.B) {
		c := newCrowd(b, 1000)
		c.measure(b, func() { c.come(b) })
	})
}
