package simulation

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// Config says how large a Service is.
type Config struct {
	Seed      uint64
	Companies int // c1, c2, …
	Branches  int // of each company: b7, b8, …
}

// Event is an event as a service publishes it: its JSON is the body of a POST
// to /v1/events.
type Event struct {
	CompanyID     string         `json:"companyId"`
	Namespace     string         `json:"namespace"`
	Type          string         `json:"type"`
	Rooms         []string       `json:"rooms,omitempty"`
	ID            uuid.UUID      `json:"id"`
	CorrelationID string         `json:"correlationId,omitempty"`
	CausationID   *uuid.UUID     `json:"causationId,omitempty"`
	Data          map[string]any `json:"data"`
}

// Service is a dinner service under way. It is for one goroutine.
type Service struct {
	rng       *rand.Rand
	companies []*company
	branches  []*branch
	agenda    []entry // what is under way, by when it is due
	told      int     // events so far
	numbered  int     // ids so far
	run       string  // begins the ids of what belongs to this run
}

// step tells one event and puts what follows from it on the agenda.
type step func(now time.Time) Event

type entry struct {
	due  int // in events told
	step step
}

// New opens the branches: that is what the first events tell of.
func New(c Config) *Service {
	s := &Service{rng: rand.New(rand.NewPCG(c.Seed, 0))}
	for i := range c.Companies {
		s.open(i, c.Branches)
	}
	return s
}

// Next returns the next event. Now should not run backwards.
func (s *Service) Next(now time.Time) Event {
	if s.told == 0 {
		const fiveDigits = 36 * 36 * 36 * 36 * 36 // of milliseconds: 17 hours
		s.run = strconv.FormatInt(now.UnixMilli()%fiveDigits, 36)
	}
	s.told++
	if len(s.agenda) == 0 || s.agenda[0].due > s.told {
		return s.begin(now)
	}
	next := s.agenda[0]
	s.agenda = slices.Delete(s.agenda, 0, 1)
	return next.step(now)
}

// begin starts something new somewhere; most of it is orders.
func (s *Service) begin(now time.Time) Event {
	b := pick(s, s.branches)
	switch n := s.rng.IntN(100); {
	case n < 6:
		return b.testPrinter(now)
	case n < 12:
		return b.breakPrinter(now)
	case n < 16:
		return b.listProducts(now)
	case n < 20:
		return pick(s, s.companies).alert(now)
	default:
		return b.placeOrder(now)
	}
}

// later puts a step on the agenda, some time from now, behind what is due then
// already. A unit is one event of each branch.
func (s *Service) later(from, to int, do step) {
	units := from + s.rng.IntN(to-from+1)
	due := s.told + 1 + units*len(s.branches)
	i := sort.Search(len(s.agenda), func(i int) bool { return s.agenda[i].due > due })
	s.agenda = slices.Insert(s.agenda, i, entry{due, do})
}

// chance is true in so many of a hundred cases.
func (s *Service) chance(percent int) bool { return s.rng.IntN(100) < percent }

// number returns a new id with this prefix.
func (s *Service) number(prefix string) string {
	s.numbered++
	return prefix + s.run + "-" + strconv.Itoa(s.numbered)
}

// newID returns a UUID of version 7, random by the seed.
func (s *Service) newID(now time.Time) (id uuid.UUID) {
	const version, variant = 7 << 12, 1 << 63
	binary.BigEndian.PutUint64(id[:8], uint64(now.UnixMilli())<<16|version|uint64(s.rng.Uint32N(1<<12)))
	binary.BigEndian.PutUint64(id[8:], variant|s.rng.Uint64()>>2)
	return id
}

func pick[T any](s *Service, list []T) T { return list[s.rng.IntN(len(list))] }
