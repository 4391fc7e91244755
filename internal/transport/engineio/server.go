package engineio

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// Version is that of the protocol.
const Version = 4

// fullRetry and drainRetry are when to try again where there is no room.
const (
	fullRetry  = 5 * time.Second
	drainRetry = time.Second
)

// foreignAtOnce is how many refused origins are logged at once; then one in a second is.
const foreignAtOnce = 20

// lastAsk is how long clients that poll have to ask once more when the server closes.
const lastAsk = time.Second

// Message is the payload of one message packet. Text is not judged: it may be no
// JSON, nor UTF-8.
type Message struct {
	Binary bool
	Data   []byte // the receiver's to keep
}

// Handler talks over one Conn. Its methods are called one after the other. They may
// call those of the Conn.
type Handler interface {
	// Message takes a message. The connection waits for it, but for its heartbeats. An
	// error ends the connection, for the session.Reason in its chain, else as one that
	// cannot be parsed.
	Message(m Message) error
	// Pinged says that a ping will be placed behind all that has been sent until now. A
	// ping that comes while another method runs is not told, nor is its pong.
	Pinged()
	// Ponged says that the ping which was told of last has been answered.
	Ponged()
	// Upgraded says that Transport is another from now on.
	Upgraded()
	// Closed is the last, and called once: with the reason in Socket.IO's words.
	Closed(reason string)
}

// Config is what a Server needs.
type Config struct {
	Owner   uuid.UUID // this instance, as session ids name it
	Origins access.Origins
	// Admit judges a handshake. The seat is left when the connection ends; an error, a
	// *problem.Error, is the answer.
	Admit        func(*http.Request) (limit.Seat, error)
	Accept       func(*Conn) Handler // is called once for each connection
	Client       func(*http.Request) netip.Addr
	Passed       func(*http.Request) bool // whether another instance has passed it on
	Limits       *limit.Limits
	PingInterval time.Duration // from a pong to the next ping
	PingTimeout  time.Duration // from a ping to its pong
	WriteTimeout time.Duration // in which a peer must take something of what is sent
	BodyTimeout  time.Duration // for a WebSocket's message, from its first frame's header on
	MaxPayload   int64         // bytes of a client's message, or of the payload of a POST
	MaxConns     int           // of both transports: who polls may have none open that is counted
	Metrics      prometheus.Registerer
}

// Server answers what is asked of Engine.IO's path. It is an http.Handler.
type Server struct {
	Config
	handler http.Handler
	metrics *metrics
	foreign *rate.Limiter // refused origins that are logged
	places  *limit.Shares // of connections that are not closed

	mu      sync.Mutex
	conns   map[string]*Conn     // by session id; some that are closed, of which a GET is to learn
	sockets map[*socket]struct{} // each with a goroutine
	closed  bool
	known   chan struct{}  // closed when the server is and no session id is known any more
	working sync.WaitGroup // connections until their Handlers are done, and sockets
}

// New returns a Server. Close it.
func New(c Config) *Server {
	s := &Server{
		Config: c, metrics: newMetrics(c.Metrics), foreign: rate.NewLimiter(1, foreignAtOnce),
		places: limit.NewShares(c.MaxConns), conns: map[string]*Conn{},
		sockets: map[*socket]struct{}{}, known: make(chan struct{}),
	}
	s.handler = c.Origins.Guard(http.HandlerFunc(s.route), http.HandlerFunc(s.refuseOrigin))
	return s
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// Close ends every connection, also GETs that wait, so it comes before the shutdown of
// the http.Server. Clients that poll, and did not just then, have a moment to ask once more.
// Sockets that say goodbye may finish until ctx ends; then they are cut.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	open := slices.Collect(maps.Values(s.conns))
	s.mu.Unlock()
	for _, c := range open {
		c.Close(session.Draining)
	}
	ended := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for k := range s.sockets {
			k.line.Cut()
		}
	})
	defer ended()
	s.working.Wait()
	asked := time.NewTimer(lastAsk)
	defer asked.Stop()
	s.forget("") // perhaps nobody is known
	select {
	case <-s.known:
	case <-asked.C:
	case <-ctx.Done():
	}
}

// find returns the connection of a session id, or nil.
func (s *Server) find(sid string) *Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[sid]
}

// enter counts a connection in.
func (s *Server) enter(c *Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return problem.New(problem.Draining, "this instance is going away: connect again to reach another").RetryAfter(drainRetry)
	}
	place, ok := s.places.Take(c.remote)
	if !ok {
		s.Limits.Hit(limit.Connections)
		return problem.New(problem.Overloaded, "this instance has as many connections as it may have, or as this address may have of them").
			RetryAfter(fullRetry)
	}
	c.place = place
	s.conns[c.sid] = c
	s.working.Add(1)
	return nil
}

// leave counts a connection out whose Handler is done.
func (s *Server) leave(c *Conn) {
	c.seat.Leave()
	c.place.Leave()
	s.working.Done()
}

// forget makes a session id unknown.
func (s *Server) forget(sid string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, sid)
	if s.closed && len(s.conns) == 0 {
		select {
		case <-s.known:
		default:
			close(s.known)
		}
	}
}

// run runs a socket in a goroutine of its own, unless the server is closed.
func (s *Server) run(k *socket, serve func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.sockets[k] = struct{}{}
	s.working.Go(func() {
		defer s.end(k)
		serve()
	})
	return true
}

func (s *Server) end(k *socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, k)
}
