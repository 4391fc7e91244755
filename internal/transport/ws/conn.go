package ws

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/wire"
)

const (
	// maxHello is the size of a hello, in bytes, if messages may not be smaller
	// still: who says it has not shown a token. A thousand rooms fit.
	maxHello = 256 << 10
	// maxInvalid is how many invalid messages a connection survives.
	maxInvalid = 10
	// maxPublishing is how many publishes of one connection may be under way;
	// beyond, it is not read from.
	maxPublishing = 64
	// maxAsking is how many requests of one connection may wait for their answer;
	// more are refused.
	maxAsking = 64
)

// conn is one connection. After the hello it has two goroutines: the session's
// runs serve, the other reads.
type conn struct {
	handler *Handler
	ws      *websocket.Conn
	line    *wire.Line
	deflate bool   // compression was negotiated
	remote  string // the client's address
	address limit.Seat
	company limit.Seat // since the hello

	session    *session.Session // set by the hello
	subject    string
	grant      access.Grant  // the reader's copy
	publishing chan struct{} // made at the first publish
	asking     atomic.Int32  // requests under way
	invalid    int
	pace       limit.Pace              // the reader's
	flooded    bool                    // it was refused for its speed too often
	abandon    context.CancelCauseFunc // ends the session; set when there is one

	leaving atomic.Bool // a goodbye was said
}

// onPing answers a ping of the client's, which is a frame like any other, unless
// they come too fast. It is called by the reader; later by who waits for the
// client's close, and then it has nothing to do.
func (c *conn) onPing(_ context.Context, payload []byte) bool {
	if c.line.Over() {
		return false
	}
	if err := c.pace.Frame(c.grant.Tenant); err == nil {
		c.line.Answer(payload)
	} else if c.slow(err); c.flooded && c.abandon != nil {
		c.abandon(session.Overloaded) // the reader may not come back from the pings
	}
	return false // answered
}

// slow takes note if the client was refused for its speed.
func (c *conn) slow(err error) {
	if problem.From(err).Code == problem.RateLimited {
		c.flooded = c.flooded || c.pace.Flooding()
	}
}

// serve runs the session, and beside it the reader, until both have ended.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c.abandon = cancel
	var reading sync.WaitGroup
	reading.Go(func() {
		err := c.read(ctx)
		cancel(err) // the reason for which the session ends as well
		c.end(err)
	})
	reason := c.handler.Sessions.Run(ctx, c.session)
	slog.InfoContext(ctx, "session ended", "component", "ws", "session", c.session.ID(), "subject", c.subject,
		"reason", reason.Name, "cursor", c.session.Cursor().String())
	c.end(reason)
	reading.Wait()
}

// end closes the connection for the reason in err; without one it is cut.
func (c *conn) end(err error) {
	reason, ok := errors.AsType[session.Reason](err)
	if !ok || reason == session.Gone || reason == session.Slow {
		_ = c.ws.CloseNow() // nobody listens
		return
	}
	c.close(reason)
}

// close says why and waits a while for the client's own close. Nothing of ours
// is written behind the close frame.
func (c *conn) close(reason session.Reason) {
	c.line.Finish()
	_ = c.ws.Close(websocket.StatusCode(reason.Code), reason.Name)
}

// next reads one message, of so many bytes at most.
func (c *conn) next(most int64, passed limit.Name) ([]byte, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	data, err := c.line.ReadMessage(r, most)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.handler.Limits.Hit(limit.BodyTimeout)
		c.complain(nil, problem.New(problem.RequestTimeout, "a message did not come to its end in time"))
		return nil, session.MessageTimeout
	case err != nil:
		return nil, err
	case int64(len(data)) > most:
		c.handler.Limits.Hit(passed)
		c.complain(nil, problem.New(problem.TooLarge, "the message is too large").With("limit", most))
		return nil, session.TooLarge
	}
	c.handler.metrics.messages.Inc()
	if kind != websocket.MessageText {
		return nil, problem.New(problem.InvalidMessage, "messages are text, not binary")
	}
	return data, nil
}

// hello reads the first message and begins the session. Every refusal is said
// before the connection closes for it.
func (c *conn) hello(ctx context.Context) error {
	c.ws.SetReadLimit(-1) // ours names the reason
	tooLate := time.AfterFunc(c.handler.HelloTimeout, func() {
		c.handler.Limits.Hit(limit.HelloTimeout)
		c.close(session.HelloTimeout)
	})
	defer tooLate.Stop()
	data, err := c.next(min(maxHello, c.handler.MaxMessage), limit.HelloBytes)
	if p, ok := errors.AsType[*problem.Error](err); ok {
		c.complain(nil, p)
		return session.InvalidMessage
	} else if err != nil {
		return err
	}
	first, err := parseOpening(data)
	if err == nil && first.Type != "hello" {
		err = problem.New(problem.InvalidMessage, "the first message must be a hello").With("allowed", []string{"hello"})
	}
	if err == nil {
		err = c.begin(ctx, first.Token, data)
	}
	if err == nil {
		return nil
	}
	if reason, ok := errors.AsType[session.Reason](err); ok {
		return reason
	}
	p := problem.From(err)
	if p.Code == problem.Internal {
		slog.ErrorContext(ctx, "a hello failed", "component", "ws", "error", err)
	}
	c.handler.metrics.refused.WithLabelValues(string(p.Code)).Inc()
	slog.DebugContext(ctx, "a hello was refused", "component", "ws", "remote", c.remote, "code", p.Code, "detail", p.Detail)
	c.complain(first.Ref, p)
	return reasonFor(p.Code)
}

