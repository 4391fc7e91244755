package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// defaultReplyTimeout is for a reply that names none.
const defaultReplyTimeout = 30 * time.Second

// Reply says which event answers a request: the first of its Type with the
// request's correlation id that meets its condition.
type Reply struct {
	Type string // in the request's namespace
	// When is what the answer's data must be. An event with others is no answer.
	When Condition
	// Timeout is how long an answer is awaited when the requester does not
	// say, at least a millisecond.
	Timeout time.Duration
	// Ack says that an acknowledgement over Socket.IO waits for the answer,
	// instead of for the log.
	Ack bool
}

// MetBy reports whether the data of an event of the reply's type is an
// answer.
func (r *Reply) MetBy(data []byte) bool { return r.When.met(data) }

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
		Type      string    `json:"type"`
		When      Condition `json:"when,omitempty"`
		TimeoutMs int64     `json:"timeoutMs"`
		Ack       bool      `json:"ack,omitempty"`
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
	var err error
	r.When, err = buildCondition(&file.When)
	return r, err
}
