package crash_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/problem"
)

// tryTimeout is how long a publisher waits for an answer before he tries again,
// and onlyTryTimeout how long he does who tries once: the last answer that there
// can be comes when an append is given up, after five seconds.
const tryTimeout, onlyTryTimeout = 2500 * time.Millisecond, 8 * time.Second

// publisher publishes and remembers what he was promised.
type publisher struct {
	writer

	name    string
	door    door
	givesUp bool // he leaves it at one try
	steps   atomic.Int64

	mu          sync.Mutex
	accepted    map[string][]apptest.Receipt // by id: each answer that took the event
	refused     []string                     // ids of events that were not taken
	unavailable check.Unsettled              // what was answered so, and left at that
	unanswered  check.Unsettled              // what was not answered at all
}

// run publishes until it is told to stop, and knows then what became of all of it.
func (p *publisher) run(ctx context.Context, instances []*instance, stopped *atomic.Bool) error {
	if s, ok := p.door.(*socket); ok {
		defer s.hangUp()
	}
	for ctx.Err() == nil && !stopped.Load() {
		var groups []*group
		for range 1 + p.random.IntN(3) {
			groups = append(groups, p.group())
		}
		if !p.givesUp && p.random.IntN(3) == 0 {
			groups = append(groups, p.next())
		}
		if err := p.publish(ctx, instances, groups); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		wait(ctx, between(p.random, 50*time.Millisecond, 400*time.Millisecond))
	}
	return nil
}

// publish publishes groups with one instance or the other, until it is known what
// became of each; unless he gives up.
func (p *publisher) publish(ctx context.Context, instances []*instance, groups []*group) error {
	for len(groups) > 0 {
		timeout := tryTimeout
		if p.givesUp {
			timeout = onlyTryTimeout
		}
		began := time.Now()
		trying, cancel := context.WithTimeout(ctx, timeout)
		answers := p.door.try(trying, pick(p.random, instances), groups)
		cancel()
		var again []*group
		for n, g := range groups {
			settled, err := p.settle(g, &answers[n], began)
			if err != nil {
				return err
			}
			if !settled {
				again = append(again, g)
			}
			g.tried = true
		}
		if groups = again; len(groups) > 0 {
			if ctx.Err() != nil {
				return fmt.Errorf("%d groups were not answered in the end, the first: %w", len(groups), answers[0].err)
			}
			wait(ctx, between(p.random, 20*time.Millisecond, 100*time.Millisecond))
		}
	}
	return nil
}

// settle remembers the answer to a try, and reports whether there is no more to do
// about the group.
func (p *publisher) settle(g *group, a *answer, began time.Time) (settled bool, err error) {
	if errors.Is(a.err, errWrong) {
		return false, a.err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case a.definite():
		if err := a.judge(g); err != nil {
			return false, err
		}
		p.steps.Add(1)
		if a.code != "" {
			p.refused = append(p.refused, g.fresh...)
			return true, nil
		}
		p.taken(g)
		for _, r := range a.receipts {
			p.accepted[r.ID] = append(p.accepted[r.ID], r)
		}
		return true, nil
	case !p.givesUp:
		return false, nil
	case g.refusal != "", a.err == nil && a.code == problem.Overloaded && !g.tried:
		p.refused = append(p.refused, g.fresh...)
	case a.err == nil:
		p.unavailable.Add(g.fresh, began)
	default:
		p.unanswered.Add(g.fresh, began)
	}
	return true, nil
}

// look looks for what he left at one try that began before a time. While something
// is broken, what was not answered may still be on its way; what was answered is not.
func (p *publisher) look(index check.Index, until time.Time, broken bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.unavailable.Look(index, until); err != nil || broken {
		return err
	}
	return p.unanswered.Look(index, until)
}

// missing are the groups that he left so, and that were not found, by their first ids.
func (p *publisher) missing() (unavailable, unanswered []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.unavailable.Missing(), p.unanswered.Missing()
}
