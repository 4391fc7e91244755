package apptest_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
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

// times is what the loud company does as often as the quiet one.
const times = 100

// rounds is how often each is measured alone and beside the other.
const rounds = 4

// doing is something that clients do, again and again, on a line of their own.
type doing struct {
	name      string
	perSecond int // by the quiet company
	role      access.Role
	// open prepares a line, on which the result does the thing once.
	open func(ctx context.Context, url, token string) (once func() error, err error)
}

// BenchmarkFairnessOf measures what each of the things that clients do takes one
// company, alone and beside another that does it a hundred times as often: p99 of
// both, and their ratio. The window is so small that resumes are of cold pages.
func BenchmarkFairnessOf(b *testing.B) {
	p := load.StartProcess(b, benchProgram(b), pgtest.Database(b), apptest.Secret,
		"TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=16KiB")
	instance := &apptest.Instance{URL: p.URL}
	for range 20 {
		for _, company := range []string{"quiet", "loud"} {
			events := make([]string, 1000)
			for i := range events {
				events[i] = fmt.Sprintf(orderBody, i)
			}
			instance.Publish(b, apptest.Token(b, access.Service, company), "["+strings.Join(events, ",")+"]")
		}
	}
	for _, d := range []doing{
		{"publish", 20, access.Web, openPublisher},
		{"frame", 20, access.Web, openPings},
		{"hello", 10, access.Web, openHellos},
		{"history", 20, access.Web, openHistory},
		{"cold-resume", 10, access.Web, openResumes},
		{"order", 5, access.Admin, openOrders},
	} {
		b.Run(d.name, func(b *testing.B) {
			var branches []string
			if d.role == access.Web {
				branches = []string{"b7"}
			}
			quiet, loud := apptest.Token(b, d.role, "quiet", branches...), apptest.Token(b, d.role, "loud", branches...)
			pace(b, p.URL, quiet, d, 4, d.perSecond, time.Second) // so that everything is warm
			// By turns, so that whatever else the machine does is the same for both.
			var alone, beside []time.Duration
			var loudDid int
			var used, lasted time.Duration
			for range rounds {
				alone = append(alone, pace(b, p.URL, quiet, d, 4, d.perSecond, benchTime/2)...)
				var flood sync.WaitGroup
				flood.Go(func() { loudDid += len(pace(b, p.URL, loud, d, 16, times*d.perSecond, benchTime/2)) })
				begin, cpu := time.Now(), p.CPU(b)
				beside = append(beside, pace(b, p.URL, quiet, d, 4, d.perSecond, benchTime/2)...)
				flood.Wait()
				used, lasted = used+p.CPU(b)-cpu, lasted+time.Since(begin)
			}
			slices.Sort(alone)
			slices.Sort(beside)
			b.ReportMetric(used.Seconds()/lasted.Seconds(), "server-cpus")
			b.ReportMetric(float64(loudDid)/lasted.Seconds(), "loud/s")
			p99 := func(took []time.Duration) float64 { return took[len(took)*99/100].Seconds() * 1e3 }
			b.ReportMetric(alone[len(alone)/2].Seconds()*1e3, "alone-p50-ms")
			b.ReportMetric(beside[len(beside)/2].Seconds()*1e3, "beside-p50-ms")
			b.ReportMetric(p99(alone), "alone-p99-ms")
			b.ReportMetric(p99(beside), "beside-p99-ms")
			b.ReportMetric(p99(beside)/p99(alone), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchProgram(b *testing.B) string {
	b.Helper()
	path, err := program()
	require.NoError(b, err)
	if path == "" {
		path = load.Build(b)
	}
	return path
}

// pace does a thing so often in a second, as far as the lines are done with it in
// time, and returns what each took, sorted.
func pace(b *testing.B, url, token string, d doing, lines, perSecond int, lasts time.Duration) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel() // closes the lines
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	pause := time.Second / time.Duration(perSecond)
	start := time.Now()
	for i := range lines {
		once, err := d.open(ctx, url, token)
		require.NoError(b, err)
		wg.Go(func() {
			var mine []time.Duration
			for n := i; time.Since(start) < lasts; n += lines {
				<-time.After(time.Until(start.Add(time.Duration(n) * pause)))
				begin := time.Now()
				if err := once(); err != nil {
					b.Error(err)
					return
				}
				mine = append(mine, time.Since(begin))
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took
}

func openPublisher(ctx context.Context, url, token string) (func() error, error) {
	p, err := load.NewPublisher(ctx, url, token)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = p.Close() })
	return func() error { return p.Publish(fmt.Sprintf(orderBody, 1)) }, nil
}

func openPings(ctx context.Context, url, token string) (func() error, error) {
	s, err := load.Dial(ctx, url, token, "now", `[]`)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return func() error { return s.Ask(`{"type":"ping"}`, "pong") }, nil
}

func openHellos(ctx context.Context, url, token string) (func() error, error) {
	return func() error {
		s, err := load.Dial(ctx, url, token, "now", `[{"namespace":"/orders"}]`)
		if err != nil {
			return err
		}
		return s.Close()
	}, nil
}

func openHistory(ctx context.Context, url, token string) (func() error, error) {
	send := sender(ctx, token)
	return func() error {
		return send(http.MethodGet, url+"/v1/events?namespace=/orders&limit=100", "", http.StatusOK)
	}, nil
}

// openOrders ends the sessions of somebody who has none.
func openOrders(ctx context.Context, url, token string) (func() error, error) {
	send := sender(ctx, token)
	return func() error {
		return send(http.MethodPost, url+"/v1/disconnections", `{"subject":"nobody"}`, http.StatusCreated)
	}, nil
}

// sender sends requests over one kept connection.
func sender(ctx context.Context, token string) func(method, url, body string, want int) error {
	transport := &http.Transport{}
	context.AfterFunc(ctx, transport.CloseIdleConnections)
	return func(method, url, body string, want int) error {
		r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := transport.RoundTrip(r)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		_, err = io.Copy(io.Discard, response.Body)
		if response.StatusCode != want {
			return fmt.Errorf("%s %s: %s", method, url, response.Status)
		}
		return err
	}
}

// openResumes comes back from another place each time: pages that are the same are
// read only once.
func openResumes(ctx context.Context, url, token string) (func() error, error) {
	place := rand.N(30_000)
	return func() error {
		place = (place + 37) % 30_000
		s, err := load.Dial(ctx, url, token, fmt.Sprintf("1-%d", place), `[{"namespace":"/orders"}]`)
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		return s.Await(1000)
	}, nil
}
