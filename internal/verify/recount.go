package verify

import (
	"context"
	"fmt"

	"github.com/tailroom/tailroom/db"
)

// maxMarks bounds what is remembered of the events: in a log of more pages a mark
// stands for several. Each partition has marks of its own.
const maxMarks = 1 << 15

// mark is what a stretch of the log was when it was read first. Its digest does
// not depend on the order of the events, and leaves out what may change: the
// epoch, when another one takes events over, and the data, when they are erased.
type mark struct {
	after, upto int64
	events      int64
	positions   int64 // all of them, by exclusive or
	hash        int64
}

// remember adds a page to the mark of those above it in their partition, as long
// as that is not too long.
func (v *verifier) remember(p partition, after, upto int64, page []db.VerifyEventPageRow) {
	length := (v.state.Tip-v.state.Floor)/maxMarks + int64(v.pageRows)
	if n := len(v.marks); n == 0 || upto == p.last || v.marks[n-1].upto-after > length {
		v.marks = append(v.marks, mark{upto: upto})
	}
	m := &v.marks[len(v.marks)-1]
	m.after = after
	m.events += int64(len(page))
	for i := range page {
		m.positions ^= page[i].Position
		m.hash ^= page[i].Hash
	}
}

// recount reads the events once more and compares. What retention has dropped
// since is left out.
func (v *verifier) recount(ctx context.Context) error {
	v.at.Total = v.state.Tip - v.state.Floor
	for _, m := range v.marks {
		now, err := v.sql.VerifyEventDigest(ctx, v.conn, db.VerifyEventDigestParams{After: m.after, Upto: m.upto})
		if err != nil {
			return err
		}
		if now.Floor <= m.after {
			v.report.Checked.Recounted += now.Events
			if err := v.compare(ctx, m, now); err != nil {
				return err
			}
		}
		v.advance(int(m.upto - m.after))
	}
	return nil
}

func (v *verifier) compare(ctx context.Context, m mark, now db.VerifyEventDigestRow) error {
	difference := now.Events - m.events
	kind := EventMoved
	switch {
	case difference > 0:
		kind = EventAppeared
	case difference < 0:
		kind = EventVanished
	case now.Positions == m.positions && now.Hash == m.hash:
		return nil
	case now.Positions == m.positions:
		kind = EventChanged
	}
	place := Place{
		Position: m.after + 1, UpTo: m.upto,
		Expected: fmt.Sprintf("%d events, as before", m.events), Found: fmt.Sprintf("%d events", now.Events),
	}
	if kind == EventChanged {
		place.Found = "the same positions, with other content"
	}
	// A single one is the difference of the positions.
	position := now.Positions ^ m.positions
	if (difference == 1 || difference == -1) && position > m.after && position <= m.upto {
		place.Position, place.UpTo = position, 0
		found, err := v.sql.VerifyEventList(ctx, v.conn, []int64{position})
		if err != nil {
			return err
		}
		if len(found) == 1 {
			e := found[0]
			place.ID, place.CompanyID, place.Namespace, place.Stream = idText(e.ID), e.Tenant, e.Namespace, orZero(e.Stream)
		}
	}
	v.report.faults(kind, max(difference, -difference, 1), []Place{place})
	return nil
}
