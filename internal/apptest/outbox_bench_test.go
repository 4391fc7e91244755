package apptest_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// slowDatabase is a database whose commits take a millisecond more, as on a cloud
// volume, and reach the disk.
func slowDatabase(b *testing.B) string {
	b.Helper()
	dir := pgtest.Dir(b)
	server, err := localpg.Start(b.Context(), localpg.Config{Dir: dir, Durable: true, Environ: []string{load.SlowDisk(b, dir)}})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, server.Stop(context.WithoutCancel(b.Context()))) })
	return pgtest.DatabaseOn(b, server)
}

// business is a transaction of an application, in one round trip: a row of its own,
// and what it publishes.
const business = `BEGIN; INSERT INTO public.business (note) VALUES ('an order'); %s; COMMIT`

const publishAnOrder = `SELECT tailroom.publish('c1', '/orders', 'newOrder', '{"orderId":"1042","branchId":"b7","total":1250,"note":"no onions"}', stream => NULL)`

// published are the ways to do it: what BenchmarkOutboxCommits compares.
var published = []struct{ name, setup, statement string }{
	{"nothing", "", "SELECT 1"},
	{"poll", "SET tailroom.outbox_notify = off", publishAnOrder},
	{"notify", "", publishAnOrder},
	{"notify-always", "SET tailroom.outbox_notify = off", publishAnOrder + "; SELECT pg_notify('tailroom_outbox', '')"},
}

func makeBusiness(b *testing.B, dsn string) {
	b.Helper()
	_, err := pgtest.Pool(b, dsn).Exec(b.Context(), "CREATE TABLE public.business (id bigint GENERATED ALWAYS AS IDENTITY, note text)")
	require.NoError(b, err)
}

// transact runs transactions over one connection until ctx ends.
func transact(ctx context.Context, dsn, setup, statement string, done *atomic.Int64) error {
	background := context.WithoutCancel(ctx)
	conn, err := pgx.Connect(background, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(background) }()
	if _, err := conn.Exec(background, setup); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if _, err := conn.Exec(background, fmt.Sprintf(business, statement)); err != nil {
			return err
		}
		done.Add(1)
	}
	return nil
}

// rate is how many transactions a second so many writers do for some time.
func rate(ctx context.Context, dsn string, writers int, setup, statement string, length time.Duration) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var done atomic.Int64
	var g errgroup.Group
	start := time.Now()
	for range writers {
		g.Go(func() error { return transact(ctx, dsn, setup, statement, &done) })
	}
	err := g.Wait()
	return float64(done.Load()) / time.Since(start).Seconds(), err
}

// BenchmarkOutboxCommits measures the commits of an application's 16 connections
// that publish with SQL, by how the relay is woken: nothing published at all,
// polled, notified as it is by default, and notified by every transaction.
func BenchmarkOutboxCommits(b *testing.B) {
	dsn := slowDatabase(b)
	benchInstance(b, dsn)
	makeBusiness(b, dsn)
	const writers, rounds = 16, 3
	rates := map[string][]float64{}
	for range rounds { // in turn: the machine's speed changes
		for _, p := range published {
			r, err := rate(b.Context(), dsn, writers, p.setup, p.statement, 2*time.Second)
			require.NoError(b, err)
			rates[p.name] = append(rates[p.name], r)
		}
	}
	for _, p := range published {
		slices.Sort(rates[p.name])
		b.ReportMetric(rates[p.name][rounds/2], p.name+"/s")
	}
	b.ReportMetric(0, "ns/op")
}

// BenchmarkOutboxLatency measures from just before COMMIT to the arrival at a
// socket, 50 transactions a second, by how the relay is woken.
func BenchmarkOutboxLatency(b *testing.B) {
	for disk, database := range map[string]func(*testing.B) string{
		"slow-disk": slowDatabase,
		"no-disk":   func(b *testing.B) string { b.Helper(); return pgtest.Database(b) },
	} {
		b.Run(disk, func(b *testing.B) {
			dsn := database(b)
			p := benchInstance(b, dsn)
			for _, how := range []string{"notify", "poll"} {
				b.Run(how, func(b *testing.B) {
					took := commitToSocket(b, p, dsn, how, benchTime)
					b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
					b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
					b.ReportMetric(0, "ns/op")
				})
			}
		})
	}
}

