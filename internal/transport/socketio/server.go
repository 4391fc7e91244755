package socketio

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/engineio"
)

// Transport is what sessions of this package are counted as.
const Transport = "socketio"

// Publisher is what a connection needs to publish.
type Publisher interface {
	Submit(grant access.Grant, source any, events []json.RawMessage) (*publish.Pending, error)
}

// Requester is what a connection needs to ask.
type Requester interface {
	Ask(grant access.Grant, present func() access.Grant, source any, raw json.RawMessage) (*request.Asked, error)
}

// Config is what a Server needs.
type Config struct {
	Verify    func(token string) (access.Grant, error)
	Log       session.Locator
	Open      session.Opener
	Sessions  *session.Registry
	Rules     session.Rules
	Publisher Publisher
	Requester Requester
	Consumers session.Consumers
	// Replies reports whether the acknowledgement of an event type waits for its
	// reply.
	Replies func(namespace, name string) bool
	// Keys make pids: the first signs, all verify. There is one at least.
	Keys [][]byte
	// Trailing are the namespaces whose events carry their offset as their last
	// argument; in the others it comes behind them, in an event of its own.
	Trailing []string
	// KeepExpired lets sessions live on when their token has expired.
	KeepExpired bool
	// Returned is told of each public id that a client came back with, so that other
	// instances hear of it, too. It must not block.
	Returned       func(sid string)
	Heartbeat      time.Duration // between two bookmarks
	WriteTimeout   time.Duration
	ConnectTimeout time.Duration // in which a connection must have joined a namespace
	MaxMessage     int64         // bytes of an event's attachments
	Limits         *limit.Limits
	Metrics        prometheus.Registerer
}

// Server talks over the connections of an engineio.Server, of which its Accept is the
// configuration.
type Server struct {
	Config
	metrics *metrics
	pids    sealer
	sockets sockets
	work    sync.WaitGroup // connections, and what is under way for them
}

var _ engineio.Handler = (*conn)(nil)

// New returns a Server. Close it.
func New(c Config) *Server {
	return &Server{Config: c, metrics: newMetrics(c.Metrics), pids: c.Keys, sockets: sockets{bySID: map[string]entry{}}}
}

// Accept begins to talk over a connection.
func (s *Server) Accept(engine *engineio.Conn) engineio.Handler {
	s.work.Add(1)
	return &conn{server: s, engine: engine, id: newSID(), ctx: engine.Context(), tooLate: time.AfterFunc(s.ConnectTimeout, func() {
		s.Limits.Hit(limit.HelloTimeout)
		engine.Close(session.HelloTimeout)
	})}
}

// Close waits until the connections, which the engine has closed, have nothing under
// way any more, or ctx ends.
func (s *Server) Close(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}
