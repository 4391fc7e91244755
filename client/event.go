package client

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Event is a fact in the log.
type Event struct {
	Cursor        string          `json:"cursor"`
	Position      int64           `json:"position"`
	ID            string          `json:"id"`
	Namespace     string          `json:"namespace"`
	Type          string          `json:"type"`
	SchemaVersion int             `json:"schemaVersion"`
	CompanyID     string          `json:"companyId"`
	Rooms         []string        `json:"rooms"`
	Stream        string          `json:"stream"`  // "" if it is about no entity
	Version       int64           `json:"version"` // in its stream, from 1; 0 without one
	OccurredAt    time.Time       `json:"occurredAt"`
	RecordedAt    time.Time       `json:"recordedAt"`
	Actor         string          `json:"actor"`
	CorrelationID string          `json:"correlationId"`
	CausationID   string          `json:"causationId"` // "" if nothing caused it
	ReplyBy       time.Time       `json:"replyBy"`     // zero if nobody waits for an answer
	Data          json.RawMessage `json:"data"`

	// Raw is the whole event as it came, byte for byte.
	Raw json.RawMessage `json:"-"`
}

// Overdue reports whether an answer was wanted by a time that has passed.
func (e Event) Overdue(now time.Time) bool { return !e.ReplyBy.IsZero() && now.After(e.ReplyBy) }

// Reply is the event that answers e: in its namespace and company, with its
// correlation id, caused by it. What d says already stays. The id follows from
// e's, so that a request which is handled twice is answered once.
func (e Event) Reply(d Draft) Draft {
	d = e.Cause(d)
	if d.CorrelationID == "" {
		d.CorrelationID = e.CorrelationID
	}
	return d
}

// Cause is the event that e leads to: in its company, caused by it, in its
// namespace if d names none. The id follows from e's and the type; if e leads to
// several events of one type, give each an id with DeriveID.
func (e Event) Cause(d Draft) Draft {
	if d.Namespace == "" {
		d.Namespace = e.Namespace
	}
	if d.CompanyID == "" {
		d.CompanyID = e.CompanyID
	}
	if d.CausationID == "" {
		d.CausationID = e.ID
	}
	if d.ID == "" {
		d.ID = DeriveID(e.ID, d.Namespace+" "+d.Type)
	}
	return d
}

// DeriveID makes an id out of another one and a name: always the same out of the
// same (UUID version 5, RFC 9562).
func DeriveID(id, name string) string {
	space, err := uuid.Parse(id)
	if err != nil {
		space = uuid.NewSHA1(uuid.Nil, []byte(id))
	}
	return uuid.NewSHA1(space, []byte(name)).String()
}

// Draft is an event that is to be published. Namespace, Type and Data are
// needed; the rest comes from the catalogue and the token.
type Draft struct {
	Namespace string `json:"namespace"`
	Type      string `json:"type"`
	// Data is encoded as a JSON object.
	Data any `json:"data"`

	// CompanyID is needed with a token for every company; empty, it is the
	// Server's.
	CompanyID string   `json:"companyId,omitempty"`
	Rooms     []string `json:"rooms,omitempty"`
	Stream    string   `json:"stream,omitempty"`
	// ExpectedVersion is the version that the stream must have, 0 that it must not
	// exist; new(int64(3)) is one.
	ExpectedVersion *int64 `json:"expectedVersion,omitempty"`
	// ID is a UUID. Without one it gets a new one; give your own to be able to
	// try again later.
	ID            string    `json:"id,omitempty"`
	CorrelationID string    `json:"correlationId,omitempty"`
	CausationID   string    `json:"causationId,omitempty"`
	OccurredAt    time.Time `json:"occurredAt,omitzero"`
	ReplyBy       time.Time `json:"replyBy,omitzero"`
	SchemaVersion int       `json:"schemaVersion,omitempty"`
}

// Receipt is what the log says of an event that was published.
type Receipt struct {
	Cursor    string `json:"cursor"`
	Position  int64  `json:"position"`
	ID        string `json:"id"`
	Stream    string `json:"stream"`
	Version   int64  `json:"version"`
	Duplicate bool   `json:"duplicate"` // it was in the log already
}

// complete returns drafts as they will be sent, however often: with ids.
func (s Server) complete(drafts []Draft) ([]Draft, error) {
	list := make([]Draft, len(drafts))
	for i, d := range drafts {
		if d.ID == "" {
			id, err := uuid.NewV7()
			if err != nil {
				return nil, err
			}
			d.ID = id.String()
		}
		if d.CompanyID == "" {
			d.CompanyID = s.CompanyID
		}
		list[i] = d
	}
	return list, nil
}
