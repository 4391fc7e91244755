// Package fair shares what there is little of among companies: a gate that admits
// a few at a time, of which no company is more than its share, and at which
// companies take turns. Who has a thousand waiting is as near to his next turn as
// who has one.
package fair

import (
	"context"
	"slices"
	"sync"
)

// Gate admits some at a time. It is safe for concurrent use.
type Gate struct {
	share int // most of one company

	mu      sync.Mutex
	free    int
	inside  map[string]int
	waiting map[string][]chan struct{} // by company, the oldest first
	turns   []string                   // companies that wait, in the order of their turns
}

// NewGate returns a Gate that admits so many at a time, and share of one company
// at most.
func NewGate(places, share int) *Gate {
	return &Gate{share: share, free: places, inside: map[string]int{}, waiting: map[string][]chan struct{}{}}
}

// Enter waits for a place until ctx ends. Whoever was let in must Leave.
func (g *Gate) Enter(ctx context.Context, company string) error {
	g.mu.Lock()
	// Whoever waits while a place is free has his share.
	if g.free > 0 && g.inside[company] < g.share {
		g.admit(company)
		g.mu.Unlock()
		return nil
	}
	turn := make(chan struct{})
	if len(g.waiting[company]) == 0 {
		g.turns = append(g.turns, company)
	}
	g.waiting[company] = append(g.waiting[company], turn)
	g.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(company, turn)
		return ctx.Err()
	}
}

// Leave gives a place back, to the company whose turn it is.
func (g *Gate) Leave(company string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leave(company)
}

// leave is for who holds mu, as is admit.
func (g *Gate) leave(company string) {
	g.free++
	if g.inside[company]--; g.inside[company] == 0 {
		delete(g.inside, company)
	}
	i := slices.IndexFunc(g.turns, func(company string) bool { return g.inside[company] < g.share })
	if i < 0 {
		return
	}
	next := g.turns[i]
	g.turns = slices.Delete(g.turns, i, i+1)
	close(g.waiting[next][0])
	g.admit(next)
	if g.waiting[next] = g.waiting[next][1:]; len(g.waiting[next]) > 0 {
		g.turns = append(g.turns, next)
	} else {
		delete(g.waiting, next)
	}
}

func (g *Gate) admit(company string) {
	g.free--
	g.inside[company]++
}

// giveUp ends a wait. If its turn has come meanwhile, the next one's comes.
func (g *Gate) giveUp(company string, turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting[company], turn)
	if i < 0 {
		g.leave(company)
		return
	}
	g.waiting[company] = slices.Delete(g.waiting[company], i, i+1)
	if len(g.waiting[company]) == 0 {
		delete(g.waiting, company)
		g.turns = slices.DeleteFunc(g.turns, func(c string) bool { return c == company })
	}
}
