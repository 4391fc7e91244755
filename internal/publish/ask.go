package publish

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// MaxPatience is how long a requester waits at most. His request may live longer.
const MaxPatience = 10 * time.Minute

// Question is a request that is about to be published.
type Question struct {
	Tenant, Namespace string
	CorrelationID     string // the answer's as well
	ID                uuid.UUID
	Patience          time.Duration // how long the requester waits
}

// asking is what a request says beside an event.
type asking struct {
	TimeoutMS *int64 `json:"timeoutMs"`
}

// Ask is Submit for one event that wants an answer, until the time that its type's
// reply has, or for as long as the requester waits, if that is longer. Expect is told
// of it before it can be in the log; its error refuses it.
func (d *Desk) Ask(grant access.Grant, source any, raw json.RawMessage, expect func(Question) error) (*Pending, error) {
	return d.submit(grant, source, 1, func() ([]event.Draft, error) {
		drafts, err := d.drafts(grant, []json.RawMessage{raw})
		if err != nil {
			return nil, err
		}
		q, err := d.question(raw, &drafts[0])
		if err != nil {
			return nil, err
		}
		return drafts, expect(q)
	})
}

// question makes the draft a request.
func (d *Desk) question(raw json.RawMessage, draft *event.Draft) (Question, error) {
	typ, err := d.catalog.Lookup(draft.Namespace, draft.Type)
	if err != nil {
		return Question{}, err
	}
	if typ.Reply == nil {
		types := d.catalog.Requests(draft.Namespace)
		detail := typ.Name + " is no request, nothing answers it: publish it with POST /v1/events, or over a WebSocket with publish"
		if len(types) > 0 {
			detail += "; requests of " + draft.Namespace + " are " + strings.Join(types, ", ")
		}
		return Question{}, invalid("type", detail).With("allowed", types)
	}
	var in asking
	err = json.Unmarshal(raw, &in)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return Question{}, invalid(wrong.Field, wrong.Field+" cannot be a "+wrong.Value)
	}
	if !draft.ReplyBy.IsZero() {
		return Question{}, invalid("replyBy", "replyBy follows from the type's reply and timeoutMs; "+
			"to choose it, publish the event with POST /v1/events")
	}
	q := Question{
		Tenant: draft.Tenant, Namespace: draft.Namespace, CorrelationID: draft.CorrelationID, ID: draft.ID,
		Patience: min(typ.Reply.Timeout, MaxPatience),
	}
	if in.TimeoutMS != nil {
		if *in.TimeoutMS < 1 || *in.TimeoutMS > MaxPatience.Milliseconds() {
			return Question{}, invalid("timeoutMs", fmt.Sprintf("timeoutMs is 1 to %d", MaxPatience.Milliseconds()))
		}
		q.Patience = time.Duration(*in.TimeoutMS) * time.Millisecond
	}
	draft.ReplyBy = time.Now().Add(max(typ.Reply.Timeout, q.Patience)).UTC().Truncate(time.Microsecond)
	return q, nil
}

// WithIDs adds to an error what to ask again with, or to look for the answer.
func (q *Question) WithIDs(p *problem.Error) *problem.Error {
	return p.With("correlationId", q.CorrelationID).With("id", q.ID)
}
