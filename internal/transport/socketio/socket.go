package socketio

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// forever is how long a token lasts whose end does not count.
const forever = 100 * 365 * 24 * time.Hour

// errLeft is the end of a session whose client has left its namespace.
var errLeft = errors.New("the client left the namespace")

// final are the reasons for which a client must not come back by itself: it is sent out of
// the namespace. For all others the connection is closed, and its library connects again.
var final = []session.Reason{session.TokenRevoked, session.Disconnected, session.Replaced}

// socket is a namespace that a connection has joined.
type socket struct {
	conn      *conn
	namespace string
	trailing  bool   // each event carries its offset
	sid       string // its public id
	session   *session.Session
	seat      limit.Seat
	ctx       context.Context //nolint:containedctx // the session's life
	cancel    context.CancelCauseFunc
	done      chan struct{} // closed when the session has ended

	consumer string       // "": it is none
	pinged   event.Cursor // what the ping that is out covers; the reader's

	mu      sync.Mutex
	flushed event.Cursor // what the session has sent
	overdue *time.Timer  // cuts a connection whose peer holds the session's end up
	left    bool
}

func newSocket(c *conn, namespace string) *socket {
	s := &socket{
		conn: c, namespace: namespace, trailing: slices.Contains(c.server.Trailing, namespace), done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancelCause(c.ctx)
	return s
}

// run runs the session, and ends the connection or leaves the namespace when it has ended.
func (s *socket) run() {
	reason := s.conn.server.Sessions.Run(s.ctx, s.session)
	slog.InfoContext(s.ctx, "session ended", "component", "socketio", "session", s.session.ID(), "namespace", s.namespace,
		"subject", s.session.Grant().Subject, "reason", reason.Name, "cursor", s.session.Cursor().String())
	s.conn.forget(s, true) // unless the client has left
	switch {
	case errors.Is(context.Cause(s.ctx), errLeft):
	case !slices.Contains(final, reason):
		s.conn.engine.Close(reason)
	case s.conn.ctx.Err() == nil:
		_ = s.conn.engine.Send(appendHeader(nil, kindDisconnect, s.namespace, "")) // who is gone needs none
	}
	s.leave()
}

// leave gives back what the socket holds.
func (s *socket) leave() {
	s.cancel(errLeft)
	s.mu.Lock()
	if s.left = true; s.overdue != nil {
		s.overdue.Stop()
	}
	s.mu.Unlock()
	s.seat.Leave()
	s.conn.server.sockets.leave(s)
	s.conn.left(s)
	close(s.done)
}

// awaitEnd waits until the socket has said its last. The error is a *problem.Error.
func (s *socket) awaitEnd(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return problem.New(problem.Unavailable, "the connection of before does not come to its end").RetryAfter(time.Second)
	}
}

// EndBy leaves one write timeout from then on: then the connection is cut.
func (s *socket) EndBy(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.left {
		return
	}
	within := time.Until(t) + s.conn.server.WriteTimeout
	if s.overdue == nil {
		s.overdue = time.AfterFunc(within, func() { s.conn.engine.Close(session.Slow) })
		return
	}
	s.overdue.Reset(within)
}
