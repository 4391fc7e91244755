package event

import "encoding/json"

// System is the namespace of what the log says of itself: what operators did, why,
// and who they are. No catalogue has it, so nobody publishes there or follows it.
const System = "/system"

// EveryTenant is the tenant of an event of System that concerns no single company.
// No token and no publisher can have it.
const EveryTenant = "*"

// The types of System.
const (
	redacted      = "eventRedacted"
	tokensRevoked = "tokensRevoked"
	disconnected  = "sessionsDisconnected"
)

// SystemTypes are the types of the namespace System.
var SystemTypes = []string{
	redacted, tokensRevoked, disconnected, "outboxRetried", "outboxDiscarded", "epochOpened",
	"consumerLagging", "consumerErased",
}

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

// Revokes reports whether e tells of revoked tokens. Which ones is in the table of
// the revocations.
func (e *Event) Revokes() bool { return e.Namespace == System && e.Type == tokensRevoked }

// Disconnection says which sessions an operator ends: all of a Subject, or the one
// named Session; exactly one of them is given.
type Disconnection struct {
	Tenant  string `json:"-"` // whose sessions; "" is every company's, and those for all companies
	Subject string `json:"subject"`
	Session string `json:"session"`
}

// Disconnects returns which sessions are to end, if e is the event that asks for
// it. Those that began after its RecordedAt are not meant.
func (e *Event) Disconnects() (Disconnection, bool) {
	if e.Namespace != System || e.Type != disconnected {
		return Disconnection{}, false
	}
	d := Disconnection{}
	if e.Tenant != EveryTenant {
		d.Tenant = e.Tenant
	}
	err := json.Unmarshal(e.Data, &d)
	return d, err == nil && (d.Subject == "") != (d.Session == "")
}
