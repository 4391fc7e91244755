package apptest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/state"
)

// statesOf is GET /v1/state as stream → version.
func statesOf(t testing.TB, i *apptest.Instance, token, query string) map[string]int64 {
	t.Helper()
	list := map[string]int64{}
	for after := ""; ; {
		answer := i.Get(t, "/v1/state?limit=500&"+query+after, token)
		require.Equal(t, 200, answer.Status, string(answer.Body))
		var page struct {
			States []struct {
				Stream  string
				Version int64
			}
			Next string
			More bool
		}
		require.NoError(t, json.Unmarshal(answer.Body, &page))
		for _, s := range page.States {
			list[s.Stream] = s.Version
		}
		if !page.More {
			return list
		}
		after = "&after=" + page.Next
	}
}

// While two instances are written to, the states are rebuilt again and again, and
// the one that folds them is stopped: every answer is true, and so is the end.
func TestState_RebuildWhileItIsInUse(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	first := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	apptest.Eventually(t, func() bool { return first.Metric(t, "tailroom_state_leader") == 1 }, apptest.Patience, 10*time.Millisecond)
	second := apptest.Start(t, dsn)
	var published atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			body := fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1","n":%d}}`, n%40, n)
			answer, err := second.Request(t.Context(), "POST", "/v1/events", service, body, "Content-Type", "application/json")
			if err != nil || answer.Status != 201 {
				t.Errorf("a publish failed: %v %s", err, answer.Body)
			}
			published.Add(1)
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	for range 3 {
		_, err := state.Rebuild(t.Context(), pgtest.Writer(dsn), catalog.Default().Closes, func(state.Progress) {
			sum := int64(0)
			before := published.Load()
			answer := second.Get(t, "/v1/state?limit=1000&asOf=now", service)
			require.Equal(t, 200, answer.Status, string(answer.Body))
			var page struct{ States []struct{ Version int64 } }
			require.NoError(t, json.Unmarshal(answer.Body, &page))
			for _, s := range page.States {
				sum += s.Version
			}
			require.GreaterOrEqual(t, sum, before)
			require.LessOrEqual(t, sum, published.Load()+1)
		})
		require.NoError(t, err)
	}
	first.Stop()
	apptest.Eventually(t, func() bool { return second.Metric(t, "tailroom_state_leader") == 1 }, apptest.Patience, 10*time.Millisecond)
	close(stop)
	<-done
	sum := int64(0)
	for _, version := range statesOf(t, second, service, "asOf=now") {
		sum += version
	}
	require.Equal(t, published.Load(), sum)
	require.Zero(t, second.Metric(t, "tailroom_state_restarts_total"))
}

// Two instances as processes; whichever folds the states is killed in the middle of
// it, three times. The other one takes over within seconds, and the states are those
// of the log.
func TestState_LeaderIsKilled(t *testing.T) {
	t.Parallel()
	dsn, program := pgtest.Database(t), load.Build(t)
	start := func() *load.Process {
		p, err := load.Start(t.Context(), program, apptest.Log, "DATABASE_URL="+pgtest.Writer(dsn), "JWT_SECRET="+apptest.Secret, "PORT=0")
		require.NoError(t, err)
		t.Cleanup(func() { p.Signal(syscall.SIGKILL); <-p.Done() })
		return p
	}
	nodes := []*load.Process{start(), start()}
	pool := pgtest.Pool(t, dsn)
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		for n := 0; ; n++ {
			_, err := pool.Exec(t.Context(), `SELECT tailroom.append('c1', '/orders', 'newOrder',
				jsonb_build_object('orderId', ($1::integer % 30)::text, 'branchId', 'b1', 'n', $1, 'of' || $1 % 5, $1))`, n)
			if err != nil {
				t.Errorf("an append failed: %v", err)
			}
			select {
			case <-stop:
				done <- n + 1
				return
			default:
			}
		}
	}()
	leads := func(p *load.Process) bool {
		i := apptest.Instance{URL: p.URL}
		return i.Metric(t, "tailroom_state_leader") == 1 && i.Metric(t, "tailroom_state_folded_total") > 20
	}
	for range 3 {
		leader := -1
		require.Eventually(t, func() bool {
			leader = slices.IndexFunc(nodes, leads)
			return leader >= 0
		}, apptest.Patience, 10*time.Millisecond)
		nodes[leader].Signal(syscall.SIGKILL)
		<-nodes[leader].Done()
		other := nodes[1-leader]
		require.Eventually(t, func() bool { return leads(other) }, 15*time.Second, 10*time.Millisecond, "nobody takes over")
		nodes[leader] = start()
	}
	close(stop)
	n := <-done

	answer := (&apptest.Instance{URL: nodes[0].URL}).Get(t, "/v1/state?limit=1000&asOf=now", apptest.Token(t, access.Service, "c1"))
	require.Equal(t, 200, answer.Status, string(answer.Body))
	var page struct {
		States []struct {
			Stream  string
			Version int
			State   map[string]any
		}
	}
	require.NoError(t, json.Unmarshal(answer.Body, &page))
	require.Len(t, page.States, min(n, 30))
	for _, s := range page.States {
		id, err := strconv.Atoi(strings.TrimPrefix(s.Stream, "order:"))
		require.NoError(t, err)
		want := map[string]any{"orderId": strconv.Itoa(id), "branchId": "b1"}
		version := 0
		for i := id; i < n; i += 30 {
			version++
			want["n"], want[fmt.Sprint("of", i%5)] = float64(i), float64(i)
		}
		require.Equal(t, version, s.Version, s.Stream)
		require.Equal(t, want, s.State, s.Stream)
	}
}
