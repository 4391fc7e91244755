package catalog

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

// Type is a registered event type. Its JSON is its entry in GET /v1/catalog.
type Type struct {
	Namespace     string          `json:"-"`
	Name          string          `json:"type"`
	SchemaVersion int             `json:"schemaVersion"`
	Description   string          `json:"description"`
	Schema        json.RawMessage `json:"schema"`  // JSON Schema, 2020-12 unless it says otherwise
	Example       json.RawMessage `json:"example"` // data that passes
	Publish       []access.Role   `json:"publish"` // beside service and admin
	Rooms         []Template      `json:"rooms"`   // where events go by default
	Stream        *Template       `json:"stream"`  // nil when they are about no entity by default
	Reply         *Reply          `json:"reply,omitempty"`
	Closes        *Closes         `json:"closes,omitempty"` // nil when it leaves its stream open

	compiled *jsonschema.Schema
	awaits   *event.Awaited
	answers  []*Reply // of other types, to which events of this one are the reply
}

// MayPublish reports whether tokens of this role may publish the type.
func (t *Type) MayPublish(role access.Role) bool { return role.MayPublish(t.Publish) }

// MayAnswer reports whether an event of the type with this data answers a request, if
// there is one of its correlation id.
func (t *Type) MayAnswer(data []byte) bool {
	return slices.ContainsFunc(t.answers, func(r *Reply) bool { return r.MetBy(data) })
}

// Awaits is what the log is told of the type's reply, nil when it has none.
func (t *Type) Awaits() *event.Awaited { return t.awaits }

// Value is data that passed Validate, decoded for the templates.
type Value struct{ fields map[string]any }

// Validate judges data, a JSON object that passed jsonvalue.Check, by the
// type's schema. The error is a schema_violation.
func (t *Type) Validate(data []byte) (Value, error) {
	var v Value
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber() // ids are not to be rounded
	if err := decoder.Decode(&v.fields); err != nil {
		return Value{}, problem.New(problem.InvalidJSON, "data is not a JSON object")
	}
	return v, validate(t.compiled, v.fields)
}

// RoomsFor returns the default rooms of an event with this data, each once. A
// field that is missing is a schema_violation; one that gives no room, and a
// type that has no default, are invalid_room.
func (t *Type) RoomsFor(company string, v Value) ([]string, error) {
	if len(t.Rooms) == 0 {
		return nil, problem.New(problem.InvalidRoom, t.Name+" has no default rooms: name them").
			With("path", "rooms").With("allowed", event.RoomForms)
	}
	rooms := make([]string, 0, len(t.Rooms))
	for _, template := range t.Rooms {
		room, violation := template.expand(company, v)
		if violation != nil {
			violation.Message += ", unless rooms are named"
			return nil, jsonvalue.Refuse(*violation)
		}
		if !isRoom(room) {
			return nil, problem.New(problem.InvalidRoom, template.String()+" gives no room: "+event.ErrRoom.Error()).
				With("path", "data"+template.pointer()).With("allowed", event.RoomForms)
		}
		if !slices.Contains(rooms, room) {
			rooms = append(rooms, room)
		}
	}
	return rooms, nil
}

// StreamFor returns the default stream of an event with this data, "" when
// the type has none. A field that is missing or gives no stream is a
// schema_violation.
func (t *Type) StreamFor(company string, v Value) (string, error) {
	if t.Stream == nil {
		return "", nil
	}
	stream, violation := t.Stream.expand(company, v)
	if violation == nil && !event.ValidStream(stream) {
		violation = &jsonvalue.Violation{Path: t.Stream.pointer(), Message: "gives no stream in " + t.Stream.String() +
			": at most 200 characters, none of them a control character, and not empty"}
	}
	if violation != nil {
		violation.Message += ", unless a stream is named"
		return "", jsonvalue.Refuse(*violation)
	}
	return stream, nil
}

// isRoom reports whether s is a room in colon form.
func isRoom(s string) bool {
	room, err := event.ParseRoom(s)
	return err == nil && room == s
}
