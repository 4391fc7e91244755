package client

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Request publishes an event that asks for an answer, and waits for it: the first
// event of the type's reply with the same correlation id. d.ReplyBy says until
// when it waits, ten minutes at most; without it the catalogue does. If none came
// by then the error is ErrReplyTimeout, with the field "correlationId", and the request
// stays open: its answer comes as an event. The same id asks only once, so that a
// request can be made again. Run has to run.
func (c *Client) Request(ctx context.Context, d Draft) (Event, error) {
	fields, err := c.cfg.asking(d)
	if err != nil {
		return Event{}, err
	}
	answer, err := c.call(ctx, map[string]any{"type": "request", "event": fields}, nil)
	if err != nil {
		return Event{}, err
	}
	return parseEvent(answer.Reply)
}

// Request is Client.Request over HTTP.
func (s Server) Request(ctx context.Context, d Draft) (Event, error) {
	fields, err := s.asking(d)
	if err != nil {
		return Event{}, err
	}
	var answer struct {
		Reply json.RawMessage `json:"reply"`
	}
	if err := s.do(ctx, request{method: http.MethodPost, path: "/v1/requests", body: fields}, &answer); err != nil {
		return Event{}, err
	}
	return parseEvent(answer.Reply)
}

// maxPatience is how long the server lets a request wait.
const maxPatience = 10 * time.Minute

// question is a request, encoded whenever it is made: then it waits for what is left
// of its time.
type question struct {
	fields map[string]json.RawMessage
	by     time.Time // zero: as long as the catalogue says
}

// MarshalJSON writes what the request would be now.
func (q question) MarshalJSON() ([]byte, error) {
	fields := maps.Clone(q.fields)
	if !q.by.IsZero() {
		left := min(max(time.Until(q.by), time.Millisecond), maxPatience)
		fields["timeoutMs"] = strconv.AppendInt(nil, left.Milliseconds(), 10)
	}
	return json.Marshal(fields)
}

// asking is a draft as a request has it.
func (s Server) asking(d Draft) (question, error) {
	list, err := s.complete([]Draft{d})
	if err != nil {
		return question{}, err
	}
	d = list[0]
	by := d.ReplyBy
	d.ReplyBy = time.Time{}
	text, err := json.Marshal(d)
	if err != nil {
		return question{}, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return question{}, err
	}
	return question{fields, by}, nil
}
