package simulation

import (
	"time"

	"github.com/google/uuid"
)

// fields are an event's data.
type fields = map[string]any

// thread is what belongs together: what follows its first event was caused by
// it, and carries its correlation id.
type thread struct {
	*branch

	first uuid.UUID
}

// tell is the thread's next event.
func (t *thread) tell(now time.Time, namespace, typ string, data fields) Event {
	data["branchId"] = t.branch.id
	e := t.company.tell(now, namespace, typ, data)
	if t.first == uuid.Nil {
		t.first = e.ID
		return e
	}
	first := t.first
	e.CorrelationID, e.CausationID = first.String(), &first
	return e
}

// tell is an event on its own.
func (c *company) tell(now time.Time, namespace, typ string, data fields) Event {
	return Event{CompanyID: c.id, Namespace: namespace, Type: typ, ID: c.newID(now), Data: data}
}
