package session

import (
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// A token can be revoked between the moment it is verified and the moment its
// session is known here, or between verification and renewal. So whoever has put a
// session under a grant has it rechecked, and whoever has made revocations known
// expels: one of the two finds it.

// ExpelRevoked ends the sessions whose tokens are revoked.
func (r *Registry) ExpelRevoked() {
	r.expel(TokenRevoked, func(s *Session, _ time.Time) bool { return r.revoked(s) })
}

// Recheck ends a session if its token is revoked.
func (r *Registry) Recheck(s *Session) {
	if r.revoked(s) {
		s.Expel(TokenRevoked, r.revoked)
	}
}

// Disconnect ends the sessions that d means, of those that began before a time. As
// with a revocation, a token for all companies is not one company's.
func (r *Registry) Disconnect(d event.Disconnection, before time.Time) {
	r.expel(Disconnected, func(s *Session, since time.Time) bool {
		grant := s.Grant()
		return since.Before(before) && (d.Tenant == "" || !grant.PlatformWide && grant.Tenant == d.Tenant) &&
			(s.ID() == d.Session || d.Session == "" && grant.Subject == d.Subject)
	})
}

func (r *Registry) expel(reason Reason, meant func(s *Session, since time.Time) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s, since := range r.sessions {
		if meant(s, since) {
			s.Expel(reason, func(s *Session) bool { return meant(s, since) })
		}
	}
}

func (r *Registry) revoked(s *Session) bool { return r.Revoked != nil && r.Revoked(s.Grant()) }
