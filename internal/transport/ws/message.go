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
	Consumer    *string                `json:"consumer"` // null is none
	Client      struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	} `json:"client"`

	raw []byte // all of it
}

// subscription is session.Subscription as a client writes it.
type subscription struct {
	Namespace string   `json:"namespace"`
	Rooms     []string `json:"rooms"`
	Snapshot  any      `json:"snapshot"` // true, "open"; false and null are none
}

// extent is what of the states the subscription asks for.
func (s subscription) extent() (session.Extent, error) {
	switch s.Snapshot {
	case nil, false:
		return session.NoSnapshot, nil
	case true:
		return session.AllStates, nil
	case "open":
		return session.OpenStates, nil
	}
	return 0, problem.New(problem.InvalidMessage, `snapshot is true, for all states, or "open", for those of open streams`).
		With("path", "subscribe.snapshot").With("allowed", []any{true, "open", false})
}

// opening is what is read of a message before its token is believed: a list takes up
// to a hundred times the memory of its text.
type opening struct {
	Type  string          `json:"type"`
	Ref   json.RawMessage `json:"ref"`
	Token string          `json:"token"`
}

// parseOpening reads no more of a message than that. Its errors are parse's.
func parseOpening(data []byte) (*opening, error) {
	var o opening
	return &o, decode(data, &o, &o.Ref, &o.Type)
}

// parse reads a message. The error is a *problem.Error; the message comes with
// it, so that the answer carries its ref.
func parse(data []byte) (*message, error) {
	var m message
	return &m, decode(data, &m, &m.Ref, &m.Type)
}

// decode reads a message into v, which has this ref and type. A ref that cannot
// be echoed is taken away.
func decode(data []byte, v any, ref *json.RawMessage, kind *string) error {
	// encoding/json passes bad UTF-8 on, and what is echoed of it would break
	// the connection: text frames are UTF-8.
	if !json.Valid(data) || !utf8.Valid(data) {
		return problem.New(problem.InvalidJSON, "the message is not valid JSON")
	}
	err := json.Unmarshal(data, v)
	if len(*ref) > maxRef || bytes.HasPrefix(*ref, []byte("{")) || bytes.HasPrefix(*ref, []byte("[")) {
		*ref = nil
		return problem.New(problem.InvalidMessage, "a ref is a short string or a number").With("path", "ref")
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return problem.New(problem.InvalidMessage, "the field "+wrong.Field+" cannot be of type "+kindOf(wrong)).
			With("path", wrong.Field)
	}
	if err != nil {
		return problem.New(problem.InvalidMessage, "a message is a JSON object")
	}
	if *kind == "" {
		return problem.New(problem.InvalidMessage, "the message has no type")
	}
	return nil
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
		extent, err := s.extent()
		if err != nil {
			return nil, err
		}
		list[i] = session.Subscription{Namespace: s.Namespace, Rooms: s.Rooms, Snapshot: extent}
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
