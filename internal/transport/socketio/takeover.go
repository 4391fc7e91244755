package socketio

import (
	"context"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/session"
)

// takeOverTimeout bounds the wait for the end of a predecessor.
const takeOverTimeout = 5 * time.Second

// sockets are those of the instance, by their public ids. A client that comes back has the
// id of before, and the server may not have noticed yet that the old connection is dead.
type sockets struct {
	mu    sync.Mutex
	bySID map[string]entry
}

// entry is a socket, and since when it has its id here.
type entry struct {
	socket *socket
	since  time.Time
}

// enter gives a socket its id when nobody has it any more: the older ones are ended, and
// waited for.
func (x *sockets) enter(ctx context.Context, s *socket) error {
	return x.supersede(ctx, func() *socket { return x.put(s) })
}

// free sees to it that nobody has an id.
func (x *sockets) free(ctx context.Context, sid string) error {
	return x.supersede(ctx, func() *socket {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.bySID[sid].socket
	})
}

// supersede ends what next finds until there is nothing.
func (x *sockets) supersede(ctx context.Context, next func() *socket) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverTimeout)
	defer cancel()
	for {
		older := next()
		if older == nil {
			return nil
		}
		older.conn.server.metrics.takenOver.Inc()
		older.conn.engine.Close(session.Replaced) // the client has given it up
		if err := older.awaitEnd(ctx); err != nil {
			return err
		}
	}
}

// put gives a socket its id, unless it returns one that must end first.
func (x *sockets) put(s *socket) *socket {
	x.mu.Lock()
	defer x.mu.Unlock()
	if e, taken := x.bySID[s.sid]; taken {
		return e.socket
	}
	x.bySID[s.sid] = entry{s, time.Now()}
	return nil
}

// leave takes a socket's id away.
func (x *sockets) leave(s *socket) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.bySID[s.sid].socket == s {
		delete(x.bySID, s.sid)
	}
}

// supersede ends the socket with a public id whose client has come back: here, and, without
// waiting, elsewhere. That is said before the client has an answer, so that it is older than
// whatever the client does next on another instance.
func (s *Server) supersede(ctx context.Context, sid string) error {
	s.Returned(sid)
	return s.sockets.free(ctx, sid)
}

// Supersede ends the connection of the socket with a public id, if it has had it since before
// a time: its client has come back to another instance.
func (s *Server) Supersede(sid string, before time.Time) {
	s.sockets.mu.Lock()
	e, taken := s.sockets.bySID[sid]
	s.sockets.mu.Unlock()
	if taken && e.since.Before(before) {
		s.metrics.takenOver.Inc()
		e.socket.conn.engine.Close(session.Replaced)
	}
}
