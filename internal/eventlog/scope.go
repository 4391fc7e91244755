package eventlog

import (
	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/event"
)

// scope is what a batch that is being formed touches already.
type scope struct {
	ids     map[idKey]struct{}
	talks   map[talkKey]struct{} // of requests, and of what may answer them
	streams map[streamKey]bool   // true: with an expected version
	parts   map[*lane]int        // the cost of what each tenant has given
}

// talkKey is what a request and its answer have in common.
type talkKey struct{ tenant, namespace, correlationID string }

// talkOf returns the talk that d has a part in as a request or an answer.
func talkOf(d *event.Draft) (talkKey, bool) {
	return talkKey{d.Tenant, d.Namespace, d.CorrelationID}, d.MayAnswer || d.Asks()
}

type idKey struct {
	tenant string
	id     uuid.UUID
}

func newScope() *scope {
	return &scope{ids: map[idKey]struct{}{}, talks: map[talkKey]struct{}{}, streams: map[streamKey]bool{}, parts: map[*lane]int{}}
}

// fits reports whether the tenant of g may give it as well.
func (s *scope) fits(g *pending) bool { return !overfull(s.parts[g.lane], g.cost(), maxTenantPart) }

// conflict returns the key, an id, a talk or a stream, because of which g cannot be
// judged beside the groups added so far; nil when it can.
func (s *scope) conflict(g *pending) any {
	for i := range g.drafts {
		d := &g.drafts[i]
		id := idKey{d.Tenant, d.ID}
		if _, taken := s.ids[id]; taken {
			return id
		}
		if talk, part := talkOf(d); part {
			if _, taken := s.talks[talk]; taken {
				return talk
			}
		}
		if d.Stream == "" {
			continue
		}
		key := keyOf(d)
		if conditional, touched := s.streams[key]; touched && (conditional || d.ExpectedVersion.Set) {
			return key
		}
	}
	return nil
}

func (s *scope) add(g *pending) {
	s.parts[g.lane] += g.cost()
	for i := range g.drafts {
		d := &g.drafts[i]
		s.ids[idKey{d.Tenant, d.ID}] = struct{}{}
		if talk, part := talkOf(d); part {
			s.talks[talk] = struct{}{}
		}
		if d.Stream != "" {
			key := keyOf(d)
			s.streams[key] = s.streams[key] || d.ExpectedVersion.Set
		}
	}
}
