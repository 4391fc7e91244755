package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/tailroom/tailroom/internal/event"
)

// defaultReplyTimeout is for a reply that names none.
const defaultReplyTimeout = 30 * time.Second

// Reply says which event answers a request: the first of its Type with the
// request's correlation id that meets its condition.
type Reply struct {
	Type string // in the request's namespace
	// When lists the values each of these fields of the answer's data may
	// have: text, numbers or booleans. An event with others is no answer.
	When map[string][]any
	// Timeout is how long an answer is awaited when the requester does not
	// say, at least a millisecond.
	Timeout time.Duration
	// Ack says that an acknowledgement over Socket.IO waits for the answer,
	// instead of for the log.
	Ack bool
}

// MetBy reports whether the data of an event of the reply's type is an
// answer.
func (r *Reply) MetBy(data []byte) bool {
	if len(r.When) == 0 {
		return true
	}
	var fields map[string]any
	if json.Unmarshal(data, &fields) != nil {
		return false
	}
	for name, allowed := range r.When {
		if !slices.Contains(allowed, fields[name]) {
			return false
		}
	}
	return true
}

// awaited is what the log is told of the reply.
func (r *Reply) awaited() (*event.Awaited, error) {
	when := r.When
	if when == nil {
		when = map[string][]any{}
	}
	text, err := json.Marshal(when)
	return &event.Awaited{Type: r.Type, When: text}, err
}

// MarshalJSON writes the reply as GET /v1/catalog shows it.
func (r *Reply) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Type      string           `json:"type"`
		When      map[string][]any `json:"when,omitempty"`
		TimeoutMs int64            `json:"timeoutMs"`
		Ack       bool             `json:"ack,omitempty"`
	}{r.Type, r.When, r.Timeout.Milliseconds(), r.Ack})
}

// buildReply reads the reply of a type, nil when it has none.
func buildReply(request string, file *replyYAML) (*Reply, error) {
	if file == nil {
		return nil, nil
	}
	if err := file.Unknown.refuse(); err != nil {
		return nil, err
	}
	if file.Type == request {
		return nil, errors.New("a request cannot answer itself")
	}
	r := &Reply{Type: file.Type, Timeout: defaultReplyTimeout, Ack: file.Ack}
	if file.Timeout != "" {
		timeout, err := time.ParseDuration(file.Timeout)
		if err != nil || timeout < time.Millisecond {
			return nil, fmt.Errorf("timeout: %q is not a duration such as 30s or 2m", file.Timeout)
		}
		r.Timeout = timeout
	}
	if file.When.IsZero() {
		return r, nil
	}
	if err := r.condition(&file.When); err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	return r, nil
}

// condition reads When.
func (r *Reply) condition(n *yaml.Node) error {
	text, err := toJSON(n)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &r.When); err != nil {
		return errors.New("want a list of values for each field: {status: [accepted, rejected]}")
	}
	for field, values := range r.When {
		if len(values) == 0 {
			return fmt.Errorf("%s: the list is empty, so nothing would be an answer", field)
		}
		for _, value := range values {
			switch value.(type) {
			case string, float64, bool:
			default:
				return fmt.Errorf("%s: a value is text, a number or a boolean", field)
			}
		}
	}
	return nil
}
