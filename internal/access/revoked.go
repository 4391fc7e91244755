package access

import (
	"sync"
	"time"
)

// Revocation says which tokens are dead: all of a Subject, or the one with a
// TokenID; exactly one of them is given.
type Revocation struct {
	Tenant  string // whose tokens; "" is every company's, and those for all companies
	Subject string
	TokenID string
	// Before is when the first token was issued that is not meant. Zero means
	// every token.
	Before time.Time
}

// Covers reports whether the revocation means the token of a grant. Its company
// is the token's own, also after the client has named one. A token that does not
// say when it was issued counts as older than any time.
func (r Revocation) Covers(g Grant) bool {
	switch {
	case r.Tenant != "" && (g.PlatformWide || r.Tenant != g.Tenant),
		r.Subject != "" && r.Subject != g.Subject,
		r.TokenID != "" && r.TokenID != g.TokenID:
		return false
	}
	return r.Before.IsZero() || g.IssuedAt.Before(r.Before)
}

// key is what a revocation is found by: itself without the time.
func (r Revocation) key() Revocation {
	r.Before = time.Time{}
	return r
}

// Revocations is the set of those that an instance knows. Its zero value is empty.
// It is safe for concurrent use.
type Revocations struct {
	mu   sync.RWMutex
	held map[Revocation]Revocation // by key
}

// Add adds to the set. Of several for the same tokens, the one that includes the
// others counts.
func (s *Revocations) Add(list ...Revocation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = joined(s.held, list)
}

// Replace makes the set consist of these alone.
func (s *Revocations) Replace(list []Revocation) {
	held := joined(nil, list)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
}

func joined(held map[Revocation]Revocation, list []Revocation) map[Revocation]Revocation {
	if held == nil {
		held = make(map[Revocation]Revocation, len(list))
	}
	for _, r := range list {
		old, ok := held[r.key()]
		if !ok || r.Before.IsZero() || !old.Before.IsZero() && r.Before.After(old.Before) {
			held[r.key()] = r
		}
	}
	return held
}

// Cover reports whether the token of a grant is revoked.
func (s *Revocations) Cover(g Grant) bool {
	tenants := []string{"", g.Tenant}
	if g.PlatformWide || g.Tenant == "" {
		tenants = tenants[:1]
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, tenant := range tenants {
		if r, ok := s.held[Revocation{Tenant: tenant, Subject: g.Subject}]; ok && r.Covers(g) {
			return true
		}
		if g.TokenID == "" {
			continue
		}
		if r, ok := s.held[Revocation{Tenant: tenant, TokenID: g.TokenID}]; ok && r.Covers(g) {
			return true
		}
	}
	return false
}

// Len is how many there are.
func (s *Revocations) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.held)
}
