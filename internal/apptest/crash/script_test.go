package crash_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// place is what a fault befalls. Two at once befall different places: what would
// mend the one might not get there because of the other.
type place int

const (
	instances place = iota
	postgres
	appendLinks
	listenLinks
)

// fault is something that can happen.
type fault struct {
	name     string
	on       place
	alone    bool          // never with another
	clock    bool          // it sets the database's clock
	from, to time.Duration // how long it lasts
	// strike makes it happen, lets it last, and mends it. What comes back by
	// itself is not waited for.
	strike func(ctx context.Context, r *round, s *strike) error
}

// strike is a fault at a place and a time.
type strike struct {
	*fault

	instance int           // which one, if it befalls one
	after    time.Duration // since the step began
	hold     time.Duration
	random   *rand.Rand // for all else
	only     bool       // there is no other in its step
}

func (s *strike) String() string {
	return fmt.Sprintf("after %s %s (instance %d, for %s)", s.after, s.name, s.instance, s.hold)
}

// last lets the fault last.
func (s *strike) last(ctx context.Context) { wait(ctx, s.hold) }

// script is what happens in a round. Everything is mended between two steps.
type script struct {
	seed      uint64
	instances int
	steps     [][]*strike
	actors    uint64 // so far
}

func newScript(seed uint64) *script {
	s := &script{seed: seed}
	s.instances = 2 + s.random().IntN(2)
	return s
}

// random is the seed's next source of random numbers.
func (s *script) random() *rand.Rand {
	s.actors++
	return rand.New(rand.NewPCG(s.seed, s.actors))
}

// add adds a step of some faults.
func (s *script) add(faults ...*fault) {
	var step []*strike
	for _, f := range faults {
		random := s.random()
		step = append(step, &strike{
			fault: f, random: random, instance: random.IntN(s.instances),
			after: between(random, 0, 500*time.Millisecond), hold: between(random, f.from, f.to), only: len(faults) == 1,
		})
	}
	s.steps = append(s.steps, step)
}

// drawn is a script of some faults, drawn from a seed; of each three steps, one
// has two at once.
func drawn(seed uint64, steps int, faults []*fault) *script {
	s := newScript(seed)
	random := s.random()
	for range steps {
		step := []*fault{pick(random, faults)}
		if other := pick(random, faults); other.on != step[0].on && !other.alone && !step[0].alone && random.IntN(3) == 0 {
			step = append(step, other)
		}
		s.add(step...)
	}
	return s
}

// inOrder is a script of these faults, one after the other.
func inOrder(seed uint64, faults ...*fault) *script {
	s := newScript(seed)
	for _, f := range faults {
		s.add(f)
	}
	return s
}

// idWindow is TAILROOM_ID_WINDOW: as short as can be, so that ids rotate within a
// round. A clock that is set forward makes them rotate before their time, so that
// a short window would not hold for those who try again.
func (s *script) idWindow() time.Duration {
	for _, step := range s.steps {
		if slices.ContainsFunc(step, func(s *strike) bool { return s.clock }) {
			return 24 * time.Hour
		}
	}
	return time.Minute
}

func (s *script) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d, %d instances", s.seed, s.instances)
	for n, step := range s.steps {
		fmt.Fprintf(&b, "\n%3d. ", n+1)
		for i, strike := range step {
			if i > 0 {
				b.WriteString("\n     ")
			}
			b.WriteString(strike.String())
		}
	}
	return b.String()
}

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// between draws a time, to the millisecond.
func between(random *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(random.Int64N(int64(max(to-from, time.Millisecond)))).Truncate(time.Millisecond)
}
