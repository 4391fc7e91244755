package apptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The benchmarks here run real processes for a fixed time each, whatever b.N
// is: use -benchtime 1x. They report figures of their own.

const benchTime = 5 * time.Second

var program = sync.OnceValues(func() (string, error) { return os.Getenv("BENCH_PROGRAM"), nil })

func benchInstance(b *testing.B, dsn string) *load.Process {
	b.Helper()
	path, err := program()
	require.NoError(b, err)
	if path == "" {
		path = load.Build(b)
	}
	return load.StartProcess(b, path, dsn, apptest.Secret)
}

// dialMany connects n sockets, a few at a time.
func dialMany(b *testing.B, n int, dial func(i int) (*load.Socket, error)) []*load.Socket {
	b.Helper()
	sockets := make([]*load.Socket, n)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				s, err := dial(i)
				mu.Lock()
				sockets[i], failed = s, errOr(failed, err)
				mu.Unlock()
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	require.NoError(b, failed)
	return sockets
}

func errOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// countAll reads all sockets until they are closed.
func countAll(b *testing.B, sockets []*load.Socket, c *load.Counter) {
	b.Helper()
	readAll(b, sockets, func(s *load.Socket) { _ = s.Count(c, nil) })
}

// readAll runs read for each of the sockets, which are closed when the benchmark ends.
func readAll(b *testing.B, sockets []*load.Socket, read func(*load.Socket)) {
	b.Helper()
	var wg sync.WaitGroup
	for _, s := range sockets {
		wg.Go(func() { read(s) })
	}
	b.Cleanup(func() {
		for _, s := range sockets {
			_ = s.Close()
		}
		wg.Wait()
	})
}

const orderBody = `{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b7","total":1250,"note":"no onions, and ring twice please"}}`

// publishLoop publishes groups of events as fast as they are taken, or at a
// rate of groups per second, until the time is up. It returns how many events.
func publishLoop(b *testing.B, url, token string, group int, rate float64, until time.Time) int {
	b.Helper()
	client := &http.Client{}
	defer client.CloseIdleConnections()
	published, start := 0, time.Now()
	for n := 0; time.Now().Before(until); n++ {
		if rate > 0 {
			due := start.Add(time.Duration(float64(n) / rate * float64(time.Second)))
			<-time.After(time.Until(due))
		}
		events := make([]string, group)
		for i := range events {
			events[i] = fmt.Sprintf(orderBody, n*group+i)
		}
		body := "[" + strings.Join(events, ",") + "]"
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url+"/v1/events", strings.NewReader(body))
		require.NoError(b, err)
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := client.Do(r)
		require.NoError(b, err)
		require.Equal(b, http.StatusCreated, response.StatusCode)
		_, _ = json.NewDecoder(response.Body).Token()
		_ = response.Body.Close()
		published += group
	}
	return published
}

// BenchmarkFanOut delivers to one room of many sockets: saturated, and at
// 50,000 deliveries a second for the server's CPU per delivery.
func BenchmarkFanOut(b *testing.B) {
	for _, sockets := range []int{1000, 5000} {
		b.Run(fmt.Sprintf("sockets=%d/saturated", sockets), func(b *testing.B) { fanOut(b, sockets, 50, 0) })
	}
	b.Run("sockets=1000/50k_per_second", func(b *testing.B) { fanOut(b, 1000, 1, 50) })
}

func fanOut(b *testing.B, sockets, group int, rate float64) (perSecond float64) {
	b.Helper()
	p := benchInstance(b, pgtest.Database(b))
	token := apptest.Token(b, access.Web, "c1", "b7")
	var c load.Counter
	countAll(b, dialMany(b, sockets, func(int) (*load.Socket, error) {
		return load.Dial(b.Context(), p.URL, token, "now", `[{"namespace":"/orders"}]`)
	}), &c)
	return deliver(b, p, &c, sockets, group, rate)
}

