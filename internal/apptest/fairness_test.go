package apptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

const smallEvent = `{"namespace":"/availability","type":"newAlert","data":{"message":"x"}}`

// startFlood publishes as one tenant, in some requests that go on and on: so many
// lines in each interval, or without a pause when it is zero. The returned
// function lets the requests come to their end.
func startFlood(tb testing.TB, url, token string, requests, lines int, every time.Duration) (stop func()) {
	tb.Helper()
	var stopped atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	for i := range requests {
		wg.Go(func() {
			next := start.Add(every * time.Duration(i) / time.Duration(requests)) // not all at once
			for !stopped.Load() {
				body := &endless{stopped: &stopped, lines: lines, every: every, next: next}
				err := postLines(tb.Context(), url, token, body)
				next = body.next
				if err != nil {
					if tb.Context().Err() == nil {
						tb.Error(err)
					}
					return
				}
			}
		})
	}
	stop = func() {
		stopped.Store(true)
		wg.Wait()
	}
	tb.Cleanup(stop)
	return stop
}

func postLines(ctx context.Context, url, token string, lines io.Reader) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/events", lines)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/x-ndjson")
	response, err := apptest.Client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the lines were answered by %s", response.Status)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// endless is a body that ends when it is stopped, or near the number of lines
// that a request may have.
type endless struct {
	stopped *atomic.Bool
	lines   int
	every   time.Duration
	next    time.Time
	read    int
	left    string
}

// longLine is mostly blanks, so that few lines fit into the network's buffers:
// who publishes without a pause is held up by the server and not by them.
var longLine = smallEvent + strings.Repeat(" ", 8<<10) + "\n"

func (e *endless) Read(p []byte) (int, error) {
	if e.left == "" {
		if e.stopped.Load() || e.read >= 90_000 {
			return 0, io.EOF
		}
		line := longLine
		if e.every > 0 {
			<-time.After(time.Until(e.next))
			e.next = e.next.Add(e.every)
			line = smallEvent + "\n"
		}
		e.left = strings.Repeat(line, e.lines)
		e.read += e.lines
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// holdAppends takes the append lock, so that all that is published waits, until
// the returned function is called.
func holdAppends(t *testing.T, dsn string) (release func()) {
	t.Helper()
	conn, err := pgtest.Pool(t, dsn).Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(1952541036, 1)")
	require.NoError(t, err)
	release = sync.OnceFunc(func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "SELECT pg_advisory_unlock(1952541036, 1)")
		conn.Release()
		require.NoError(t, err)
	})
	t.Cleanup(release)
	return release
}

// A tenant whose share of the queue is full is told to come back, over HTTP and
// WebSocket; others are not. A request of many lines is not refused for being
// ahead of the log: it is read more slowly.
func TestBackpressure_OneTenantsShareIsFull(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	instance := apptest.Start(t, dsn, "TAILROOM_PUBLISH_TIMEOUT=1m")
	loud, quiet := apptest.Token(t, access.Service, "loud"), apptest.Token(t, access.Service, "quiet")
	socket, _ := instance.Hello(t, loud, "now", `[]`)
	release := holdAppends(t, dsn)
	backlog := postBacklog(t, instance, loud, 26, 205) // each may be 200 lines ahead
	awaitMetric(t, instance, "tailroom_append_waiting", 5000)
	awaitMetric(t, instance, "tailroom_append_overloaded_total", 1)
	const weight = 200 + len(`{"message":"x"}`) + len("company:loud") + 16 + 36 // its correlation id
	require.InDelta(t, 5000*weight, instance.Metric(t, "tailroom_append_waiting_bytes"), 0)

	refused := instance.Post(t, loud, smallEvent)
	require.Equal(t, http.StatusServiceUnavailable, refused.Status)
	require.Equal(t, "overloaded", refused.Code())
	require.Equal(t, "1", refused.Header.Get("Retry-After"))
	socket.Send(t, `{"type":"publish","ref":1,"events":[`+smallEvent+`]}`)
	replies := socket.Until(t, "reply")
	reply := replies[len(replies)-1]
	require.False(t, reply.OK)
	require.Equal(t, "overloaded", reply.Code)
	require.Contains(t, string(reply.Raw), `"retryAfterMs":1000`)

	accepted := postBeside(t, instance, quiet, smallEvent)
	awaitMetric(t, instance, "tailroom_append_waiting", 5001)
	release()
	require.Equal(t, http.StatusCreated, accepted().Status)
	backlog.Wait()
	instance.Publish(t, loud, smallEvent)
	require.Zero(t, instance.Metric(t, "tailroom_append_waiting"))
	require.Zero(t, instance.Metric(t, "tailroom_append_waiting_bytes"))
}

