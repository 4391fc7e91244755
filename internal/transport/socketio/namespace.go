package socketio

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

const (
	// maxAuth is the size of a CONNECT, in bytes: who sends it has not shown a token.
	maxAuth = 256 << 10
	// maxRefused is how many CONNECTs of a connection are refused in a row before it is
	// closed.
	maxRefused = 10
	// bearer is what may stand before a token.
	bearer = "Bearer "
)

// auth is the payload of a CONNECT: what the application gives as auth, and what the
// library adds to come back with. Unknown fields are ignored.
type auth struct {
	PID       any       `json:"pid"`    // of whatever kind: it may be another server's
	Offset    any       `json:"offset"` // likewise
	CompanyID access.ID `json:"companyId"`
	BranchID  access.ID `json:"branchId"`
	Rooms     []string  `json:"rooms"`  // null is all that the token covers
	Cursor    string    `json:"cursor"` // where to begin; null and "" are now
}

// start is where a socket is to begin.
type start struct {
	pid       string
	claim     claim         // of the pid
	returning bool          // there is one, and it is the client's
	cursor    *event.Cursor // of the pid or the offset; nil: it brings neither
}

// turnAway is how long a connection is kept, at most, whose client is to try again later. The
// library does so about a second after its connection has ended, however often: a
// connection that has begun counts as a success.
const turnAway = 5 * time.Second

// connect joins a namespace, or says why not. Its error ends the connection.
func (c *conn) connect(p packet) error {
	if c.turnedAway {
		return nil // it tries again with the others
	}
	if len(p.payload) > maxAuth {
		c.server.Limits.Hit(limit.HelloBytes)
		return session.TooLarge
	}
	if c.server.Rules.Known(p.namespace) != nil {
		return c.refusal(p.namespace, map[string]any{"message": "Invalid namespace"})
	}
	s := newSocket(c, p.namespace)
	err := c.awaitEnd(p.namespace)
	if err == nil {
		err = c.begin(s, p.payload)
	}
	if err == nil {
		c.refused = 0
		return nil
	}
	s.leave()
	if reason, ok := errors.AsType[session.Reason](err); ok {
		return reason
	}
	return c.refuse(p.namespace, err)
}

// refuse says why a namespace is not joined, to a client who then leaves it at that. Where
// it is to try again, the connection is closed instead, after a while if nothing but its
// coming back could help.
func (c *conn) refuse(namespace string, err error) error {
	refused := problem.From(err)
	c.server.metrics.refused.WithLabelValues(string(refused.Code)).Inc()
	slog.DebugContext(c.ctx, "a namespace was refused", "component", "socketio", "namespace", namespace,
		"code", refused.Code, "detail", refused.Detail)
	switch refused.Code {
	case problem.Internal:
		slog.ErrorContext(c.ctx, "a namespace could not be joined", "component", "socketio", "error", err)
		return session.Internal
	case problem.Draining:
		return session.Draining
	case problem.Unavailable, problem.Overloaded, problem.RateLimited:
		c.turnedAway = true
		time.AfterFunc(turnAway/5+rand.N(turnAway*4/5), func() { c.engine.Close(session.Overloaded) })
		return nil
	default:
		return c.refusal(namespace, map[string]any{"message": refused.Detail, "data": fields(refused)})
	}
}

func (c *conn) refusal(namespace string, body map[string]any) error {
	if c.refused++; c.refused > maxRefused {
		return session.InvalidMessage
	}
	return c.engine.Send(appendJSON(appendHeader(nil, kindConnectError, namespace, ""), body))
}

// begin makes the session of a namespace, answers, and lets it run. Of a CONNECT whose
// token is not believed, nothing else is read.
func (c *conn) begin(s *socket, payload []byte) error {
	token, err := c.token(payload)
	if err != nil {
		return err
	}
	grant, err := c.server.Verify(token)
	if err != nil {
		return err
	}
	var asked auth
	if err := decode(payload, &asked); err != nil {
		return err
	}
	if grant, err = grant.Name(string(asked.CompanyID)); err != nil {
		return err
	}
	if grant, err = grant.Narrow(asked.BranchID); err != nil {
		return err
	}
	from := c.server.start(asked, owner{grant, s.namespace})
	if from.returning { // first, for who was cut off and is at the limit has the seat already
		if err := c.server.supersede(c.ctx, from.claim.sid); err != nil {
			return err
		}
	}
	if s.seat, err = c.server.Limits.Session(grant.Tenant); err != nil {
		return err
	}
	if c.server.KeepExpired {
		grant.Expires = time.Now().Add(forever)
	}
	begin, err := c.open(c.ctx, s, grant, asked, from)
	if err != nil {
		return err
	}
	return c.welcome(s, owner{grant, s.namespace}, begin, from)
}

