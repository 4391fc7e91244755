package limit

import (
	"net/netip"
	"sync"
)

// Seat is a session's place among those of its company or address; nil is one
// that nobody counts.
type Seat func()

// Leave gives the seat back. It is called once.
func (s Seat) Leave() {
	if s != nil {
		s()
	}
}

// seats counts who is there, by key. Nobody who is not there takes any memory.
type seats[K comparable] struct {
	most int

	mu    sync.Mutex
	taken map[K]int
}

func newSeats[K comparable](most int) *seats[K] {
	if most == 0 {
		return nil
	}
	return &seats[K]{most: most, taken: map[K]int{}}
}

func (s *seats[K]) take(key K) (_ Seat, ok bool) {
	if s == nil {
		return nil, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[key] >= s.most {
		return nil, false
	}
	s.taken[key]++
	return func() { s.leave(key) }, true
}

func (s *seats[K]) leave(key K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[key]--; s.taken[key] == 0 {
		delete(s.taken, key)
	}
}

// Shares are places that addresses share as they do the open connections: when more than
// three quarters are taken, none gets more than it leaves to all others. They are for
// what takes a place and no connection.
type Shares struct {
	most int

	mu    sync.Mutex
	taken int
	by    map[netip.Addr]int
}

// NewShares are so many places.
func NewShares(most int) *Shares { return &Shares{most: most, by: map[netip.Addr]int{}} }

// Take takes a place for an address, of IPv6 for its /64. It reports false if there is none.
func (s *Shares) Take(client netip.Addr) (_ Seat, ok bool) {
	client = network(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	taken, own := s.taken+1, s.by[client]+1
	if taken > s.most || 4*taken > 3*s.most && own > max(s.most-taken, 1) {
		return nil, false
	}
	s.taken, s.by[client] = taken, own
	return func() { s.leave(client) }, true
}

func (s *Shares) leave(client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.by[client]--; s.by[client] == 0 {
		delete(s.by, client)
	}
}
