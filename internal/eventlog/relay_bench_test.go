package eventlog_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// BenchmarkRelay relays 200,000 rows and measures, before, half-way and after, how
// long one more takes from its commit to the log's: with nothing else going on,
// while an analyst holds a snapshot, and while a transaction that has published
// stays open. Nothing that was relayed can be vacuumed in the last two. In the end
// another leader comes.
func BenchmarkRelay(b *testing.B) {
	for name, hold := range map[string]string{
		"alone":       "BEGIN",
		"snapshot":    "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM tailroom.outbox",
		"transaction": "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tailroom.publish('c1', '/orders', 'note', '{}', '{company:c1}')",
	} {
		b.Run(name, func(b *testing.B) {
			dsn := pgtest.Database(b)
			pool := pgtest.Pool(b, dsn)
			log := eventlog.New(pool)
			require.NoError(b, eventlog.MakePartitions(b.Context(), pool))
			require.NoError(b, log.MirrorCatalogue(b.Context(), []byte(ordersOnly), 1<<18))
			committed := make(chan int64, 10_000)
			start := func() (stop func()) {
				rel, err := eventlog.NewRelay(eventlog.RelayConfig{
					DSN: dsn, Log: log, Poll: 10 * time.Millisecond, Judge: judges, Tip: noTip,
					Committed: func(last int64) { committed <- last }, NoPartition: func() {}, Metrics: prometheus.NewRegistry(),
				})
				require.NoError(b, err)
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- rel.Run(ctx) }()
				return func() {
					cancel()
					require.NoError(b, <-done)
				}
			}
			stop := start()
			const one = "SELECT tailroom.publish('c1', '/orders', 'note', '{}', '{company:c1}')"
			tip := int64(0)
			publish := func(sql string, rows int64) time.Duration {
				began := time.Now()
				_, err := pool.Exec(b.Context(), sql)
				require.NoError(b, err)
				tip += rows
				for last := int64(0); last < tip; {
					last = <-committed
				}
				return time.Since(began)
			}
			typical := func() float64 {
				var took []time.Duration
				for range 100 {
					took = append(took, publish(one, 1))
				}
				slices.Sort(took)
				return took[50].Seconds() * 1e3
			}
			publish(one, 1)

			conn, err := pgx.Connect(b.Context(), dsn)
			require.NoError(b, err)
			_, err = conn.Exec(b.Context(), hold)
			require.NoError(b, err)
			b.ReportMetric(typical(), "ms-at-0k")
			var relaying time.Duration
			for _, at := range []string{"100k", "200k"} {
				for range 10 {
					relaying += publish(one+" FROM generate_series(1, 10000)", 10_000)
				}
				b.ReportMetric(typical(), "ms-at-"+at)
			}
			b.ReportMetric(200_000/relaying.Seconds(), "rows/s")
			stop()
			stop = start()
			b.ReportMetric(publish(one, 1).Seconds()*1e3, "ms-new-leader")
			b.ReportMetric(typical(), "ms-behind-it")
			b.ReportMetric(0, "ns/op")
			require.NoError(b, conn.Close(b.Context()))
			stop()
		})
	}
}
