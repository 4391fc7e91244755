package event

import (
	"slices"
	"time"
)

// Bounds is where the log begins and ends.
type Bounds struct {
	Tip   Cursor // the last position, in the present epoch
	Floor int64  // events at and below it are gone
}

// Page is a stretch of the log as some topics see it.
type Page struct {
	Entries []*Entry
	Bounds  Bounds // of the snapshot the page was read in
	// Next is the cursor behind the page: all that matches up to there is in
	// it. A page that is not full goes as far as was looked, the tip at most.
	Next Cursor
}

// Batch is what a reader gets at once.
type Batch struct {
	Entries []*Entry // in order, each once; empty when nothing is new
	Next    Cursor   // everything that matches up to here has been handed out
	Live    bool     // the batch ends at the newest event there is
	// Degraded says why nothing new can be known at present, "" when it can.
	Degraded string
}

// The reasons of a Reset.
const (
	Expired  = "expired"  // retention has dropped what comes after the cursor
	Diverged = "diverged" // the log was failed over or restored to another past
)

// Reset tells a reader that it cannot be served from its cursor. It is an
// error so that no path can overlook it.
type Reset struct {
	Reason string
	Oldest Cursor // the log is complete from here on
	Resume Cursor // where to go on
}

func (r *Reset) Error() string {
	return "the cursor cannot be served (" + r.Reason + "): go on from " + r.Resume.String()
}

// Epoch is one life of the log.
type Epoch struct {
	Number   int64     // from 1, growing, with gaps
	Survived int64     // the lives before ended at this position
	OpenedAt time.Time // by the database's clock
	Reason   string    // for people
}

// Epochs are the lives of a log, oldest first; none before the first event.
type Epochs []Epoch

// Newest is the number of the present life, 0 before the first event.
func (list Epochs) Newest() int64 {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Number
}

// Limit is the last position up to which the log still has the past of a life
// with this number: each later one may have lost more. It is MaxPosition when
// none is later.
func (list Epochs) Limit(number int64) int64 {
	limit := MaxPosition
	for _, later := range list {
		if later.Number > number {
			limit = min(limit, later.Survived)
		}
	}
	return limit
}

// Shared is how many lives, counted from the first, two lists have in common.
func (list Epochs) Shared(other Epochs) int {
	for i, e := range list {
		if i == len(other) || e.Number != other[i].Number || e.Survived != other[i].Survived || !e.OpenedAt.Equal(other[i].OpenedAt) {
			return i
		}
	}
	return len(list)
}

// Holds reports whether a log with this tip has the past that c speaks of. If
// not, it returns the cursor to go on from: the end of what survived of it.
//
// An epoch that is not in the list is of a life that was lost together with its
// row. Nobody can tell where it branched off, so its cursors are never good, and
// the reader goes on where the next life began, but not beyond his own position.
func (list Epochs) Holds(c, tip Cursor) (resume Cursor, ok bool) {
	limit := list.Limit(c.Epoch)
	if limit == MaxPosition {
		limit = tip.Position
	}
	known := c.Epoch == tip.Epoch || slices.ContainsFunc(list, func(e Epoch) bool { return e.Number == c.Epoch })
	if known && c.Position <= limit {
		return c, true
	}
	return list.At(min(c.Position, limit)), false
}

// Loss is what an instance says of a log that has lost its end.
type Loss struct {
	Survived int64  // the last position that is as it was
	Known    int64  // the highest epoch the instance has known
	Newest   int64  // the newest epoch of the log as it is now, 0 for none
	Reason   string // for people
}

// At returns the cursor of a position, in the epoch it belongs to.
func (list Epochs) At(position int64) Cursor {
	c := Cursor{Epoch: 1, Position: position}
	for i, e := range list {
		if i == 0 || position > e.Survived {
			c.Epoch = e.Number
		}
	}
	return c
}
