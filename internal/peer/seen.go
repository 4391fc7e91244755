package peer

import (
	"sync"
	"time"
)

// memory is how long a voucher is remembered: from its being early by the leeway to its
// being late by it.
const memory = 2 * leeway

// seen remembers vouchers that were believed, each for one to two memories.
type seen struct {
	mu          sync.Mutex
	now, before map[[16]byte]struct{}
	since       time.Time // when now began
}

// first reports whether a voucher is seen for the first time.
func (s *seen) first(once [16]byte, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at.Sub(s.since) >= memory {
		s.before = s.now
		if at.Sub(s.since) >= 2*memory {
			s.before = nil
		}
		s.now, s.since = map[[16]byte]struct{}{}, at
	}
	_, there := s.now[once]
	_, earlier := s.before[once]
	s.now[once] = struct{}{}
	return !there && !earlier
}
