package peer

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/cluster"
)

// Peers are the other instances: a *cluster.Member.
type Peers interface {
	Peer(ctx context.Context, incarnation uuid.UUID) *cluster.Peer
	Peers(ctx context.Context) []*cluster.Peer
}

// Config is what a Switch needs.
type Config struct {
	Self         uuid.UUID                          // this instance's incarnation
	Keys         [][]byte                           // of access.Peers: the first signs, all verify
	Peers        Peers                              //
	Owner        func(sid string) (uuid.UUID, bool) // the incarnation that has a session
	Client       func(*http.Request) netip.Addr     // where a request comes from that was not passed on
	Dial         func(ctx context.Context, network, address string) (net.Conn, error)
	Patience     time.Duration // for an answer to begin; a poll waits for the ping interval before it does
	WriteTimeout time.Duration // for each piece that a client's WebSocket is sent
	Metrics      prometheus.Registerer
}

// Switch passes requests on to the instances that they are for, and takes those that
// are passed on to this one. It is safe for concurrent use.
type Switch struct {
	config    Config
	metrics   *metrics
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	seen      seen
	warned    atomic.Int64 // when an operator was last told of a failure, in Unix seconds
	takeovers takeovers

	mu     sync.Mutex
	closed bool
	open   map[*passing]struct{}
	ended  sync.WaitGroup
}

// New returns a Switch. Close it.
func New(c Config) *Switch {
	if len(c.Keys) == 0 {
		panic("peer: no key, with which anybody could sign") // the settings see to it that there is one
	}
	s := &Switch{config: c, metrics: newMetrics(c.Metrics), open: map[*passing]struct{}{}}
	s.takeovers.init()
	s.transport = s.newTransport()
	s.proxy = s.newProxy()
	return s
}

// Handler is what stands before the handler of Socket.IO: next gets the requests that
// are this instance's to answer, and those that their owner does not: it does not know
// the session, and says so. takenOver is called with each session that another
// instance has resumed: an older connection of it, which began before that time, is
// to be closed.
func (s *Switch) Handler(next http.Handler, takenOver func(sid string, before time.Time)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner, named := s.config.Owner(r.URL.Query().Get("sid"))
		switch mine := named && owner == s.config.Self; {
		case r.Header[header] != nil:
			s.receive(w, r, mine, next, takenOver)
		case named && !mine:
			s.forward(w, r, owner, next)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// Run tells the others of takeovers until ctx ends.
func (s *Switch) Run(ctx context.Context) error {
	s.announce(ctx)
	return nil
}

// Drain ends the WebSockets that are passed on, one after the other over a time: their
// clients come back elsewhere. Polls end by themselves.
func (s *Switch) Drain(ctx context.Context, over time.Duration) {
	sockets := s.sockets()
	for i, p := range sockets {
		if i > 0 {
			select {
			case <-ctx.Done():
				return
			case <-time.After(over / time.Duration(len(sockets))):
			}
		}
		p.end(errClosed)
	}
}

// Close ends what is passed on, and waits for it until ctx ends: a client may be slow to
// take the rest of an answer. WebSockets are cut.
func (s *Switch) Close(ctx context.Context) {
	s.mu.Lock()
	s.closed = true
	for p := range s.open {
		p.end(errClosed)
	}
	s.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.ended.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	s.transport.CloseIdleConnections()
}