// start reads what a client has come back with.
func (s *Server) start(asked auth, o owner) (from start) {
	from.pid, _ = asked.PID.(string)
	if from.claim, from.returning = s.pids.open(from.pid, o); from.returning {
		from.cursor = &from.claim.cursor
	}
	offset, _ := asked.Offset.(string)
	if at, ok := parseOffset(offset); ok && (from.cursor == nil || at.Compare(*from.cursor) > 0) {
		from.cursor = &at
	}
	return from
}

// open makes the session: where the client has come to, where it asks to begin, or, as a
// consumer, behind what it has acknowledged.
func (c *conn) open(ctx context.Context, s *socket, grant access.Grant, asked auth, from start) (begin session.Beginning, err error) {
	at := asked.Cursor
	if _, err := event.ParseStart(at); err == nil && from.cursor != nil {
		at = from.cursor.String()
	}
	consumes := grant.Role == access.DesktopApp
	where := &begin
	if consumes && at == "" {
		where = nil
	} else if begin, err = session.Begin(ctx, c.server.Log, "cursor", at); err != nil {
		return begin, err
	}
	if s.sid = newSID(); from.returning && begin.Reset == nil {
		s.sid = from.claim.sid
	}
	if err := c.server.sockets.enter(ctx, s); err != nil {
		return begin, err
	}
	id := s.sid
	if consumes { // what tells its sessions apart must not come back
		id += "." + newSID()
	}
	s.session, err = session.New(session.Config{
		ID: id, Origin: c.origin(), Open: c.server.Open, Sink: s, Grant: grant, Rules: c.server.Rules, Heartbeat: c.server.Heartbeat,
		Start: begin.Cursor, Reset: begin.Reset,
	}, []session.Subscription{{Namespace: s.namespace, Rooms: asked.Rooms}})
	if err != nil {
		return begin, err
	}
	if consumes {
		s.consumer = consumerName(grant.Subject, s.namespace)
		begin, err = s.session.Consume(ctx, c.server.Log, c.server.Consumers, s.consumer, where)
	}
	return begin, err
}

// welcome answers the CONNECT, before the session says anything, and lets it run. Only who
// gets his pid again has missed nothing.
func (c *conn) welcome(s *socket, o owner, begin session.Beginning, from start) error {
	pid, outcome := from.pid, recovered
	if s.sid != from.claim.sid {
		pid = c.server.pids.seal(claim{s.sid, begin.Cursor, time.Now()}, o)
		outcome = started
		if begin.Reset != nil {
			outcome = reset
		} else if from.cursor != nil {
			outcome = resumed
		}
	}
	c.server.metrics.connects.WithLabelValues(string(outcome)).Inc()
	slog.InfoContext(c.ctx, "session begins", "component", "socketio", "session", s.session.ID(),
		"connection", c.id, "remote", c.engine.Remote().String(), "engine", c.engine.Transport(), "namespace", s.namespace,
		"subject", o.grant.Subject, "company", o.grant.Tenant, "role", o.grant.Role, "consumer", s.consumer,
		"recovery", outcome, "cursor", begin.Cursor.String())
	c.join(s)
	err := c.engine.Send(appendJSON(appendHeader(nil, kindConnect, s.namespace, ""), map[string]any{"sid": s.sid, "pid": pid}))
	if err != nil {
		c.forget(s, false)
		s.session.Release()
		return err
	}
	c.server.work.Go(s.run)
	return nil
}

// token is the one in the payload, else that of the connection's first request.
func (c *conn) token(payload []byte) (string, error) {
	var opening struct {
		Token string `json:"token"` // null and "" are none: pages that only send the header may say so
	}
	if err := decode(payload, &opening); err != nil {
		return "", err
	}
	if token := strings.TrimSpace(opening.Token); token != "" {
		if len(token) > len(bearer) && strings.EqualFold(token[:len(bearer)], bearer) {
			token = strings.TrimSpace(token[len(bearer):])
		}
		return token, nil
	}
	if c.engine.Header().Get("Authorization") == "" {
		return "", problem.New(problem.Unauthenticated,
			"there is no token: give the client auth: {token}, or a function that does, or the header Authorization: Bearer and the token")
	}
	return access.BearerToken(&http.Request{Header: c.engine.Header()})
}

// decode reads a CONNECT's payload into v.
func decode(payload []byte, v any) error {
	if payload == nil {
		return nil
	}
	err := json.Unmarshal(payload, v)
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(wrong.Value, " ")
		return problem.New(problem.InvalidMessage, "the field "+wrong.Field+" of auth cannot be of type "+kind).With("path", wrong.Field)
	}
	return err
}
