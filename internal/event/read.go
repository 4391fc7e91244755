package event

import "slices"

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
	Number   int64 // from 1, dense
	Survived int64 // the epoch before ended at this position
}

// Epochs are the lives of a log, oldest first; none before the first event.
type Epochs []Epoch

// Holds reports whether a log with this tip has the past that c speaks of. If
// not, it returns the cursor to go on from: the end of what survived of c's
// epoch, or the tip where that cannot be told.
func (list Epochs) Holds(c, tip Cursor) (resume Cursor, ok bool) {
	limit := tip
	switch i := slices.IndexFunc(list, func(e Epoch) bool { return e.Number == c.Epoch }); {
	case i >= 0 && i+1 < len(list):
		limit = Cursor{Epoch: c.Epoch, Position: list[i+1].Survived}
		for _, later := range list[i+1:] { // which may have lost more
			limit.Position = min(limit.Position, later.Survived)
		}
	case i < 0 && c.Epoch != tip.Epoch:
		return tip, false
	}
	return limit, c.Position <= limit.Position
}

// At returns the cursor of a position, in the epoch it belongs to.
func (list Epochs) At(position int64) Cursor {
	c := Cursor{Epoch: 1, Position: position}
	for _, e := range list {
		if position > e.Survived {
			c.Epoch = e.Number
		}
	}
	return c
}