// reasonFor is how a connection closes whose hello was refused with this code.
func reasonFor(code problem.Code) session.Reason {
	switch code {
	case problem.Unauthenticated:
		return session.Unauthenticated
	case problem.TokenExpired:
		return session.TokenExpired
	case problem.TokenRevoked:
		return session.TokenRevoked
	case problem.Forbidden:
		return session.Forbidden
	case problem.InvalidCursor:
		return session.CursorInvalid
	case problem.TooLarge:
		return session.TooLarge
	case problem.Unavailable, problem.Overloaded, problem.RateLimited:
		return session.Overloaded
	case problem.Internal:
		return session.Internal
	default:
		return session.InvalidMessage
	}
}

// begin makes the session that a hello asks for and welcomes it. Of a hello
// whose token is not believed, nothing else is read.
func (c *conn) begin(ctx context.Context, token string, hello []byte) error {
	grant, err := c.handler.Verify(token)
	if err != nil {
		return err
	}
	m, err := parse(hello)
	if err != nil {
		return err
	}
	if grant, err = grant.Name(string(m.CompanyID)); err != nil {
		return err
	}
	if grant, err = grant.Narrow(m.BranchID); err != nil {
		return err
	}
	list, err := m.subscriptions()
	if err != nil {
		return err
	}
	if c.company, err = c.handler.Limits.Session(grant.Tenant); err != nil {
		return err
	}
	c.grant, c.subject = grant, grant.Subject
	begin, err := c.open(ctx, m, list)
	if err != nil {
		return err
	}
	consumer := ""
	if m.Consumer != nil {
		consumer = *m.Consumer
	}
	slog.InfoContext(ctx, "session begins", "component", "ws", "session", c.session.ID(), "remote", c.remote,
		"subject", grant.Subject, "company", grant.Tenant, "role", grant.Role, "consumer", consumer,
		"client", legible(m.Client.Name), "client_version", legible(m.Client.Version), "cursor", begin.Cursor.String())
	err = c.say(map[string]any{
		"type": "welcome", "session": c.session.ID(), "instance": c.handler.Instance(),
		"epoch": max(c.handler.Log.Tip().Epoch, 1), "cursor": begin.Cursor, "heartbeatMs": c.handler.Heartbeat.Milliseconds(),
		"rooms": c.session.Joined(),
	})
	if err != nil {
		c.session.Release()
	}
	return err
}

// open makes the session, at the cursor that the hello brings, or at its consumer's,
// or where there are states for the snapshots that it asks for.
func (c *conn) open(ctx context.Context, m *message, list []session.Subscription) (begin session.Beginning, err error) {
	asked := &begin
	if m.Consumer != nil && m.Cursor == "" {
		asked = nil
	} else if begin, err = c.locate(ctx, m.Cursor, list); err != nil {
		return begin, err
	}
	c.session, err = session.New(session.Config{
		ID: uuid.NewString(), Open: c.handler.Open, Origin: session.Origin{
			Transport: "websocket", Address: c.remote, Client: legible(m.Client.Name), Version: legible(m.Client.Version),
		}, Sink: c, Grant: c.grant, Rules: c.handler.Rules, Heartbeat: c.handler.Heartbeat,
		Start: begin.Cursor, Reset: begin.Reset, States: c.handler.States,
	}, list)
	if err != nil {
		return begin, err
	}
	if m.Consumer != nil {
		if begin, err = c.session.Consume(ctx, c.handler.Log, c.handler.Consumers, *m.Consumer, asked); err != nil {
			return begin, err
		}
	}
	if err = session.AwaitStates(ctx, c.handler.States, list, begin.Cursor); err != nil {
		c.session.Release()
	}
	return begin, err
}

// locate finds where a cursor is, or without one where a session begins.
func (c *conn) locate(ctx context.Context, cursor string, list []session.Subscription) (begin session.Beginning, err error) {
	if cursor == "" {
		if cursor, err = session.Newest(ctx, c.handler.States, list); err != nil {
			return begin, err
		}
	}
	return session.Begin(ctx, c.handler.Log, "cursor", cursor)
}

// read answers messages until the connection ends.
func (c *conn) read(ctx context.Context) error {
	for {
		data, err := c.next(c.handler.MaxMessage, limit.MessageBytes)
		var m *message
		if err == nil {
			m, err = parse(data)
			m.raw = data
		}
		p, refused := errors.AsType[*problem.Error](err)
		if err != nil && !refused {
			return err
		}
		if err == nil {
			p = c.answer(ctx, m)
		}
		if c.flooded {
			return session.Overloaded
		}
		if p == nil {
			continue
		}
		var ref json.RawMessage
		if m != nil {
			ref = m.Ref
		}
		c.complain(ref, p)
		c.handler.metrics.invalid.Inc()
		if c.invalid++; c.invalid >= maxInvalid {
			return session.InvalidMessage
		}
	}
}

// say writes one message.
func (c *conn) say(v map[string]any) error {
	return c.line.Send(appendJSON(nil, v))
}

// complain writes an error message. A line that fails is the reader's to find.
func (c *conn) complain(ref json.RawMessage, p *problem.Error) {
	lead := map[string]any{"type": "error"}
	if len(ref) > 0 {
		lead["ref"] = ref
	}
	_ = c.line.Send(wire.AppendText(nil, func(b []byte) []byte { return append(b, p.Message(lead)...) }))
}

// reply writes the answer to a message with a ref.
func (c *conn) reply(ref json.RawMessage, err error, fields map[string]any) {
	lead := map[string]any{"type": "reply", "ok": err == nil}
	if len(ref) > 0 {
		lead["ref"] = ref
	}
	if err != nil {
		p := problem.From(err)
		_ = c.line.Send(wire.AppendText(nil, func(b []byte) []byte { return append(b, p.Message(lead)...) }))
		return
	}
	maps.Copy(lead, fields)
	_ = c.say(lead)
}
