//go:build soak

package apptest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

var soakFor = flag.Duration("soak", 10*time.Minute, "how long to soak")

const soakPeriods = 10

// TestSoak works the log as a busy day does, with an analyst's snapshot held open
// from the first moment to the last: a hot stream, orders, an outbox that never
// rests, partitions that turn over every few seconds, ids that rotate. What dies
// in the tables cannot be removed meanwhile. Neither appends nor the outbox must
// become slower for it.
func TestSoak(t *testing.T) { //nolint:paralleltest // it measures
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 20000")
	require.NoError(t, err)
	instances := []*apptest.Instance{apptest.Start(t, dsn), apptest.Start(t, dsn)}
	service := apptest.Token(t, access.Service, "c1")
	instances[0].Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"0","branchId":"b1"}}`)

	analyst := connect(t, dsn)
	_, err = analyst.Exec(t.Context(), `BEGIN ISOLATION LEVEL REPEATABLE READ;
		SELECT count(*) FROM tailroom.events; SELECT count(*) FROM tailroom.streams; SELECT count(*) FROM tailroom.outbox`)
	require.NoError(t, err)

	partitions := count(t, pool, "SELECT count(*) FROM tailroom.partitions")
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	hot, appends, relayed := newLatencies(began), newLatencies(began), newLatencies(began)
	var serial, outbox atomic.Int64
	publisher := func(n int, every time.Duration, measured *latencies, body func() string) {
		g.Go(func() error {
			p, err := load.NewPublisher(ctx, instances[n%2].URL, service)
			if err != nil {
				return err
			}
			defer func() { _ = p.Close() }()
			return paced(ctx, every, func() error {
				since := time.Now()
				err := p.Publish(body())
				if measured != nil {
					measured.add(time.Since(since))
				}
				return err
			})
		})
	}
	const hotPublishers, hotPeriod = 2, 10 * time.Millisecond
	for n := range hotPublishers {
		publisher(n, hotPeriod, hot, func() string {
			return `{"namespace":"/printing-ws","type":"printerStatusUpdate","data":{"printerId":"1","branchId":"b1","status":"online"}}`
		})
	}
	order := func() string {
		return fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b%d"}}`, serial.Add(1), serial.Load()%50)
	}
	for n := range 4 {
		publisher(n, 10*time.Millisecond, nil, order)
		g.Go(func() error {
			return paced(ctx, 20*time.Millisecond, func() error { return publishSome(ctx, pool, &outbox) })
		})
	}
	g.Go(func() error {
		return paced(ctx, time.Minute, func() error {
			_, err := pool.Exec(ctx, "SELECT tailroom.rotate_ids('1 minute')")
			return err
		})
	})

	publisher(0, 20*time.Millisecond, appends, order)
	g.Go(func() error {
		return paced(ctx, 100*time.Millisecond, func() error { return awaitRelay(ctx, pool, relayed) })
	})
	require.NoError(t, g.Wait())

	t.Logf("%d events by the outbox; %s", outbox.Load(), "append, publish-to-log and the hot stream, by period:")
	for n := range soakPeriods {
		t.Logf("%2d  append p50 %6.2f p99 %6.2f max %7.2f ms (%d)   outbox p50 %6.2f p99 %6.2f ms (%d)   hot %d", n,
			appends.at(n, .5), appends.at(n, .99), appends.at(n, 1), appends.count(n),
			relayed.at(n, .5), relayed.at(n, .99), relayed.count(n), hot.count(n))
	}
	asked := float64(hotPublishers * *soakFor / soakPeriods / hotPeriod)
	for n := range soakPeriods {
		require.GreaterOrEqual(t, float64(hot.count(n)), .9*asked, "the hot stream was not kept hot in period %d: was the machine busy?", n)
	}
	const third = soakPeriods / 3
	for _, c := range []struct {
		what      string
		quantile  float64 // that of the outbox is less, because it is sampled less often
		latencies *latencies
	}{
		{"appends", .99, appends}, {"the outbox", .9, relayed},
	} {
		early, late := c.latencies.typical(0, third, c.quantile), c.latencies.typical(soakPeriods-third, soakPeriods, c.quantile)
		require.Less(t, late, 2*early+2, "the p%.0f of %s has grown: from %.2f to %.2f ms", 100*c.quantile, c.what, early, late)
	}
	require.NoError(t, analyst.Close(t.Context()))
	grown := count(t, pool, "SELECT count(*) FROM tailroom.partitions")
	t.Logf("%d partitions", grown)
	require.Greater(t, grown, partitions)
}

// paced calls do at a rate until ctx ends. What is late is not made up for.
func paced(ctx context.Context, every time.Duration, do func() error) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := do(); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

const publishOrder = `SELECT tailroom.publish('c1', '/orders', 'newOrder', jsonb_build_object('orderId', $1::bigint, 'branchId', 'b1'))`

// publishSome publishes within a transaction, as an application does.
func publishSome(ctx context.Context, pool *pgxpool.Pool, serial *atomic.Int64) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		for range 3 {
			if _, err := tx.Exec(ctx, publishOrder, serial.Add(1)); err != nil {
				return err
			}
		}
		return nil
	})
}

// awaitRelay measures the time from a commit to the event in the log.
func awaitRelay(ctx context.Context, pool *pgxpool.Pool, l *latencies) error {
	var id string
	if err := pool.QueryRow(ctx, publishOrder, 0).Scan(&id); err != nil {
		return err
	}
	since := time.Now()
	for there := false; !there; {
		err := pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM tailroom.recent_ids WHERE tenant = 'c1' AND id = $1)", id).Scan(&there)
		if err != nil {
			return err
		}
		if time.Since(since) > apptest.Patience {
			return errors.New("an event stays in the outbox")
		}
	}
	l.add(time.Since(since))
	return nil
}

// latencies are figures by period of the run.
type latencies struct {
	began   time.Time
	mu      sync.Mutex
	periods [soakPeriods][]float64 // ms
}

func newLatencies(began time.Time) *latencies { return &latencies{began: began} }

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(int(time.Since(l.began)*soakPeriods / *soakFor), soakPeriods-1)
	l.periods[n] = append(l.periods[n], float64(d)/float64(time.Millisecond))
}

func (l *latencies) count(period int) int { return len(l.periods[period]) }

// at is a quantile of a period; 1 is its largest.
func (l *latencies) at(period int, quantile float64) float64 {
	list := slices.Sorted(slices.Values(l.periods[period]))
	if len(list) == 0 {
		return 0
	}
	return list[min(int(quantile*float64(len(list))), len(list)-1)]
}

// typical is the median of some periods' quantile.
func (l *latencies) typical(from, beyond int, quantile float64) float64 {
	var list []float64
	for n := from; n < beyond; n++ {
		list = append(list, l.at(n, quantile))
	}
	slices.Sort(list)
	return list[len(list)/2]
}
