package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Transaction is one of an application's, in which it published with SQL.
type Transaction struct {
	Began time.Time // before its first statement
	Ended time.Time // when its end was known
	IDs   []string  // of what it published and kept, in order
	Lost  []string  // of what it published and rolled back
}

// Transactions holds transactions against the log: what was committed is there,
// and what was rolled back is not; the order within a transaction, and of those
// that did not overlap, is kept.
func (x Index) Transactions(list []Transaction) error {
	type extent struct {
		*Transaction

		first, last int64
	}
	var extents []extent
	for i := range list {
		tx := &list[i]
		if err := x.Absent(tx.Lost, "rolled back"); err != nil {
			return err
		}
		e := extent{Transaction: tx}
		for _, id := range tx.IDs {
			entry := x[id]
			if entry == nil {
				return fmt.Errorf("%s was committed, and is not in the log", id)
			}
			p := entry.Cursor.Position
			if p <= e.last {
				return fmt.Errorf("%s is at %d, behind what its transaction published later, at %d", id, p, e.last)
			}
			e.last = p
			e.first = cmp.Or(e.first, p)
		}
		if len(tx.IDs) > 0 {
			extents = append(extents, e)
		}
	}
	byEnd := slices.Clone(extents)
	slices.SortFunc(byEnd, func(a, b extent) int { return a.Ended.Compare(b.Ended) })
	slices.SortFunc(extents, func(a, b extent) int { return a.Began.Compare(b.Began) })
	ended, last := 0, int64(0) // the last place of any transaction that had ended
	for _, e := range extents {
		for ; ended < len(byEnd) && byEnd[ended].Ended.Before(e.Began); ended++ {
			last = max(last, byEnd[ended].last)
		}
		if e.first <= last {
			return fmt.Errorf("%s is at %d, though its transaction began when the one was over that published what is at %d", e.IDs[0], e.first, last)
		}
	}
	return nil
}