// postBeside publishes while the test goes on. The returned function waits for the
// answer.
func postBeside(t *testing.T, instance *apptest.Instance, token, body string) (wait func() apptest.Answer) {
	t.Helper()
	var answer apptest.Answer
	var g errgroup.Group
	g.Go(func() (err error) {
		answer, err = instance.Request(t.Context(), http.MethodPost, "/v1/events", token, body, "Content-Type", "application/json")
		return err
	})
	return func() apptest.Answer {
		t.Helper()
		require.NoError(t, g.Wait())
		return answer
	}
}

// postBacklog publishes some lines in each of some requests, all of which must
// be accepted in the end.
func postBacklog(t *testing.T, instance *apptest.Instance, token string, requests, lines int) *sync.WaitGroup {
	t.Helper()
	var wg sync.WaitGroup
	for range requests {
		wg.Go(func() {
			answer, err := instance.Request(t.Context(), http.MethodPost, "/v1/events", token,
				strings.Repeat(smallEvent+"\n", lines), "Content-Type", "application/x-ndjson")
			if err != nil {
				t.Error(err)
			} else if n := strings.Count(string(answer.Body), `"status":201`); n != lines {
				t.Errorf("%d of %d lines were accepted: %s", n, lines, answer.Body)
			}
		})
	}
	return &wg
}

// appendsHeld counts the appends that wait for the append lock.
const appendsHeld = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 1
	AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// However much one tenant has waiting, another's publish is in the next batch.
func TestFairness_ABacklogIsOvertaken(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	instance := apptest.Start(t, dsn, "TAILROOM_PUBLISH_TIMEOUT=1m")
	loud, quiet := apptest.Token(t, access.Service, "loud"), apptest.Token(t, access.Service, "quiet")
	release := holdAppends(t, dsn)
	first := postBeside(t, instance, loud, smallEvent)
	pool := pgtest.Pool(t, dsn)
	apptest.Eventually(t, func() bool { return count(t, pool, appendsHeld) == 1 }, apptest.Patience, time.Millisecond)
	backlog := postBacklog(t, instance, loud, 10, 150)
	awaitMetric(t, instance, "tailroom_append_waiting", 1500) // all but the one that waits for the lock
	answer := postBeside(t, instance, quiet, smallEvent)
	awaitMetric(t, instance, "tailroom_append_waiting", 1501)
	release()

	got := answer()
	require.Equal(t, http.StatusCreated, got.Status, string(got.Body))
	var published struct {
		Events []apptest.Receipt `json:"events"`
	}
	require.NoError(t, json.Unmarshal(got.Body, &published))
	require.LessOrEqual(t, published.Events[0].Position, int64(1+125+1), "it is in the next batch, of which the other has a quarter at most")
	require.Equal(t, http.StatusCreated, first().Status)
	backlog.Wait()
}

// One tenant has thousands of publishes waiting all the time. Another one's take
// about twice what they take alone: they wait for the batch that is under way,
// and not for the backlog. The log is far away, so that its time is what counts
// and not that of the machine; BenchmarkFairness measures the same on a disk.
func TestFairness_LatencyBesideABacklog(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	instance := apptest.Start(t, proxy.DSN(), "TAILROOM_PUBLISH_TIMEOUT=1m")
	quiet := apptest.Token(t, access.Service, "quiet")
	publish := func() time.Duration {
		begin := time.Now()
		instance.Publish(t, quiet, smallEvent)
		return time.Since(begin)
	}
	publish() // the first one prepares the statement
	proxy.Delay(600 * time.Millisecond)
	// Whoever waits for the backlog does so each time; what takes long once is the
	// machine's doing.
	typical := func() time.Duration {
		took := make([]time.Duration, 5)
		for i := range took {
			took[i] = publish()
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	alone := typical()
	stop := startFlood(t, instance.URL, apptest.Token(t, access.Service, "loud"), 15, 10, 0)
	awaitMetric(t, instance, "tailroom_append_waiting", 2500)
	beside := typical()
	require.Greater(t, instance.Metric(t, "tailroom_append_waiting"), 1500.0, "there was a backlog all the time")
	proxy.Delay(0)
	stop()
	require.Less(t, beside, 3*alone, "alone it takes %v", alone)
}
