package event

import "encoding/json"

// System is the namespace of what the log says of itself. No catalogue has it,
// so nobody publishes there or follows it.
const System = "/system"

// redacted is the type of the event that tells of a redaction.
const redacted = "eventRedacted"

// Redacts returns the position of the event whose data were replaced, if e is the
// event that tells of it. Its CausationID is that event's ID.
func (e *Event) Redacts() (position int64, ok bool) {
	if e.Namespace != System || e.Type != redacted {
		return 0, false
	}
	var data struct {
		Position int64 `json:"position"`
	}
	err := json.Unmarshal(e.Data, &data)
	return data.Position, err == nil && e.CausationID.Valid
}
