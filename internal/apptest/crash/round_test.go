package crash_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
)

var (
	rounds = flag.Int("rounds", 0, "play so many rounds drawn at random, instead of the fixed ones")
	seed   = flag.Uint64("seed", 0, "the seed of the first of them; 0 is any")
)

// drawnSteps is how many steps a drawn round has.
const drawnSteps = 5

func TestMain(m *testing.M) { apptest.Main(m) }

// Whatever happens, in the end everybody has got what is in the log, and in the
// log is what was promised.
func TestCrash(t *testing.T) {
	t.Parallel()
	program := load.Build(t, "-race")
	if *rounds > 0 {
		first := *seed
		if first == 0 {
			first = rand.Uint64N(1 << 32)
		}
		for n := range uint64(*rounds) {
			s := drawn(first+n, drawnSteps, allFaults)
			t.Run(fmt.Sprintf("seed %d", s.seed), func(t *testing.T) {
				t.Parallel()
				play(t, program, s, fmt.Sprintf("make crash ROUNDS=1 SEED=%d", s.seed))
			})
		}
		return
	}
	for name, s := range map[string]*script{
		"instances":    inOrder(1, instanceFaults...),
		"postgres":     inOrder(2, postgresFaults...),
		"append links": inOrder(3, appendFaults...),
		"listen links": inOrder(4, listenFaults...),
		"machine":      inOrder(5, machineFaults()...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, program, s, fmt.Sprintf(`go test -race -count=1 -run '^TestCrash$/^%s$' ./internal/apptest/crash`, strings.ReplaceAll(name, " ", "_")))
		})
	}
}

// play plays a round, which must end well. If it does not, it tells all there is.
func play(t *testing.T, program string, s *script, again string) { //nolint:thelper // it is the test
	t.Logf("%s\nPlay it again with: %s", s, again)
	r := newRound(t, program, s)
	defer func() {
		if t.Failed() {
			r.tell()
		}
	}()
	require.NoError(t, r.play())
	require.NoError(t, r.cluster.verify(t.Context()))
	for _, i := range r.cluster.instances {
		require.NoError(t, i.leave(t.Context()))
		require.Empty(t, i.said.unheard())
	}
}

// round is a cluster with its traffic, and what is to happen to it.
type round struct {
	t       *testing.T
	script  *script
	cluster *cluster
	traffic *traffic
	ctx     context.Context //nolint:containedctx // of the traffic: it ends when somebody is told what must not be
}

// newRound begins when all is well. It is over when the test is.
func newRound(t *testing.T, program string, s *script) *round {
	t.Helper()
	ctx, fail := context.WithCancelCause(t.Context())
	r := &round{t: t, script: s, ctx: ctx, cluster: newCluster(t, program, s), traffic: new(traffic)}
	if err := r.cluster.awaitWell(ctx); err != nil {
		r.tell()
		require.NoError(t, err)
	}
	r.traffic = newTraffic(ctx, t, r.cluster, s, fail)
	t.Cleanup(func() {
		fail(context.Canceled)
		_, _ = r.traffic.writing.Wait(), r.traffic.reading.Wait()
	})
	return r
}

// play plays the script, and compares after each step, and in the end.
func (r *round) play() error {
	began := time.Now()
	if err := r.traffic.goesOn(r.ctx); err != nil {
		return err
	}
	for n, step := range r.script.steps {
		if err := r.step(n+1, step); err != nil {
			return fmt.Errorf("step %d, %s: %w", n+1, step, err)
		}
	}
	if err := r.traffic.finish(r.ctx); err != nil {
		return err
	}
	_, err := r.traffic.compare(r.ctx, true)
	r.t.Logf("%s: %s", ms(time.Since(began)), r.traffic)
	return err
}

func (r *round) step(number int, step []*strike) error {
	began := time.Now()
	var striking errgroup.Group
	for _, s := range step {
		striking.Go(func() error {
			wait(r.ctx, s.after)
			return s.strike(r.ctx, r, s)
		})
	}
	if err := striking.Wait(); err != nil {
		return err
	}
	struck := time.Now()
	if err := r.cluster.awaitWell(r.ctx); err != nil {
		return err
	}
	well := time.Now()
	if err := r.traffic.goesOn(r.ctx); err != nil {
		return err
	}
	on := time.Now()
	events, err := r.traffic.compare(r.ctx, false)
	r.t.Logf("step %d took %s, then %s until all was well, %s until everybody had got on, and %s to compare %d events. %s",
		number, ms(struck.Sub(began)), ms(well.Sub(struck)), ms(on.Sub(well)), ms(time.Since(on)), events, step)
	return err
}

func ms(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

// tell says what helps to understand a failure.
func (r *round) tell() {
	for _, f := range r.traffic.followers {
		r.t.Logf("%s", f)
	}
	for _, i := range r.cluster.instances {
		r.t.Logf("%s said in the end:\n%s", i.url, i.said)
	}
	r.t.Logf("PostgreSQL said in the end:\n%s", r.cluster.log())
}
