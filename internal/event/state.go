package event

import (
	"cmp"
	"strconv"
	"time"
)

// StateKey names a stream: it belongs to its company and namespace.
type StateKey struct {
	Tenant, Namespace, Stream string
}

// Compare orders keys by company, namespace and stream, bytewise.
func (k StateKey) Compare(o StateKey) int {
	return cmp.Or(cmp.Compare(k.Tenant, o.Tenant), cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Stream, o.Stream))
}

// State is what a stream has come to: the data of its events, merged, and the rest
// of its last one.
type State struct {
	StateKey

	Version  int64 // of the last event, from 1
	Position int64 // of the last event
	// UpdatedAt is when the log took the last event.
	UpdatedAt time.Time
	// Rooms are the last event's: a stream is where that was addressed.
	Rooms []string
	// Heard are the rooms of all its events, as package state keeps them: who could
	// hear every event may see the state.
	Heard []string
	Open  bool // no event has closed it; what is closed stays so
	// Incomplete says that the data of some event are not in Data, because they
	// would have made it too large.
	Incomplete bool
	Data       []byte // a JSON object, compact
}

// AppendJSON appends the public form of s, compact.
func (s *State) AppendJSON(b []byte) []byte {
	b = append(b, `{"companyId":`...)
	b = AppendString(b, s.Tenant)
	b = append(b, `,"namespace":`...)
	b = AppendString(b, s.Namespace)
	b = append(b, `,"stream":`...)
	b = AppendString(b, s.Stream)
	b = append(b, `,"version":`...)
	b = strconv.AppendInt(b, s.Version, 10)
	b = append(b, `,"state":`...)
	b = append(b, s.Data...)
	b = append(b, `,"open":`...)
	b = strconv.AppendBool(b, s.Open)
	b = append(b, `,"rooms":[`...)
	for i, room := range s.Rooms {
		if i > 0 {
			b = append(b, ',')
		}
		b = AppendString(b, room)
	}
	b = append(b, `],"updatedAt":`...)
	b = appendTime(b, s.UpdatedAt)
	if s.Incomplete {
		b = append(b, `,"incomplete":true`...)
	}
	return append(b, '}')
}

// StateQuery selects states. Zero fields do not filter.
type StateQuery struct {
	Tenant     string   // "" is every company
	Namespaces []string // at least one, each once
	Rooms      []string // states of whose events each was addressed to one of them
	Prefix     string   // of the stream's name
	Open       *bool
	After      StateKey // behind this one, in the order of Compare
	Limit      int      // at least 1
	// At is the cursor that the states are to be true at; nil is the newest that
	// there are states of.
	At *Cursor
}

// StatePage is some states, in the order of their keys.
type StatePage struct {
	States []State
	Cursor Cursor   // what they are true at
	More   bool     // there may be more behind Last
	Last   StateKey // where the page ends
}
