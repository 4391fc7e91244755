package event

import (
	"time"

	"github.com/google/uuid"
)

// Event is a fact in the log, immutable.
type Event struct {
	Cursor        Cursor
	ID            uuid.UUID
	Tenant        string // the company, the isolation boundary
	Namespace     string
	Type          string
	SchemaVersion int
	Rooms         []string // at least one
	Stream        string   // "" when the event is about no entity
	Version       int64    // dense from 1 within the stream, 0 without one
	OccurredAt    time.Time
	RecordedAt    time.Time // when the log took it, in position order
	Actor         string    // who published it, "" when unknown
	CorrelationID string
	CausationID   uuid.NullUUID
	ReplyBy       time.Time // zero when no answer is awaited
	Data          []byte    // a JSON object, compact
}

// Draft is an event that is to be: everything the log does not decide.
type Draft struct {
	ID              uuid.UUID
	Tenant          string
	Namespace       string
	Type            string
	SchemaVersion   int
	Rooms           []string
	Stream          string
	ExpectedVersion Expectation
	OccurredAt      time.Time
	Actor           string
	CorrelationID   string
	CausationID     uuid.NullUUID
	ReplyBy         time.Time
	Data            []byte
	// Awaits is the event that answers this one, nil for an event that is no
	// request. It matters only with a ReplyBy.
	Awaits *Awaited
	// MayAnswer says that the event answers requests of its correlation id, if
	// there are any.
	MayAnswer bool
}

// Awaited says which event answers a request: one of this type whose data meet the
// condition.
type Awaited struct {
	Type string
	When []byte // a JSON object: for fields of the data, the values they may have
}

// Asks reports whether the event is a request.
func (d *Draft) Asks() bool { return d.Awaits != nil && !d.ReplyBy.IsZero() }

// Expectation is the version a publisher believes a stream to have before his
// events. The zero Expectation expects nothing.
type Expectation struct {
	Version int64 // 0: the stream must not exist
	Set     bool
}

// Receipt is what the log answers for one event of a publish.
type Receipt struct {
	Cursor    Cursor
	ID        uuid.UUID
	Stream    string
	Version   int64
	Duplicate bool // the event was in the log already; the rest is of then
}
