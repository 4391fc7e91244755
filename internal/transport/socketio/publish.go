package socketio

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// maxPublishing is how many publishes of one connection may be under way; beyond,
	// it is not read from.
	maxPublishing = 64
	// maxAsking is how many requests of one connection may wait for their answer;
	// more are refused.
	maxAsking = 64
	// askRetry is when to ask again if too many requests wait.
	askRetry = time.Second
)

// emitted is the event of a packet.
func emitted(s *socket, p packet) emit {
	return emit{socket: s, name: text(p.arguments(1)[0]), id: p.id}
}

// event does what the client emitted: it joins or leaves a room, or publishes.
func (c *conn) event(s *socket, p packet) {
	e, arguments := emitted(s, p), p.arguments(3)[1:]
	var err error
	switch {
	case len(arguments) > 1:
		err = problem.New(problem.InvalidMessage, "an event has one argument, a JSON object: emit(name, data), with a callback or without")
	case e.name == "join" || e.name == "leave":
		err = s.move(e, arguments)
	case len(arguments) == 0:
		err = problem.New(problem.InvalidMessage, "the event has no data: emit(name, data), where data is a JSON object")
	default:
		err = c.publish(e, arguments[0])
	}
	if err != nil {
		c.slow(err)
		e.fail(err)
	}
}

// publish lets an event wait for the log, and answers when the log has taken it or, where
// its type says so, when it is answered itself. Meanwhile the connection is read on. Who has
// left the namespace is not answered any more.
func (c *conn) publish(e emit, data json.RawMessage) error {
	if err := c.engine.Pace().Publish(1); err != nil {
		return err
	}
	raw := asEvent(e.socket.namespace, e.name, data)
	if e.id != "" && c.server.Replies(e.socket.namespace, e.name) {
		return c.ask(e, raw)
	}
	pending, err := c.server.Publisher.Submit(e.socket.session.Grant(), c, []json.RawMessage{raw})
	if err != nil {
		return err
	}
	if c.publishing == nil {
		c.publishing = make(chan struct{}, maxPublishing)
	}
	select {
	case c.publishing <- struct{}{}:
	case <-c.ctx.Done():
		return nil
	}
	c.server.work.Go(func() {
		defer func() { <-c.publishing }()
		receipts, err := pending.Wait(e.socket.ctx)
		if err != nil {
			e.fail(err)
			return
		}
		e.done(receipt(receipts[0]))
	})
	return nil
}

// receipt is what an acknowledgement says of an event that is in the log.
func receipt(r event.Receipt) map[string]any {
	body := map[string]any{"position": r.Cursor.Position, "id": r.ID.String()}
	if r.Duplicate {
		body["duplicate"] = true
	}
	return body
}

// ask publishes a request, and answers with the data of its reply.
func (c *conn) ask(e emit, raw json.RawMessage) error {
	if c.asking.Load() >= maxAsking { // the reader alone adds
		return problem.New(problem.Overloaded, fmt.Sprintf("%d requests of this connection wait for their answer, and no more may; "+
			"nothing of this one was published", maxAsking)).With("limit", maxAsking).RetryAfter(askRetry)
	}
	asked, err := c.server.Requester.Ask(e.socket.session.Grant(), e.socket.session.Grant, c, raw)
	if err != nil {
		return err
	}
	c.asking.Add(1)
	c.server.work.Go(func() {
		defer c.asking.Add(-1)
		defer asked.Close()
		_, err := asked.Published(e.socket.ctx)
		if err == nil {
			_, reply, failed := asked.Reply(e.socket.ctx)
			if err = failed; err == nil {
				e.acknowledge(json.RawMessage(reply.Data))
				return
			}
		}
		e.fail(err)
	})
	return nil
}

// asEvent is what is emitted as POST /v1/events has it. What the data say of themselves is the
// event's: the correlation id, and the id that makes one event of all that is sent again. (A
// field that is called id is the order's, or the printer's.)
func asEvent(namespace, name string, data json.RawMessage) json.RawMessage {
	b := event.AppendString([]byte(`{"namespace":`), namespace)
	b = event.AppendString(append(b, `,"type":`...), name)
	correlationID, id := identity(data)
	if correlationID != nil {
		b = append(append(b, `,"correlationId":`...), correlationID...)
	}
	if id != "" {
		b = event.AppendString(append(b, `,"id":`...), id)
	}
	return append(append(append(b, `,"data":`...), data...), '}')
}

// identity reads the two fields of the data, and keeps nothing of the others.
func identity(data json.RawMessage) (correlationID json.RawMessage, id string) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begins, err := decoder.Token(); err != nil || begins != json.Delim('{') {
		return nil, ""
	}
	var value json.RawMessage
	for decoder.More() {
		field, _ := decoder.Token()
		if decoder.Decode(&value) != nil {
			return nil, ""
		}
		switch field {
		case "correlationId":
			if correlationID = nil; value[0] == '"' && string(value) != `""` { // some say so if they have none
				correlationID = bytes.Clone(value)
			}
		case "eventId":
			id = ""
			if named, err := uuid.Parse(text(value)); err == nil && named != uuid.Nil {
				id = named.String()
			}
		}
	}
	return correlationID, id
}
