package ws

import (
	"context"
	"log/slog"

	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/session"
)

// answer does what a message asks for. What it returns is wrong with the
// message as such; a refused command is answered by a reply.
func (c *conn) answer(ctx context.Context, m *message) *problem.Error {
	if err := c.pace.Frame(c.grant.Tenant); err != nil {
		c.slow(err)
		c.reply(m.Ref, err, nil)
		return nil
	}
	switch m.Type {
	case "subscribe", "unsubscribe":
		return c.follow(ctx, m)
	case "publish":
		c.publish(ctx, m)
		return nil
	case "request":
		c.ask(ctx, m)
		return nil
	case "auth":
		c.renew(ctx, m)
		return nil
	case "ping":
		pong := map[string]any{"type": "pong"}
		if len(m.Ref) > 0 {
			pong["ref"] = m.Ref
		}
		_ = c.say(pong)
		return nil
	case "hello":
		return problem.New(problem.InvalidMessage, "there was a hello already: use subscribe and auth")
	case "ack":
		return c.ack(m)
	default:
		return problem.New(problem.InvalidMessage, "unknown message type").
			With("allowed", []string{"subscribe", "unsubscribe", "publish", "request", "ack", "auth", "ping"})
	}
}

// follow changes the subscriptions. The reply is sent before the first event
// that the change lets through.
func (c *conn) follow(ctx context.Context, m *message) *problem.Error {
	list, err := m.subscriptions()
	if err != nil {
		return problem.From(err)
	}
	if m.Type == "subscribe" && m.Subscribe == nil || m.Type == "unsubscribe" && m.Unsubscribe == nil {
		return problem.New(problem.InvalidMessage, "a list of namespaces is missing").With("path", m.Type)
	}
	c.session.Do(func() error {
		var err error
		if m.Type == "subscribe" {
			err = c.session.Subscribe(ctx, list)
		} else {
			err = c.session.Unsubscribe(m.Unsubscribe)
		}
		c.reply(m.Ref, err, map[string]any{"rooms": c.session.Joined(), "cursor": c.session.Cursor()})
		return nil
	})
	return nil
}

// ack acknowledges what the session has sent. It is not answered.
func (c *conn) ack(m *message) (refused *problem.Error) {
	cursor, err := session.ParseAck(m.Cursor)
	if err != nil {
		return problem.From(err)
	}
	c.session.Do(func() error {
		if err := c.session.Ack(cursor); err != nil {
			refused = problem.From(err)
		}
		return nil
	})
	return refused
}

// renew puts the session under a new token of the same subject and company.
func (c *conn) renew(ctx context.Context, m *message) {
	grant, err := c.handler.Verify(m.Token)
	if err == nil {
		grant, err = c.grant.Renewed(grant)
	}
	if err != nil {
		c.reply(m.Ref, err, nil)
		return
	}
	c.grant = grant
	c.session.Do(func() error {
		c.session.Renew(grant)
		c.handler.Sessions.Recheck(c.session)
		c.reply(m.Ref, nil, map[string]any{"rooms": c.session.Joined(), "expiresAt": grant.Expires.UTC()})
		return nil
	})
	slog.DebugContext(ctx, "token renewed", "component", "ws", "subject", grant.Subject)
}

// publish submits the events in the order they came and replies when the log
// has taken them, while the connection is read on.
func (c *conn) publish(ctx context.Context, m *message) {
	if c.publishing == nil {
		c.publishing = make(chan struct{}, maxPublishing)
	}
	err := c.pace.Publish(min(len(m.Events), publish.MaxGroup)) // larger ones are refused, and no debt
	var pending *publish.Pending
	if err == nil {
		pending, err = c.handler.Publisher.Submit(c.grant, c, m.Events)
	}
	if err != nil {
		c.slow(err)
		c.reply(m.Ref, err, nil)
		return
	}
	select {
	case c.publishing <- struct{}{}:
	case <-ctx.Done():
		return
	}
	c.handler.conns.Go(func() {
		defer func() { <-c.publishing }()
		receipts, err := pending.Wait(ctx)
		c.reply(m.Ref, err, map[string]any{"events": publish.Results(receipts)})
	})
}
