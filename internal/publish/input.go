package publish

import (
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// input is an event as a publisher writes it. Unknown fields are ignored.
type input struct {
	CompanyID       string          `json:"companyId"`
	Namespace       string          `json:"namespace"`
	Type            string          `json:"type"`
	Rooms           []string        `json:"rooms"`
	Stream          *string         `json:"stream"`
	ExpectedVersion *int64          `json:"expectedVersion"`
	ID              *string         `json:"id"`
	CorrelationID   *string         `json:"correlationId"`
	CausationID     *string         `json:"causationId"`
	OccurredAt      *string         `json:"occurredAt"`
	ReplyBy         *string         `json:"replyBy"`
	SchemaVersion   *int            `json:"schemaVersion"`
	Data            json.RawMessage `json:"data"`
}

func parse(raw []byte) (*input, error) {
	if !utf8.Valid(raw) {
		return nil, problem.New(problem.InvalidJSON, "the event is not valid UTF-8")
	}
	var in input
	err := json.Unmarshal(raw, &in)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		if wrong.Field == "" {
			return nil, invalid("", "an event is a JSON object")
		}
		return nil, invalid(wrong.Field, wrong.Field+" cannot be a "+wrong.Value)
	}
	if err != nil {
		return nil, problem.New(problem.InvalidJSON, "the event is not valid JSON")
	}
	return &in, nil
}

// invalid is an invalid_parameter at a field.
func invalid(path, detail string) *problem.Error {
	p := problem.New(problem.InvalidParameter, detail)
	if path == "" {
		return p
	}
	return p.With("path", path)
}

// fill sets what a draft takes from the input as it is.
func (in *input) fill(d *event.Draft, now time.Time) error {
	var err error
	if d.ID, err = parseID("id", in.ID); err != nil {
		return err
	}
	if d.ID == uuid.Nil {
		d.ID = uuid.Must(uuid.NewV7())
	}
	d.CorrelationID = d.ID.String()
	if in.CorrelationID != nil {
		d.CorrelationID = *in.CorrelationID
	}
	if !event.ValidCorrelationID(d.CorrelationID) {
		return invalid("correlationId", "correlationId is 1 to 128 printable characters")
	}
	cause, err := parseID("causationId", in.CausationID)
	if err != nil {
		return err
	}
	d.CausationID = uuid.NullUUID{UUID: cause, Valid: cause != uuid.Nil}
	if d.OccurredAt, err = parseTime("occurredAt", in.OccurredAt, now); err != nil {
		return err
	}
	d.ReplyBy, err = parseTime("replyBy", in.ReplyBy, time.Time{})
	return err
}

func parseID(field string, s *string) (uuid.UUID, error) {
	if s == nil {
		return uuid.Nil, nil
	}
	id, err := uuid.Parse(*s)
	if err != nil || len(*s) != 36 || id == uuid.Nil {
		return uuid.Nil, invalid(field, field+" is a UUID in its usual form, not the nil one")
	}
	return id, nil
}

func parseTime(field string, s *string, absent time.Time) (time.Time, error) {
	if s == nil {
		return absent, nil
	}
	t, err := time.Parse(time.RFC3339, *s)
	t = t.UTC()
	if err != nil || t.Year() < 1 || t.Year() > 9999 || t.IsZero() {
		return time.Time{}, invalid(field, field+" is an RFC 3339 time, such as 2026-01-31T18:30:00Z")
	}
	return t.Truncate(time.Microsecond), nil
}
