package limit

import "sync"

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
