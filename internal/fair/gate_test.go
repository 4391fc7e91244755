package fair

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// enter lets a goroutine wait, and says who is let in when.
func enter(t *testing.T, g *Gate, in chan<- string, company string) {
	t.Helper()
	go func() {
		if err := g.Enter(context.Background(), company); err != nil {
			t.Error(err)
		}
		in <- company
	}()
	synctest.Wait()
}

func admitted(in <-chan string) string {
	synctest.Wait()
	select {
	case company := <-in:
		return company
	default:
		return ""
	}
}

// However many of a company wait, another's turn is the next one.
func TestGate_CompaniesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, in := NewGate(2, 2), make(chan string, 100)
		for range 20 {
			enter(t, g, in, "loud")
		}
		require.Equal(t, "loud", admitted(in))
		require.Equal(t, "loud", admitted(in))
		require.Empty(t, admitted(in), "there are two places")
		enter(t, g, in, "quiet")
		enter(t, g, in, "quiet")
		enter(t, g, in, "third")
		var order []string
		inside := "loud"
		for range 21 {
			g.Leave(inside)
			inside = admitted(in)
			require.Empty(t, admitted(in), "a place is for one")
			order = append(order, inside)
		}
		require.Equal(t, []string{"loud", "quiet", "third", "loud", "quiet", "loud"}, order[:6])
		g.Leave(inside)
		g.Leave("loud")
		require.Equal(t, 2, g.free)
		require.Empty(t, g.inside)
		require.Empty(t, g.waiting)
		require.Empty(t, g.turns)
	})
}

// A company never has more than its share, so that there is a place for another.
func TestGate_Share(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, in := NewGate(4, 3), make(chan string, 100)
		for range 5 {
			enter(t, g, in, "loud")
		}
		for range 3 {
			require.Equal(t, "loud", admitted(in))
		}
		require.Empty(t, admitted(in), "the fourth place is not for it")
		enter(t, g, in, "quiet")
		require.Equal(t, "quiet", admitted(in))
		g.Leave("quiet")
		require.Empty(t, admitted(in))
		for range 2 {
			g.Leave("loud")
			require.Equal(t, "loud", admitted(in))
		}
	})
}

// Who has given up when his turn comes does not keep the place.
func TestGate_TurnOfWhoGaveUp(t *testing.T) {
	t.Parallel()
	g := NewGate(1, 1)
	require.NoError(t, g.Enter(t.Context(), "c1"))
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() { gaveUp <- g.Enter(ctx, "c2") }()
	require.Eventually(t, func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return len(g.turns) == 1
	}, 10*time.Second, time.Millisecond)
	g.mu.Lock()
	cancel()
	g.leave("c1")
	require.Equal(t, 1, g.inside["c2"], "its turn has come")
	g.mu.Unlock()
	require.ErrorIs(t, <-gaveUp, context.Canceled)
	require.Equal(t, 1, g.free)
}

// Who gives up is out of the queue.
func TestGate_GivingUp(t *testing.T) {
	t.Parallel()
	const places, share = 3, 2
	g := NewGate(places, share)
	var inside atomic.Int64
	var wg sync.WaitGroup
	for n := range 32 {
		wg.Go(func() {
			company := string(rune('a' + n%3))
			for range 300 {
				ctx, cancel := context.WithCancel(t.Context())
				if rand.N(2) == 0 {
					go cancel()
				}
				if g.Enter(ctx, company) == nil {
					if now := inside.Add(1); now > places {
						t.Errorf("%d are inside", now)
					}
					inside.Add(-1)
					g.Leave(company)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	require.Equal(t, places, g.free)
	require.Empty(t, g.inside)
	require.Empty(t, g.waiting)
	require.Empty(t, g.turns)
}
