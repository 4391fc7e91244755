package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/db"
)

// partitionsAhead is how many empty partitions are kept beyond the one that is
// being written.
const partitionsAhead = 3

// PartitionState says where a partition is in its life.
type PartitionState string

// The states of a partition, in the order in which it has them.
const (
	PartitionAhead     PartitionState = "ahead"     // empty, beyond the one that is written
	PartitionCurrent   PartitionState = "current"   // the next event goes there
	PartitionFull      PartitionState = "full"      // nothing is written there any more
	PartitionSealed    PartitionState = "sealed"    // full, and its times are known to the planner
	PartitionDetaching PartitionState = "detaching" // no part of the log any more; about to be dropped
)

// Partition is a partition of the log. Positions from First to Last belong
// there.
type Partition struct {
	Name  string         `json:"name"`
	First int64          `json:"first"`
	Last  int64          `json:"last"`
	State PartitionState `json:"state"`
	// Events is how many there are. They are counted when the partition is
	// full; before that it is how many positions have been passed, which holes
	// make a little more.
	Events  int64 `json:"events"`
	Counted bool  `json:"counted"`
	Bytes   int64 `json:"bytes"` // on disk, with all that belongs to it
	// The times between which its events were recorded, once they are counted
	// and if there are any.
	RecordedFrom *time.Time `json:"recordedFrom"`
	RecordedTo   *time.Time `json:"recordedTo"`
	// Attached says that it is a partition in PostgreSQL's eyes, if only until
	// the last transaction that uses it as one has ended.
	Attached bool `json:"-"`
}

// Layout is what the log is made of at one moment.
type Layout struct {
	Floor      int64       `json:"floor"`  // events at and below it are gone
	Tip        int64       `json:"tip"`    // the last event
	ReadAt     time.Time   `json:"readAt"` // by the database's clock
	Partitions []Partition `json:"partitions"`
}

// Layout reads what the log is made of.
func (l *Log) Layout(ctx context.Context) (Layout, error) { return ReadLayout(ctx, l.pool) }

// ReadLayout reads the layout on a connection. There is always a partition, unless somebody
// took it away by hand.
func ReadLayout(ctx context.Context, conn db.DBTX) (Layout, error) {
	rows, err := db.New().PartitionList(ctx, conn)
	if err != nil {
		return Layout{}, fmt.Errorf("reading the partitions: %w", err)
	}
	l := Layout{Partitions: make([]Partition, len(rows))}
	for i := range rows {
		r := &rows[i]
		l.Floor, l.Tip, l.ReadAt = r.Floor, r.Tip, r.ReadAt.UTC()
		l.Partitions[i] = Partition{
			Name: r.Name, First: r.First, Last: r.Last, State: stateOf(r), Bytes: r.Bytes, Counted: r.Events != nil,
			Events:       max(0, min(r.Tip, r.Last)-r.First+1),
			RecordedFrom: utc(r.RecordedFrom), RecordedTo: utc(r.RecordedTo), Attached: r.Attached,
		}
		if r.Events != nil {
			l.Partitions[i].Events = *r.Events
		}
	}
	return l, nil
}

func utc(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	at := t.UTC()
	return &at
}

func stateOf(r *db.PartitionListRow) PartitionState {
	next := r.Tip + 1
	switch {
	case !r.Attached || r.Pending:
		return PartitionDetaching
	case r.First > next:
		return PartitionAhead
	case r.Last >= next:
		return PartitionCurrent
	case !r.Sealed:
		return PartitionFull
	}
	return PartitionSealed
}

// Ahead is how many empty partitions lie beyond the one that is written.
func (l Layout) Ahead() int {
	n := 0
	for i := range l.Partitions {
		if l.Partitions[i].State == PartitionAhead {
			n++
		}
	}
	return n
}

// Bytes is the size of the log on disk.
func (l Layout) Bytes() int64 {
	var n int64
	for i := range l.Partitions {
		n += l.Partitions[i].Bytes
	}
	return n
}

// MakePartitions makes the partitions that are missing ahead of the log's tip.
// Any number of instances may do so at once.
func MakePartitions(ctx context.Context, conn db.DBTX) error {
	made, err := db.New().PartitionMakeAhead(ctx, conn, partitionsAhead)
	if err != nil {
		return fmt.Errorf("making partitions ahead: %w", err)
	}
	if made > 0 {
		slog.InfoContext(ctx, "partitions made ahead", "component", "eventlog", "made", made)
	}
	return nil
}
