package ws

import (
	"encoding/json"
	"strings"

	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// maxRef bounds what is echoed as a ref, in bytes of JSON.
const maxRef = 256

// message is any message of a client, told apart by Type. Unknown fields are
// ignored.
type message struct {
	Type        string                 `json:"type"`
	Ref         json.RawMessage        `json:"ref"`
	Token       string                 `json:"token"`
	CompanyID   string                 `json:"companyId"`
	Cursor      *string                `json:"cursor"`
	Subscribe   []subscription         `json:"subscribe"`
	Unsubscribe []session.Subscription `json:"unsubscribe"`
	Events      []json.RawMessage      `json:"events"`
	Consumer    json.RawMessage        `json:"consumer"`
	Client      struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"client"`
}

// subscription is session.Subscription and what this version cannot do yet:
// refused, because ignoring it would be a silent gap.
type subscription struct {
	session.Subscription
	Snapshot bool `json:"snapshot"`
}

// parse reads a message. The error is a *problem.Error.
func parse(data []byte) (*message, error) {
	var m message
	if !json.Valid(data) {
		return nil, problem.New(problem.InvalidJSON, "the message is not valid JSON")
	}
	if err := json.Unmarshal(data, &m); err != nil {
		p := problem.New(problem.InvalidMessage, "the message is not an object of the protocol")
		if e, ok := err.(*json.UnmarshalTypeError); ok && e.Field != "" { //nolint:errorlint // json returns it bare
			p = problem.New(problem.InvalidMessage, "the field "+e.Field+" cannot be a "+e.Value).With("path", e.Field)
		}
		return nil, p
	}
	if m.Type == "" {
		return nil, problem.New(problem.InvalidMessage, "the message has no type")
	}
	if len(m.Ref) > maxRef || strings.HasPrefix(string(m.Ref), "{") || strings.HasPrefix(string(m.Ref), "[") {
		return nil, problem.New(problem.InvalidMessage, "a ref is a short string or a number").With("path", "ref")
	}
	return &m, nil
}

// subscriptions are those of a hello or subscribe.
func (m *message) subscriptions() ([]session.Subscription, error) {
	list := make([]session.Subscription, len(m.Subscribe))
	for i, s := range m.Subscribe {
		if s.Snapshot {
			return nil, problem.New(problem.InvalidMessage, "this server has no snapshots yet: subscribe without").
				With("path", "subscribe.snapshot")
		}
		list[i] = s.Subscription
	}
	return list, nil
}
