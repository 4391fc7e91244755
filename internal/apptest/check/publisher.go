package check

import (
	"fmt"
	"time"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
)

// Index is a log by its events' ids.
type Index map[string]*event.Entry

// NewIndex returns the index of a log in which no id is twice, and every version
// is one more than the one before.
func NewIndex(log []*event.Entry) (Index, error) {
	type stream struct{ tenant, namespace, name string }
	found, versions := Index{}, map[stream]int64{}
	for _, e := range log {
		id := e.ID.String()
		if found[id] != nil {
			return nil, fmt.Errorf("%s is in the log at %d and at %d", id, found[id].Cursor.Position, e.Cursor.Position)
		}
		found[id] = e
		if e.Stream == "" {
			continue
		}
		s := stream{e.Tenant, e.Namespace, e.Stream}
		if versions[s]++; versions[s] != e.Version {
			return nil, fmt.Errorf("%v has version %d at %d, after %d", s, e.Version, e.Cursor.Position, versions[s]-1)
		}
	}
	return found, nil
}

// Accepted holds publishers' receipts, by id, against the log: what was
// acknowledged is there, where every answer said.
func (x Index) Accepted(receipts map[string][]apptest.Receipt) error {
	for id, list := range receipts {
		e := x[id]
		if e == nil {
			return fmt.Errorf("%s was acknowledged at %d, and is not in the log", id, list[0].Position)
		}
		for _, r := range list {
			if r.Position != e.Cursor.Position || r.Version != nil && *r.Version != e.Version {
				return fmt.Errorf("%s was acknowledged at %d, and is at %d", id, r.Position, e.Cursor.Position)
			}
		}
	}
	return nil
}

// Absent holds that none of these is in the log.
func (x Index) Absent(ids []string, because string) error {
	for _, id := range ids {
		if e := x[id]; e != nil {
			return fmt.Errorf("%s was %s, and is in the log at %d", id, because, e.Cursor.Position)
		}
	}
	return nil
}

// Unsettled are groups that may or may not be in the log: their publishers got no
// answer, or one that says so, and never came again. What is not in the log when
// it is first looked at must not be there later. The zero value is empty.
type Unsettled struct {
	groups []*unsettled
	looked int // the first so many were looked at
}

type unsettled struct {
	ids   []string
	began time.Time
	place int64 // of the first of ids when it was first looked at; 0 is not in the log
}

// Add adds a group whose publisher has left it at one try. Groups are added in the
// order in which that began.
func (u *Unsettled) Add(ids []string, began time.Time) {
	u.groups = append(u.groups, &unsettled{ids: ids, began: began})
}

// Look looks for the groups, and compares with what it has seen before. Those
// that began only after a time are left for the next look.
func (u *Unsettled) Look(x Index, until time.Time) error {
	for n, g := range u.groups {
		place := int64(0)
		for i, id := range g.ids {
			switch e := x[id]; {
			case i == 0 && e != nil:
				place = e.Cursor.Position
			case i > 0 && (e != nil) != (place != 0):
				return fmt.Errorf("of one group, %s and %s are not both in the log or both not", g.ids[0], id)
			}
		}
		switch {
		case n >= u.looked && g.began.After(until):
			return nil // as are all that follow
		case n >= u.looked:
			g.place = place
			u.looked++
		case g.place == 0 && place != 0:
			return fmt.Errorf("%s was not in the log when it was looked for, and is at %d now: it came late", g.ids[0], place)
		case g.place != place:
			return fmt.Errorf("%s was at %d, and is at %d", g.ids[0], g.place, place)
		}
	}
	return nil
}

// Missing are the groups that were looked for and not found, by their first ids:
// those that could come late.
func (u *Unsettled) Missing() (first []string) {
	for _, g := range u.groups[:u.looked] {
		if g.place == 0 {
			first = append(first, g.ids[0])
		}
	}
	return first
}