// BenchmarkFanOutSocketIO is BenchmarkFanOut for a thousand Socket.IO clients, and how it compares
// to as many WebSockets of our own, in the same run.
func BenchmarkFanOutSocketIO(b *testing.B) {
	const sockets = 1000
	own := fanOut(b, sockets, 50, 0)
	p := benchInstance(b, pgtest.Database(b))
	token := apptest.Token(b, access.Web, "c1", "b7")
	var c load.Counter
	list := dialMany(b, sockets, func(int) (*load.Socket, error) {
		return load.DialSocketIO(b.Context(), p.URL, token, "/orders")
	})
	readAll(b, list, func(s *load.Socket) { _ = s.CountSocketIO(&c, "/orders", "newOrder") })
	b.ReportMetric(deliver(b, p, &c, sockets, 50, 0)/own, "of-/v1/ws")
}

// deliver publishes, and waits until each of the sockets has everything.
func deliver(b *testing.B, p *load.Process, c *load.Counter, sockets, group int, rate float64) (perSecond float64) {
	b.Helper()
	before, cpu, start := c.Events.Load(), p.CPU(b), time.Now()
	published := publishLoop(b, p.URL, apptest.Token(b, access.Service, "c1"), group, rate, start.Add(benchTime))
	// The saturated server still owes what it has not delivered.
	for deadline := time.Now().Add(time.Minute); c.Events.Load()-before < int64(published*sockets); {
		require.True(b, time.Now().Before(deadline), "delivered %d of %d", c.Events.Load()-before, published*sockets)
		<-time.After(5 * time.Millisecond)
	}
	took, delivered := time.Since(start), float64(c.Events.Load()-before)
	b.ReportMetric(delivered/took.Seconds(), "deliveries/s")
	b.ReportMetric((p.CPU(b)-cpu).Seconds()/delivered*1e6, "cpu-s/Mdelivery")
	b.ReportMetric(float64(published)/took.Seconds(), "publishes/s")
	b.ReportMetric(delivered/float64(c.Messages.Load()), "events/message")
	b.ReportMetric(0, "ns/op")
	return delivered / took.Seconds()
}

var recordedAt = regexp.MustCompile(`"recordedAt":"([^"]+)"`)

