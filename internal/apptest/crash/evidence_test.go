package crash_test

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
)

// decided is after how long nothing more can come of a publish: it waits a second
// at most before an append of it begins, and what was sent to the database then is
// not begun there later than four seconds after that.
const decided = 7 * time.Second

// reading is what a follower was sent up to some moment.
type reading struct {
	name     string
	matches  func(*event.Entry) bool
	from, to int64
	sent     []check.Delivery
	bare     bool // without positions, and as what bare returns
}

func (r *reading) compare(log []*event.Entry) (err error) {
	sent := r.sent
	if r.bare {
		if sent, err = r.located(log); err != nil {
			return err
		}
	}
	return check.Reader(log, r.matches, r.from, r.to, sent)
}

// evidence is what everybody was told up to some moment.
type evidence struct {
	readings     []reading
	accepted     map[string][]apptest.Receipt
	refused      []string
	publishers   []*publisher // for what they left unsettled
	transactions []check.Transaction
}

func (e *evidence) ofPublisher(p *publisher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(e.accepted, p.accepted)
	e.refused = append(e.refused, p.refused...)
	e.publishers = append(e.publishers, p)
}

func (e *evidence) ofApplication(a *application) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.Copy(e.accepted, a.accepted)
	e.refused = append(e.refused, a.refused...)
	e.transactions = slices.Clone(a.transactions)
}

// compare holds the log as it was then, or later, against the evidence. Until
// everybody has read to the end, and everything is relayed, there may be more in
// it than they know of. What was begun after a time and left is not looked at.
func (e *evidence) compare(log []*event.Entry, until time.Time, complete bool) error {
	index, err := check.NewIndex(log)
	if err != nil {
		return err
	}
	if err := index.Accepted(e.accepted); err != nil {
		return err
	}
	if err := index.Absent(e.refused, "refused"); err != nil {
		return err
	}
	for _, p := range e.publishers {
		if err := p.look(index, until, false); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for _, r := range e.readings {
		known := log
		if !complete {
			known = log[:sort.Search(len(log), func(n int) bool { return log[n].Cursor.Position > r.to })]
		}
		if err := r.compare(known); err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	if complete {
		return index.Transactions(e.transactions)
	}
	for _, tx := range e.transactions {
		if err := index.Absent(tx.Lost, "rolled back"); err != nil {
			return err
		}
	}
	return nil
}
