package ws

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
	"github.com/tailroom/tailroom/internal/request"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/wire"
)

// Subprotocol is what this package speaks.
const Subprotocol = "tailroom.v1"

// Log is what a connection needs of the hub.
type Log interface {
	session.Locator

	Tip() event.Cursor
}

// Publisher is what a connection needs to publish.
type Publisher interface {
	Submit(grant access.Grant, source any, events []json.RawMessage) (*publish.Pending, error)
}

// Requester is what a connection needs to ask.
type Requester interface {
	Ask(grant access.Grant, present func() access.Grant, source any, raw json.RawMessage) (*request.Asked, error)
}

// Config is what a Handler needs.
type Config struct {
	Instance     func() string // its name
	Verify       func(token string) (access.Grant, error)
	Log          Log
	Open         session.Opener
	States       session.States
	Sessions     *session.Registry
	Rules        session.Rules
	Publisher    Publisher
	Requester    Requester
	Consumers    session.Consumers
	Heartbeat    time.Duration
	WriteTimeout time.Duration
	HelloTimeout time.Duration
	BodyTimeout  time.Duration // for a message, from its first frame's header on
	MaxMessage   int64         // bytes of a client's message
	Limits       *limit.Limits
	Client       func(*http.Request) netip.Addr
	Metrics      prometheus.Registerer
}

// Handler serves GET /v1/ws.
type Handler struct {
	Config
	metrics *metrics
	ctx     context.Context //nolint:containedctx // the connections' life, which outlasts their requests
	stop    context.CancelFunc

	mu    sync.Mutex
	open  map[*conn]struct{}
	conns sync.WaitGroup // their goroutines
}

// New returns a Handler. Close it.
func New(c Config) *Handler {
	h := &Handler{Config: c, metrics: newMetrics(c.Metrics), open: map[*conn]struct{}{}}
	h.ctx, h.stop = context.WithCancel(context.Background())
	return h
}

// Close ends what is left when the sessions have been drained: connections
// that are saying goodbye may finish until ctx ends, all others are cut.
func (h *Handler) Close(ctx context.Context) {
	h.mu.Lock()
	h.stop()
	h.mu.Unlock()
	h.cut(func(c *conn) bool { return !c.leaving.Load() })
	ended := context.AfterFunc(ctx, func() { h.cut(func(*conn) bool { return true }) })
	defer ended()
	h.conns.Wait()
}

// cut ends the connections that are meant.
func (h *Handler) cut(meant func(*conn) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.open {
		if meant(c) {
			c.line.Cut()
		}
	}
}

// ServeHTTP upgrades the request, hears the hello, and returns: the connection
// lives on in goroutines of its own, without what the HTTP server holds for a
// request and without the stack that a hello takes.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		problem.New(problem.InvalidParameter, "this is a WebSocket endpoint: connect with subprotocol "+Subprotocol).Write(w)
		return
	}
	if offered := r.Header.Values("Sec-WebSocket-Protocol"); len(offered) > 0 && !offers(offered) {
		problem.New(problem.InvalidParameter, "no subprotocol in common").
			With("allowed", []string{Subprotocol}).Write(w)
		return
	}
	client := h.Client(r)
	address, err := h.Limits.Address(client)
	if err != nil {
		problem.From(err).Write(w)
		return
	}
	capture := &wire.Capture{ResponseWriter: w, WriteTimeout: h.WriteTimeout, BodyTimeout: h.BodyTimeout, Refuse: refuse}
	c := &conn{handler: h, address: address, remote: client.String(), pace: h.Limits.Pace()}
	ws, err := websocket.Accept(capture, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // origins are judged before, by the one rule for all routes
		CompressionMode:    websocket.CompressionNoContextTakeover,
		OnPingReceived:     c.onPing,
	})
	if err != nil {
		address.Leave()
		slog.DebugContext(r.Context(), "an upgrade failed", "component", "ws", "error", err)
		return
	}
	c.ws, c.line = ws, capture.Line
	c.deflate = strings.Contains(w.Header().Get("Sec-WebSocket-Extensions"), "permessage-deflate")

	if !h.enter(c) {
		address.Leave()
		_ = ws.CloseNow() // the instance is gone
		return
	}
	if err := c.hello(h.ctx); err != nil {
		c.end(err)
		h.leave(c)
		return
	}
	go func() {
		defer h.leave(c)
		c.serve(h.ctx)
	}()
}

// enter counts a connection in, unless the handler is closed.
func (h *Handler) enter(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ctx.Err() != nil {
		return false
	}
	h.open[c] = struct{}{}
	h.conns.Add(1)
	return true
}

func (h *Handler) leave(c *conn) {
	c.address.Leave()
	c.company.Leave()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, c)
	h.conns.Done()
}

// refuse says as a problem what the library says in plain text.
func refuse(w http.ResponseWriter) {
	problem.New(problem.InvalidParameter, "this is not the handshake of a WebSocket: RFC 6455, version 13").Write(w)
}

func offers(headers []string) bool {
	return slices.ContainsFunc(headers, func(header string) bool {
		return slices.ContainsFunc(strings.Split(header, ","), func(name string) bool {
			return strings.EqualFold(strings.TrimSpace(name), Subprotocol)
		})
	})
}

// metrics are the transport's figures.
type metrics struct {
	events   prometheus.Counter
	bytes    prometheus.Counter
	messages prometheus.Counter
	invalid  prometheus.Counter
	refused  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"transport": "websocket"}, reg))
	return &metrics{
		events: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_events_total", Help: "Events written to sockets.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_bytes_total", Help: "Bytes written to sockets by sessions.",
		}),
		messages: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_received_messages_total", Help: "Messages received from clients.",
		}),
		invalid: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_received_invalid_total", Help: "Of those, messages that were refused as invalid.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_hello_refused_total", Help: "Connections whose hello was refused, by error code.",
		}, []string{"code"}),
	}
}

func (m *metrics) sent(f *session.Frame, bytes int) {
	m.events.Add(float64(len(f.Entries)))
	m.bytes.Add(float64(bytes))
}
