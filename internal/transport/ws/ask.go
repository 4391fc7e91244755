package ws

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
)

// askRetry is when to ask again if too many requests wait.
const askRetry = time.Second

// ask publishes a request, in its order among the publishes, and replies when there
// is an answer, while the connection is read on.
func (c *conn) ask(ctx context.Context, m *message) {
	asked, err := c.asks(m)
	if err != nil {
		c.slow(err)
		c.reply(m.Ref, err, nil)
		return
	}
	c.handler.conns.Go(func() {
		defer c.asking.Add(-1)
		defer asked.Close()
		receipt, err := asked.Published(ctx)
		var question, answer *event.Entry
		if err == nil {
			question, answer, err = asked.Reply(ctx)
		}
		if err != nil {
			c.reply(m.Ref, err, nil)
			return
		}
		c.reply(m.Ref, nil, map[string]any{
			"events":  publish.Results([]event.Receipt{receipt}),
			"request": json.RawMessage(question.JSON()), "reply": json.RawMessage(answer.JSON()),
		})
	})
}

// asks submits a request. What it returns counts as under way.
func (c *conn) asks(m *message) (*request.Asked, error) {
	if err := c.pace.Publish(1); err != nil {
		return nil, err
	}
	body, err := m.question()
	if err != nil {
		return nil, err
	}
	if c.asking.Load() >= maxAsking { // the reader alone adds
		return nil, problem.New(problem.Overloaded, fmt.Sprintf("%d requests of this connection wait for their answer, and no more may; "+
			"nothing of this one was published", maxAsking)).With("limit", maxAsking).RetryAfter(askRetry)
	}
	asked, err := c.handler.Requester.Ask(c.grant, c.session.Grant, c, body)
	if err == nil {
		c.asking.Add(1)
	}
	return asked, err
}

// question is a request as POST /v1/requests has it. The message's own type is
// "request", so the event's stands in "event"; or all of it is an object, in "event"
// or "request".
func (m *message) question() (json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(m.raw, &fields); err != nil {
		return nil, err
	}
	for _, name := range [...]string{"event", "request"} {
		if whole := fields[name]; len(whole) > 0 && whole[0] == '{' {
			return whole, nil
		}
	}
	if len(fields["event"]) == 0 {
		return nil, problem.New(problem.InvalidParameter, "event is missing: it is the type of the request").With("path", "event")
	}
	fields["type"] = fields["event"]
	delete(fields, "event")
	delete(fields, "ref")
	return json.Marshal(fields)
}
