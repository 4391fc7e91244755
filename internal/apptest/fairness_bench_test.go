package apptest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// BenchmarkFairness measures what one tenant's publishes take, 50 a second over
// HTTP: alone, beside a tenant of a hundred times that rate, and beside one who
// has 5,000 publishes waiting all the time. Commits wait a millisecond, as on a
// cloud volume, and reach the disk.
func BenchmarkFairness(b *testing.B) {
	server, err := localpg.Start(b.Context(), localpg.Config{Dir: pgtest.Dir(b), Durable: true, Settings: map[string]string{
		"commit_delay": "1000", "commit_siblings": "0",
	}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Stop(context.WithoutCancel(b.Context()))) })
	p := benchInstance(b, pgtest.DatabaseOn(b, server))
	instance := &apptest.Instance{URL: p.URL}
	quiet, loud := apptest.Token(b, access.Service, "quiet"), apptest.Token(b, access.Service, "loud")
	publishPaced(b, p.URL, quiet, time.Second) // so that everything is warm

	var alone float64 // its p99
	for _, c := range []struct {
		name            string
		requests, lines int
		every           time.Duration
	}{
		{"alone", 0, 0, 0},
		{"hundredfold", 10, 5, 10 * time.Millisecond},
		{"backlog", 25, 10, 0},
	} {
		b.Run(c.name, func(b *testing.B) {
			stop := startFlood(b, p.URL, loud, c.requests, c.lines, c.every)
			if c.name == "backlog" {
				apptest.Eventually(b, func() bool { return instance.Metric(b, "tailroom_append_waiting") > 4500 },
					apptest.Patience, 10*time.Millisecond)
			}
			events, batches := instance.Metric(b, "tailroom_append_events_total"), instance.Metric(b, "tailroom_append_batch_events_count")
			start, cpu := time.Now(), p.CPU(b)
			took := publishPaced(b, p.URL, quiet, 6*benchTime)
			elapsed := time.Since(start).Seconds()
			b.ReportMetric((p.CPU(b)-cpu).Seconds()/elapsed, "server-cpus")
			events = instance.Metric(b, "tailroom_append_events_total") - events
			batches = instance.Metric(b, "tailroom_append_batch_events_count") - batches
			stop()
			b.ReportMetric(events/elapsed, "events/s")
			b.ReportMetric(events/batches, "events/batch")
			b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
			p99 := took[len(took)*99/100].Seconds() * 1e3
			b.ReportMetric(p99, "p99-ms")
			if c.name == "alone" {
				alone = p99
			} else {
				b.ReportMetric(p99/alone, "p99-ratio")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// publishPaced publishes 50 events a second over five connections, and returns
// what each took, sorted.
func publishPaced(b *testing.B, url, token string, lasts time.Duration) []time.Duration {
	b.Helper()
	const conns, pause = 5, time.Second / 50
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	start := time.Now()
	for i := range conns {
		p, err := load.NewPublisher(b.Context(), url, token)
		require.NoError(b, err)
		wg.Go(func() {
			defer func() { _ = p.Close() }()
			for n := i; time.Since(start) < lasts; n += conns {
				<-time.After(time.Until(start.Add(time.Duration(n) * pause)))
				begin := time.Now()
				if err := p.Publish(fmt.Sprintf(orderBody, n)); err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				took = append(took, time.Since(begin))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took
}
