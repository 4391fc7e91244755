package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// partition is one of PostgreSQL's partitions of the log that retention keeps.
type partition struct {
	name        string
	first, last int64
	counted     int64 // events when it was full, -1 if that has not been counted
}

// checkPartitions compares PostgreSQL's partitions with those that are listed, and
// the last position with the sequence.
func (v *verifier) checkPartitions(ctx context.Context) error {
	if s := v.state; s.LastEvent > s.Numbered {
		v.report.fault(PositionUnnumbered, Place{
			Position: s.LastEvent, Expected: fmt.Sprintf("at most position %d", s.Numbered), Found: fmt.Sprintf("position %d", s.LastEvent),
		})
	}
	rows, err := v.sql.VerifyPartitionList(ctx, v.conn)
	if err != nil {
		return err
	}
	next := int64(0)
	for _, r := range rows {
		next = max(next, r.Floor+1)
		p := partition{name: r.Name, first: r.First, last: r.Beyond - 1, counted: r.Counted}
		listed := partition{first: r.ListedFirst, last: r.ListedBeyond - 1}
		misplaced := func(expected, found string) {
			v.report.fault(PartitionMisplaced, Place{
				Partition: r.Name, Position: max(p.first, listed.first), Expected: expected, Found: found,
			})
		}
		switch {
		case r.Attached && r.Beyond == 0:
			misplaced("a range of positions", "none")
			continue
		case max(p.last, listed.last) <= r.Floor:
			v.report.note(noteRetention, 1, 0)
			continue
		case !r.Attached:
			misplaced(listed.String(), "no such partition")
			next = listed.last + 1
			continue
		case !r.Listed:
			misplaced("a partition that is listed", "one that is not, with "+p.String())
		case p.first != listed.first || p.last != listed.last:
			misplaced(listed.String(), p.String())
		case p.first > next:
			misplaced(fmt.Sprintf("a partition that begins at %d", next), p.String())
		}
		next = p.last + 1
		if err := v.checkOverflow(ctx, p); err != nil {
			return err
		}
		v.parts = append(v.parts, p)
		v.report.Checked.Partitions++
	}
	return nil
}

func (p partition) String() string { return fmt.Sprintf("positions %d to %d", p.first, p.last) }

// checkOverflow looks for positions that PostgreSQL would look for elsewhere. It
// asks the partition itself, because a query of the log by position finds none.
func (v *verifier) checkOverflow(ctx context.Context, p partition) error {
	var least, greatest int64
	err := v.conn.QueryRow(ctx, "SELECT coalesce(min(position), $1), coalesce(max(position), $1) FROM "+
		pgx.Identifier{"tailroom", p.name}.Sanitize(), p.first).Scan(&least, &greatest)
	if gone(err) { // dropped since
		return nil
	}
	for _, position := range []int64{least, greatest} {
		if err == nil && (position < p.first || position > p.last) {
			v.report.fault(PartitionOverflow, Place{
				Partition: p.name, Position: position, Expected: p.String(), Found: fmt.Sprintf("position %d", position),
			})
		}
	}
	return err
}

// checkCount compares what has been read of a partition with how many events it
// had when it was full, and counts the positions that were never used.
func (v *verifier) checkCount(ctx context.Context, p partition, events int64) error {
	now, err := v.sql.VerifyState(ctx, v.conn)
	if err != nil || now.Floor >= p.last {
		return err // retention has come by
	}
	whole := v.state.Floor < p.first && p.last <= v.state.Tip
	if whole && p.counted >= 0 && events != p.counted {
		v.report.fault(PartitionCount, Place{
			Partition: p.name, Position: p.first, UpTo: p.last,
			Expected: fmt.Sprintf("%d events", p.counted), Found: fmt.Sprintf("%d events", events),
		})
	}
	v.report.note(noteHoles, min(p.last, v.state.Tip)-max(p.first-1, v.state.Floor)-events, 0)
	return nil
}
