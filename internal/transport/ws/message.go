package ws

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

const (
	// maxRef bounds what is echoed as a ref, in bytes of JSON.
	maxRef = 256
	// maxLegible bounds what is logged of a text of the client's, in characters.
	maxLegible = 100
)

// message is any message of a client, told apart by Type. Unknown fields are
// ignored.
type message struct {
	Type        string                 `json:"type"`
	Ref         json.RawMessage        `json:"ref"`
	Token       string                 `json:"token"`
	CompanyID   access.ID              `json:"companyId"`
	BranchID    access.ID              `json:"branchId"`
	Cursor      string                 `json:"cursor"` // null and "" are now
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
	Namespace string   `json:"namespace"`
	Rooms     []string `json:"rooms"`
	Snapshot  bool     `json:"snapshot"`
}

// parse reads a message. The error is a *problem.Error; with it comes, if
// it can be told, the message, so that the answer carries its ref.
func parse(data []byte) (*message, error) {
	// encoding/json passes bad UTF-8 on, and what is echoed of it would break
	// the connection: text frames are UTF-8.
	if !json.Valid(data) || !utf8.Valid(data) {
		return nil, problem.New(problem.InvalidJSON, "the message is not valid JSON")
	}
	var m message
	err := json.Unmarshal(data, &m)
	if len(m.Ref) > maxRef || bytes.HasPrefix(m.Ref, []byte("{")) || bytes.HasPrefix(m.Ref, []byte("[")) {
		return nil, problem.New(problem.InvalidMessage, "a ref is a short string or a number").With("path", "ref")
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return &m, problem.New(problem.InvalidMessage, "the field "+wrong.Field+" cannot be of type "+kindOf(wrong)).
			With("path", wrong.Field)
	}
	if err != nil {
		return nil, problem.New(problem.InvalidMessage, "a message is a JSON object")
	}
	if m.Type == "" {
		return &m, problem.New(problem.InvalidMessage, "the message has no type")
	}
	return &m, nil
}

// kindOf is the kind of JSON that was not expected, without the number itself.
func kindOf(e *json.UnmarshalTypeError) string {
	kind, _, _ := strings.Cut(e.Value, " ")
	return kind
}

// subscriptions are those of a hello or subscribe.
func (m *message) subscriptions() ([]session.Subscription, error) {
	list := make([]session.Subscription, len(m.Subscribe))
	for i, s := range m.Subscribe {
		if s.Snapshot {
			return nil, problem.New(problem.InvalidMessage, "this server has no snapshots yet: subscribe without").
				With("path", "subscribe.snapshot")
		}
		list[i] = session.Subscription{Namespace: s.Namespace, Rooms: s.Rooms}
	}
	return list, nil
}

// legible is what the log shows of a text that a client is free to choose: the
// first of its printable characters.
func legible(text string) string {
	var b strings.Builder
	left := maxLegible
	for _, r := range text {
		if left == 0 {
			break
		}
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			left--
		}
	}
	return b.String()
}
