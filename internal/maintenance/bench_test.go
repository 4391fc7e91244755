package maintenance

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// BenchmarkAppend is how long small appends take, from four publishers in closed
// loops, while nothing else goes on and while partitions of 100,000 events are
// sealed, detached and dropped, and attached. Use -benchtime 1x: each takes a few
// seconds, whatever b.N is.
func BenchmarkAppend(b *testing.B) {
	const size, old, seconds = 100_000, 6, 6
	dsn := pgtest.Database(b)
	pool := pgtest.Pool(b, dsn)
	exec := func(sql string) {
		_, err := pool.Exec(b.Context(), sql)
		require.NoError(b, err)
	}
	exec(fmt.Sprintf("UPDATE tailroom.log SET partition_size = %d", size))
	require.NoError(b, eventlog.MakePartitions(b.Context(), pool))
	for range old {
		exec(fmt.Sprintf(`WITH tip AS (SELECT tip FROM tailroom.bounds)
			INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms,
				occurred_at, recorded_at, correlation_id, data)
			SELECT tip + n, 1, gen_random_uuid(), 'c' || n %% 200, '/orders', 'newOrder', 1, ARRAY['branch:b' || n %% 1000],
				now(), clock_timestamp(), 'x', jsonb_build_object('orderId', n, 'branchId', n %% 1000, 'note', repeat('x', 200))
			FROM tip, generate_series(1, %d) n`, size))
		exec("SELECT setval('tailroom.positions', tip) FROM tailroom.bounds")
		require.NoError(b, eventlog.MakePartitions(b.Context(), pool))
	}
	exec("CHECKPOINT")

	k, err := New(b.Context(), Config{DSN: dsn, IDWindow: time.Hour, Keep: nothing, RaiseFloor: raiseFloor, Metrics: prometheus.NewRegistry()})
	require.NoError(b, err)
	conn, err := k.connect(b.Context(), "tailroom sweep", sweepSettings)
	require.NoError(b, err)
	defer hangUp(b.Context(), conn)
	ahead := 3
	attach := func(ctx context.Context) error {
		ahead++
		_, err := k.sql.PartitionMakeAhead(ctx, conn, int32(ahead))
		return err
	}
	for _, phase := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"quiet", nil},
		{"sealing", func(ctx context.Context) error { return k.seal(ctx, conn) }},
		{"dropping", func(ctx context.Context) error { return k.retain(ctx, conn) }},
		{"attaching", attach},
		{"quiet_again", nil},
	} {
		b.Run(phase.name, func(b *testing.B) {
			times, during := measure(b, dsn, seconds*time.Second, phase.do)
			report(b, "", times)
			report(b, "during_", during)
		})
	}
}

// measure appends for a time, and does something in between, as often as there is
// a tenth of a second; "during" are the appends that were under way meanwhile.
func measure(b *testing.B, dsn string, span time.Duration, do func(context.Context) error) (times, during []time.Duration) {
	b.Helper()
	a := eventlog.NewAppender(eventlog.AppenderConfig{
		Log: eventlog.New(pgtest.Pool(b, dsn)), Pool: pgtest.Pool(b, dsn), Timeout: patience,
		Tip: func() event.Cursor { return event.Cursor{} }, Committed: func(int64) {}, NoPartition: func() { b.Error("no partition") },
		Metrics: eventlog.NewAppendMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	var mu sync.Mutex
	var busy atomic.Bool
	end := time.Now().Add(span)
	var publishers sync.WaitGroup
	for p := range 4 {
		publishers.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				since, at := time.Now(), busy.Load()
				_, err := a.Append(ctx, nil, []event.Draft{draft(fmt.Sprintf("order:%d-%d", p, n))})
				took := time.Since(since)
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				times = append(times, took)
				if at || busy.Load() {
					during = append(during, took)
				}
				mu.Unlock()
			}
		})
	}
	for do != nil && time.Now().Before(end) {
		busy.Store(true)
		require.NoError(b, do(ctx))
		busy.Store(false)
		<-time.After(100 * time.Millisecond)
	}
	publishers.Wait()
	cancel()
	running.Wait()
	return times, during
}

func report(b *testing.B, prefix string, times []time.Duration) {
	b.Helper()
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	ms := func(share float64) float64 {
		return float64(times[min(int(share*float64(len(times))), len(times)-1)].Microseconds()) / 1000
	}
	b.ReportMetric(ms(0.5), prefix+"p50_ms")
	b.ReportMetric(ms(0.99), prefix+"p99_ms")
	b.ReportMetric(ms(1), prefix+"max_ms")
	b.ReportMetric(float64(len(times)), prefix+"appends")
}
