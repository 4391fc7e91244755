package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// Request publishes an event that asks for an answer, and waits for it: the first
// event of the type's reply with the same correlation id. d.ReplyBy says until
// when the answer is wanted; without it the catalogue does. If none came by then
// the error is ErrReplyTimeout, with the field "correlationId", and the request
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

// asking is a draft as a request has it.
func (s Server) asking(d Draft) (map[string]json.RawMessage, error) {
	list, err := s.complete([]Draft{d})
	if err != nil {
		return nil, err
	}
	d = list[0]
	by := d.ReplyBy
	d.ReplyBy = time.Time{}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	if !by.IsZero() {
		fields["timeoutMs"] = strconv.AppendInt(nil, max(time.Until(by).Milliseconds(), 1), 10)
	}
	return fields, nil
}
