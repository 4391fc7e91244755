package socketio

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/engineio"
)

// conn is one connection, as its packets see it. The engine calls its methods one
// after the other; each joined namespace has a goroutine beside.
type conn struct {
	server  *Server
	engine  *engineio.Conn
	id      string          // for operators; what names it in its requests is a secret
	ctx     context.Context //nolint:containedctx // the connection's life
	tooLate *time.Timer     // rings unless a namespace is joined

	mu      sync.Mutex
	joined  []*socket
	leaving []*socket // are not joined any more, and may still say something
	closed  []string  // namespaces that the server has left, of which the client may not know yet

	assembly   *assembly // nil: no attachments are awaited
	flooded    bool      // it was refused for its speed too often
	refused    int       // CONNECTs in a row
	turnedAway bool      // it is to try again with another connection
	publishing chan struct{}
	asking     atomic.Int32
}

// Message reads a packet, or an attachment of one.
func (c *conn) Message(m engineio.Message) error {
	c.server.metrics.messages.Inc()
	err := c.message(m)
	if err == nil && c.flooded {
		err = session.Overloaded
	}
	if _, known := errors.AsType[session.Reason](err); err != nil && !known {
		c.server.metrics.invalid.Inc()
	}
	return err
}

func (c *conn) message(m engineio.Message) error {
	switch {
	case m.Binary && c.assembly != nil:
		s, _ := c.find(c.assembly.packet.namespace)
		_ = c.pace(s) // the packet will be refused
		complete, err := c.assembly.add(m.Data, c.server.MaxMessage)
		if !complete || err != nil {
			return err
		}
		p, err := c.assembly.whole()
		if c.assembly = nil; err != nil {
			return err
		}
		return c.packet(p)
	case m.Binary || c.assembly != nil:
		return errPacket
	}
	p, err := parsePacket(m.Data)
	if err != nil {
		return err
	}
	if p.binary() {
		if s, known := c.find(p.namespace); s == nil && !known {
			return errPacket
		}
		c.assembly = assemble(p)
		return nil
	}
	return c.packet(p)
}

// packet does what a packet asks for. Its error ends the connection.
func (c *conn) packet(p packet) error {
	s, known := c.find(p.namespace)
	tooFast := c.pace(s)
	switch {
	case p.kind == kindConnect && s != nil, p.kind == kindConnectError, p.kind != kindConnect && s == nil && !known:
		return errPacket
	case p.kind == kindConnect && tooFast != nil:
		return c.refuse(p.namespace, tooFast)
	case p.kind == kindConnect:
		return c.connect(p)
	case s == nil: // it was on its way when the server left
	case p.kind == kindDisconnect:
		c.forget(s, false)
		s.cancel(errLeft)
	case p.kind == kindEvent && tooFast != nil:
		emitted(s, p).fail(tooFast)
	case p.kind == kindEvent:
		c.event(s, p)
	}
	return nil // nobody waits for an acknowledgement
}

// origin is where the sessions of the connection come from.
func (c *conn) origin() session.Origin {
	return session.Origin{
		Transport: Transport, Connection: c.id, Address: c.engine.Remote().String(),
		Engine: func() session.Engine {
			return session.Engine{Transport: c.engine.Transport(), Version: engineio.Version}
		},
	}
}

// Upgraded has operators see it.
func (c *conn) Upgraded() {
	for _, s := range c.sockets() {
		c.server.Sessions.Review(s.session)
	}
}

// find returns the socket of a namespace. Without one, known says that there was one.
func (c *conn) find(namespace string) (s *socket, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.joined, func(s *socket) bool { return s.namespace == namespace }); i >= 0 {
		return c.joined[i], true
	}
	return nil, slices.Contains(c.closed, namespace)
}

// join makes a socket known.
func (c *conn) join(s *socket) {
	c.tooLate.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.joined = append(c.joined, s)
	c.closed = slices.DeleteFunc(c.closed, func(namespace string) bool { return namespace == s.namespace })
}

// forget takes a socket away. The server may have been the one who left.
func (c *conn) forget(s *socket, byServer bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.joined, s)
	if i < 0 {
		return
	}
	c.joined = slices.Delete(c.joined, i, i+1)
	c.leaving = append(c.leaving, s)
	if byServer {
		c.closed = append(c.closed, s.namespace)
	}
}

// left takes a socket away that has said its last.
func (c *conn) left(s *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = slices.DeleteFunc(c.leaving, func(other *socket) bool { return other == s })
}

// awaitEnd waits until those who were in a namespace before are silent: what they say, and
// their DISCONNECT, the client would take for the next one's.
func (c *conn) awaitEnd(namespace string) error {
	ctx, cancel := context.WithTimeout(c.ctx, takeOverTimeout)
	defer cancel()
	c.mu.Lock()
	leaving := slices.Clone(c.leaving)
	c.mu.Unlock()
	for _, s := range leaving {
		if s.namespace != namespace {
			continue
		}
		if err := s.awaitEnd(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sockets are those of the namespaces that are joined.
func (c *conn) sockets() []*socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.joined)
}

// Closed is called when the connection has ended, and the sessions with it.
func (c *conn) Closed(string) {
	c.tooLate.Stop()
	c.server.work.Done()
}

// pace counts a message for a socket, or for none.
func (c *conn) pace(s *socket) error {
	company := ""
	if s != nil {
		company = s.session.Grant().Tenant
	}
	tooFast := c.engine.Pace().Frame(company)
	c.slow(tooFast)
	return tooFast
}

// slow takes note if the client was refused for its speed.
func (c *conn) slow(err error) {
	if err != nil && problem.From(err).Code == problem.RateLimited {
		c.flooded = c.flooded || c.engine.Pace().Flooding()
	}
}