// commitToSocket returns what transactions took, in order of length.
func commitToSocket(b *testing.B, p *load.Process, dsn, how string, length time.Duration) []time.Duration {
	b.Helper()
	s, err := load.Dial(b.Context(), p.URL, apptest.Token(b, access.Web, "c1", "probe"), "now", `[{"namespace":"/orders"}]`)
	require.NoError(b, err)
	arrivals := make(chan time.Time, 1)
	var c load.Counter
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = s.Count(&c, func(_ []byte, events int) {
			if events == 1 {
				arrivals <- time.Now()
			}
		})
	})
	conn, err := pgx.Connect(b.Context(), dsn)
	require.NoError(b, err)
	if how == "poll" {
		_, err := conn.Exec(b.Context(), "SET tailroom.outbox_notify = off")
		require.NoError(b, err)
	}
	var took []time.Duration
	pace := time.NewTicker(20 * time.Millisecond)
	for end := time.Now().Add(length); time.Now().Before(end); <-pace.C {
		tx, err := conn.Begin(b.Context())
		require.NoError(b, err)
		_, err = tx.Exec(b.Context(), "SELECT tailroom.publish('c1', '/orders', 'newOrder', $1)",
			map[string]any{"orderId": strconv.Itoa(len(took)), "branchId": "probe"})
		require.NoError(b, err)
		begin := time.Now()
		require.NoError(b, tx.Commit(b.Context()))
		took = append(took, (<-arrivals).Sub(begin))
	}
	pace.Stop()
	require.NoError(b, conn.Close(b.Context()))
	require.NoError(b, s.Close())
	reading.Wait()
	slices.Sort(took)
	return took
}

// BenchmarkOutboxLongTransaction compares what 16 writers do, and how late their
// events are, while nothing else happens and while a business transaction that has
// published stays open.
func BenchmarkOutboxLongTransaction(b *testing.B) {
	const writers, length = 16, time.Minute
	dsn := slowDatabase(b)
	p := benchInstance(b, dsn)
	makeBusiness(b, dsn)
	for _, long := range []bool{false, true, false, true} {
		name := map[bool]string{false: "without", true: "with"}[long]
		b.Run(name, func(b *testing.B) {
			conn, err := pgx.Connect(b.Context(), dsn)
			require.NoError(b, err)
			if long {
				_, err := conn.Exec(b.Context(), "BEGIN; "+publishAnOrder)
				require.NoError(b, err)
			}
			var rates float64
			var writing errgroup.Group
			writing.Go(func() (err error) {
				rates, err = rate(b.Context(), dsn, writers, "", publishAnOrder, length)
				return err
			})
			took := commitToSocket(b, p, dsn, "notify", length-time.Second)
			require.NoError(b, writing.Wait())
			if long {
				_, err := conn.Exec(b.Context(), "COMMIT")
				require.NoError(b, err)
			}
			require.NoError(b, conn.Close(b.Context()))
			b.ReportMetric(rates, "tx/s")
			b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
			b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkOutboxIdle measures what a leader costs when nobody publishes: its
// process, and PostgreSQL's for it. The other instance only stands by.
func BenchmarkOutboxIdle(b *testing.B) {
	dsn := pgtest.Database(b)
	leader := benchInstance(b, dsn)
	instance := &apptest.Instance{URL: leader.URL}
	apptest.Eventually(b, func() bool { return instance.Metric(b, "tailroom_outbox_leader") == 1 }, apptest.Patience, 10*time.Millisecond)
	other := benchInstance(b, dsn)
	backend := func() time.Duration {
		var pid int
		conn, err := pgx.Connect(b.Context(), dsn)
		require.NoError(b, err)
		require.NoError(b, conn.QueryRow(b.Context(), `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 5
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&pid))
		require.NoError(b, conn.Close(b.Context()))
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		require.NoError(b, err)
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		user, _ := strconv.Atoi(fields[11])
		system, _ := strconv.Atoi(fields[12])
		return time.Duration(user+system) * time.Second / 100
	}
	<-time.After(2 * time.Second)
	const length = 20 * time.Second
	before := []time.Duration{leader.CPU(b), other.CPU(b), backend()}
	<-time.After(length)
	for i, used := range []time.Duration{leader.CPU(b), other.CPU(b), backend()} {
		b.ReportMetric(100*(used-before[i]).Seconds()/length.Seconds(), []string{"leader", "other", "backend"}[i]+"-cpu-%")
	}
	b.ReportMetric(0, "ns/op")
}
