package session

import (
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

// A token can be revoked between the moment it is verified and the moment its
// session is known here, or between verification and renewal. So whoever has put a
// session under a grant has it rechecked, and whoever has made revocations known
// expels: one of the two finds it.

// clockMargin is by how much the clock that an order's time is from may be behind
// the one that a session's beginning is from.
const clockMargin = 5 * time.Second

// ExpelRevoked ends the sessions whose tokens are revoked by one of the list, which
// is known to Revoked already.
func (r *Registry) ExpelRevoked(list []access.Revocation) {
	for _, revocation := range list {
		r.expel(r.subjects, revocation.Subject, TokenRevoked, r.revoked)
		r.expel(r.tokens, revocation.TokenID, TokenRevoked, r.revoked)
	}
}

// Recheck finds a session by its grant, and ends it if its token is revoked.
func (r *Registry) Recheck(s *Session) {
	r.mu.Lock()
	r.file(s)
	r.mu.Unlock()
	if r.revoked(s) {
		s.Expel(TokenRevoked, r.revoked)
	}
}

// Disconnect ends the sessions that d means: the one that it names, or those of a
// subject that began before a time. Since that is the database's, and sessions begin
// by the clock of the instance, they may also have begun a little after it. As with a
// revocation, a token for all companies is not one company's.
func (r *Registry) Disconnect(d event.Disconnection, before time.Time) {
	meant := func(s *Session) bool {
		grant := s.Grant()
		return (d.Session != "" || s.since.Before(before.Add(clockMargin))) &&
			(d.Tenant == "" || !grant.PlatformWide && grant.Tenant == d.Tenant)
	}
	r.expel(r.subjects, d.Subject, Disconnected, meant)
	r.expel(r.ids, d.Session, Disconnected, meant)
}

// expel ends those that are meant of the sessions that an index has under a name; ""
// is nobody's.
func (r *Registry) expel(x index, name string, reason Reason, meant func(*Session) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range x.of(name) {
		if meant(s) {
			s.Expel(reason, meant)
		}
	}
}

// file sees to it that a session is found by its grant, and not any more when it has
// ended. It is for who holds mu.
func (r *Registry) file(s *Session) {
	var grant access.Grant
	id := ""
	if _, present := r.sessions[s]; present {
		grant, id = s.Grant(), s.ID()
	}
	r.subjects.put(&s.places.subject, s, grant.Subject)
	r.tokens.put(&s.places.token, s, grant.TokenID)
	r.ids.put(&s.places.id, s, id)
}

func (r *Registry) revoked(s *Session) bool { return r.Revoked != nil && r.Revoked(s.Grant()) }
