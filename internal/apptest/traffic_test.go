package apptest_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// traffic is publishers and followers at work while a test makes trouble. The
// followers are sockets that are to stay up through all of it.
type traffic struct {
	dsn        string // of the log itself, past any proxy
	instances  []*apptest.Instance
	followers  []*follower
	publishers []*publisher

	accepted atomic.Int64 // publishes
	stopped  atomic.Bool
	reading  *errgroup.Group
	writing  *errgroup.Group
	cancel   context.CancelFunc
}

// newTraffic begins when every follower is live.
func newTraffic(t *testing.T, dsn string, instances []*apptest.Instance) *traffic {
	t.Helper()
	tr := &traffic{dsn: dsn, instances: instances}
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	tr.cancel = cancel
	tr.reading, tr.writing = new(errgroup.Group), new(errgroup.Group)
	for _, i := range instances {
		for n, f := range audience(t) {
			f.heard = make(chan struct{}, 1)
			tr.followers = append(tr.followers, f)
			tr.reading.Go(func() error {
				if err := f.socket(ctx, i, func() bool { return f.ends > 0 }); err != nil {
					return fmt.Errorf("follower %d of %s, told %v: %w", n, i.URL, f.says(), err)
				}
				return nil
			})
		}
	}
	tr.awaitSaid(t, "live")
	randoms := newRandom(t)
	for n := range 4 {
		random, company := randoms(), []string{"c1", "c1", "c1", "c2"}[n]
		p := &publisher{token: apptest.Token(t, access.Service, company)}
		tr.publishers = append(tr.publishers, p)
		tr.writing.Go(func() error {
			for !tr.stopped.Load() {
				body, ids := randomGroup(random, company, 3)
				if _, err := p.publish(ctx, shuffled(random, instances), body, ids); err != nil {
					return err
				}
				tr.accepted.Add(1)
				wait(ctx, time.Duration(random.IntN(8))*time.Millisecond)
			}
			return nil
		})
	}
	tr.goesOn(t)
	return tr
}

// awaitSaid waits until every follower has been told this, and nothing since.
func (tr *traffic) awaitSaid(t *testing.T, kind string) {
	t.Helper()
	timeout := time.After(apptest.Patience)
	for n, f := range tr.followers {
		for says := f.says(); len(says) == 0 || says[len(says)-1] != kind; says = f.says() {
			select {
			case <-f.heard:
			case <-timeout:
				require.FailNow(t, "a follower was not told "+kind, "%d: %v", n, says)
			}
		}
	}
}

// goesOn waits until some more publishes have been accepted.
func (tr *traffic) goesOn(t *testing.T) {
	t.Helper()
	want := tr.accepted.Load() + 25
	require.Eventually(t, func() bool { return tr.accepted.Load() >= want }, apptest.Patience, 5*time.Millisecond,
		"publishes are accepted again")
}

// finish ends the traffic and checks that everything was as promised: nothing
// lost, nothing twice, in order, and no socket was closed. It returns how often
// a publisher had to come again.
func (tr *traffic) finish(t *testing.T) (retried int) {
	t.Helper()
	defer time.AfterFunc(2*apptest.Patience, tr.cancel).Stop()
	tr.stopped.Store(true)
	require.NoError(t, tr.writing.Wait())
	end(t, tr.instances[0], "c1")
	end(t, tr.instances[len(tr.instances)-1], "c2")
	require.NoError(t, tr.reading.Wait())
	tr.cancel()
	log := readLog(t, tr.dsn)
	for _, p := range tr.publishers {
		require.NoError(t, p.check(log))
		retried += p.retried
	}
	for n, f := range tr.followers {
		require.NoError(t, f.check(log, f.matches), "follower %d", n)
		require.Equal(t, 1, f.ends)
		require.NotContains(t, f.says(), "closed")
	}
	return retried
}

// requireSaid requires what each follower was told: that it was welcomed once
// and live, and then these in turn, once or more often.
func (tr *traffic) requireSaid(t *testing.T, cycle ...string) {
	t.Helper()
	for _, f := range tr.followers {
		said := f.says()
		require.Equal(t, []string{"welcome", "live"}, said[:2])
		said = said[2:]
		if len(cycle) == 0 {
			require.Empty(t, said)
			continue
		}
		require.GreaterOrEqual(t, len(said), len(cycle))
		for n, kind := range said {
			require.Equal(t, cycle[n%len(cycle)], kind, said)
		}
	}
}