// BenchmarkCommitToSocket measures from the log's recordedAt, which is just
// before the commit, to the arrival at a socket of the other instance.
func BenchmarkCommitToSocket(b *testing.B) {
	dsn := pgtest.Database(b)
	one, other := benchInstance(b, dsn), benchInstance(b, dsn)
	s, err := load.Dial(b.Context(), other.URL, apptest.Token(b, access.Web, "c1", "b7"), "now", `[{"namespace":"/orders"}]`)
	require.NoError(b, err)
	var took []time.Duration
	var c load.Counter
	var reading sync.WaitGroup
	reading.Go(func() {
		_ = s.Count(&c, func(message []byte, _ int) {
			now := time.Now()
			at, err := time.Parse(time.RFC3339, string(recordedAt.FindSubmatch(message)[1]))
			if err == nil {
				took = append(took, now.Sub(at))
			}
		})
	})
	published := publishLoop(b, one.URL, apptest.Token(b, access.Service, "c1"), 1, 100, time.Now().Add(benchTime))
	for c.Events.Load() < int64(published) {
		<-time.After(time.Millisecond)
	}
	require.NoError(b, s.Close())
	reading.Wait()
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkResume lets many clients come back at once, each 1,000 events late.
func BenchmarkResume(b *testing.B) {
	const clients, missed = 500, 1000
	p := benchInstance(b, pgtest.Database(b))
	service := apptest.Token(b, access.Service, "c1")
	instance := &apptest.Instance{URL: p.URL}
	for range missed / 100 {
		events := make([]string, 100)
		for i := range events {
			events[i] = fmt.Sprintf(orderBody, i)
		}
		instance.Publish(b, service, "["+strings.Join(events, ",")+"]")
	}
	token := apptest.Token(b, access.Web, "c1", "b7")
	var c load.Counter
	start := time.Now()
	countAll(b, dialMany(b, clients, func(int) (*load.Socket, error) {
		return load.Dial(b.Context(), p.URL, token, "1-0", `[{"namespace":"/orders"}]`)
	}), &c)
	for c.Events.Load() < clients*missed {
		<-time.After(time.Millisecond)
	}
	b.ReportMetric(clients*missed/time.Since(start).Seconds(), "events/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkHandshake measures how many clients can connect and be welcomed in
// a second, and what an idle one costs.
func BenchmarkHandshake(b *testing.B) {
	const clients = 10_000
	p := benchInstance(b, pgtest.Database(b))
	token := apptest.Token(b, access.Web, "c1", "b7")
	memory, cpu, start := p.Memory(b), p.CPU(b), time.Now()
	sockets := dialMany(b, clients, func(int) (*load.Socket, error) {
		return load.Dial(b.Context(), p.URL, token, "now", `[{"namespace":"/orders"}]`)
	})
	took := time.Since(start)
	b.ReportMetric((p.CPU(b)-cpu).Seconds()*1e6/clients, "cpu-µs/handshake")
	b.Cleanup(func() {
		for _, s := range sockets {
			_ = s.Close()
		}
	})
	b.ReportMetric(clients/took.Seconds(), "handshakes/s")
	settled := settledMemory(b, p)
	b.ReportMetric(float64(settled-memory)/clients/1024, "KiB/idle-connection")
	b.ReportMetric(0, "ns/op")
}

// settledMemory is the memory once the garbage of the handshakes is collected
// and given back.
func settledMemory(b *testing.B, p *load.Process) int64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 90*time.Second)
	defer cancel()
	least := p.Memory(b)
	for unchanged := 0; unchanged < 20 && ctx.Err() == nil; unchanged++ {
		<-time.After(time.Second)
		if now := p.Memory(b); now < least-least/100 {
			least, unchanged = now, 0
		}
	}
	return least
}

// BenchmarkPublish publishes one event in each request, in closed loops over
// two instances: without readers, and with 5,000 sockets in 1,000 rooms that
// all must get theirs.
func BenchmarkPublish(b *testing.B) {
	b.Run("readers=0", func(b *testing.B) { publishOnes(b, 0) })
	b.Run("readers=5000/rooms=1000", func(b *testing.B) { publishOnes(b, 5000) })
}

func publishOnes(b *testing.B, readers int) {
	b.Helper()
	const publishers, rooms = 64, 1000
	dsn := pgtest.Database(b)
	instances := []*load.Process{benchInstance(b, dsn), benchInstance(b, dsn)}
	var c load.Counter
	countAll(b, dialMany(b, readers, func(i int) (*load.Socket, error) {
		token := apptest.Token(b, access.Web, "c1", fmt.Sprintf("b%d", i%rooms))
		return load.Dial(b.Context(), instances[i%2].URL, token, "now", `[{"namespace":"/orders"}]`)
	}), &c)
	token := apptest.Token(b, access.Service, "c1")
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	until := time.Now().Add(benchTime)
	for i := range publishers {
		p, err := load.NewPublisher(b.Context(), instances[i%2].URL, token)
		require.NoError(b, err)
		wg.Go(func() {
			var mine []time.Duration
			for n := i; time.Now().Before(until); n += publishers {
				start := time.Now()
				err := p.Publish(fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b%d"}}`, n, n%rooms))
				if err != nil {
					b.Error(err)
					break
				}
				mine = append(mine, time.Since(start))
			}
			_ = p.Close()
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(len(took))/benchTime.Seconds(), "publishes/s")
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "p50-ms")
	b.ReportMetric(took[len(took)*99/100].Seconds()*1e3, "p99-ms")
	if want := int64(len(took) * readers / rooms); readers > 0 {
		for deadline := time.Now().Add(time.Minute); c.Events.Load() < want; {
			require.True(b, time.Now().Before(deadline), "delivered %d of %d", c.Events.Load(), want)
			<-time.After(5 * time.Millisecond)
		}
	}
	b.ReportMetric(0, "ns/op")
}
