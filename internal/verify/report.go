package verify

import (
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// maxExamples is how many of each kind are shown.
const maxExamples = 10

// Report is what a run has found.
type Report struct {
	OK        bool      `json:"ok"` // there is no fault
	StartedAt time.Time `json:"startedAt"`
	Seconds   float64   `json:"seconds"` // how long it took
	Log       Extent    `json:"log"`
	Checked   Checked   `json:"checked"`
	Faults    []Finding `json:"faults"` // by kind, those of the log's foundations first
	Notes     []Note    `json:"notes"`
}

// Extent is where the log began and ended when its events began to be read.
type Extent struct {
	Epoch int64 `json:"epoch"`
	Floor int64 `json:"floor"` // events at and below it are gone
	Tip   int64 `json:"tip"`   // later events were not judged
}

// Checked counts what was.
type Checked struct {
	Partitions int64 `json:"partitions"`
	Events     int64 `json:"events"`
	WindowIDs  int64 `json:"windowIds"` // ids of the idempotency window
	IDs        int64 `json:"ids"`
	Streams    int64 `json:"streams"`
	Requests   int64 `json:"requests"`
	Recounted  int64 `json:"recounted"` // events, once more at the end
}

// Finding is all faults of a kind.
type Finding struct {
	Kind      Kind    `json:"kind"`
	Invariant int     `json:"invariant"` // its number, from 1
	What      string  `json:"what"`      // the kind in words
	Count     int64   `json:"count"`
	Examples  []Place `json:"examples"` // up to ten
	Advice    string  `json:"advice"`   // what to do
}

// Place is where a fault is. What it has nothing to do with is empty.
type Place struct {
	Position  int64  `json:"position,omitempty"`
	UpTo      int64  `json:"upTo,omitempty"` // somewhere from Position to here
	Partition string `json:"partition,omitempty"`
	ID        string `json:"id,omitempty"`
	CompanyID string `json:"companyId,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Stream    string `json:"stream,omitempty"`
	Expected  string `json:"expected"`
	Found     string `json:"found"`
}

// Note is something that one may want to know, and that breaks no promise.
type Note struct {
	Kind     string `json:"kind"`
	What     string `json:"what"`
	Count    int64  `json:"count"`
	Position int64  `json:"position,omitempty"` // of the first that was met, where it has one
}

// The kinds of notes.
const (
	noteHoles     = "unused_positions"
	noteClock     = "clock_set_back"
	noteReused    = "id_used_again"
	noteRetention = "retention_unfinished"
)

var notes = []Note{
	{Kind: noteHoles, What: "positions that no event has: their appends were rolled back"},
	{Kind: noteClock, What: "events that were recorded earlier than the one before them: the database's clock was set back"},
	{Kind: noteReused, What: "ids that a company has used again after the idempotency window, which is allowed"},
	{Kind: noteRetention, What: "partitions below the floor that are not dropped yet"},
}

func newReport() *Report {
	return &Report{StartedAt: time.Now().UTC(), Faults: []Finding{}, Notes: []Note{}}
}

// fault adds a fault.
func (r *Report) fault(kind Kind, p Place) { r.faults(kind, 1, []Place{p}) }

// faults adds some of a kind; not all of them may be shown.
func (r *Report) faults(kind Kind, count int64, places []Place) {
	i := slices.IndexFunc(r.Faults, func(f Finding) bool { return f.Kind == kind })
	if i < 0 {
		i = len(r.Faults)
		c := classes[kind.rank()]
		r.Faults = append(r.Faults, Finding{Kind: kind, Invariant: c.invariant, What: c.what, Advice: c.advice})
	}
	f := &r.Faults[i]
	f.Count += count
	f.Examples = append(f.Examples, places[:min(len(places), maxExamples-len(f.Examples))]...)
}

// note counts something.
func (r *Report) note(kind string, count, position int64) {
	if count == 0 {
		return
	}
	i := slices.IndexFunc(r.Notes, func(n Note) bool { return n.Kind == kind })
	if i < 0 {
		i = len(r.Notes)
		n := notes[slices.IndexFunc(notes, func(n Note) bool { return n.Kind == kind })]
		n.Position = position
		r.Notes = append(r.Notes, n)
	}
	r.Notes[i].Count += count
}

func (r *Report) finish() {
	r.OK = len(r.Faults) == 0
	r.Seconds = time.Since(r.StartedAt).Seconds()
	slices.SortFunc(r.Faults, func(a, b Finding) int { return a.Kind.rank() - b.Kind.rank() })
}

// Total is how many faults there are.
func (r *Report) Total() int64 {
	var n int64
	for i := range r.Faults {
		n += r.Faults[i].Count
	}
	return n
}

func idText(id pgtype.UUID) string { return uuid.UUID(id.Bytes).String() }

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
