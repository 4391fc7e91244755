// Package sse serves GET /v1/stream: the session as server-sent events, for a
// plain EventSource.
//
// Each event has its cursor as id, so the browser's own Last-Event-ID is the
// resume point. What can be refused is refused before the stream starts; after
// that the answer is 200, and a cursor that cannot be served is a
// tailroom.reset event.
package sse

import (
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

const (
	// minRetry is the least a browser is told to wait before it comes back, and
	// as much again is drawn by lot.
	minRetry = time.Second
	// keepBuffer is the capacity above which a buffer is not kept.
	keepBuffer = 16 << 10
)

// Config is what a Handler needs.
type Config struct {
	Authenticate func(r *http.Request) (access.Grant, error)
	Log          session.Locator
	Open         session.Opener
	Sessions     *session.Registry
	Rules        session.Rules
	Namespaces   []string // followed when the request names none
	Heartbeat    time.Duration
	WriteTimeout time.Duration
	Limits       *limit.Limits
	Client       func(*http.Request) netip.Addr
	Metrics      prometheus.Registerer
}

// Handler serves GET /v1/stream. The ResponseWriter sees to it that each write is
// taken in time.
type Handler struct {
	Config
	events prometheus.Counter
	bytes  prometheus.Counter
}

// New returns a Handler.
func New(c Config) *Handler {
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"transport": "sse"}, c.Metrics))
	return &Handler{
		Config: c,
		events: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_events_total", Help: "Events written to sockets.",
		}),
		bytes: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_bytes_total", Help: "Bytes written to sockets by sessions.",
		}),
	}
}

// ServeHTTP streams until the client leaves or the session ends.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := &stream{handler: h, w: w, control: http.NewResponseController(w)}
	remote := h.Client(r)
	address, err := h.Limits.Address(remote)
	if err != nil {
		problem.From(err).Write(w)
		return
	}
	defer address.Leave()
	defer func() { s.company.Leave() }()
	opened, err := h.open(r, s)
	if err != nil {
		problem.From(err).Write(w)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // nginx must not collect what is live
	w.WriteHeader(http.StatusOK)
	retry := minRetry + rand.N(minRetry)
	if s.write(append(strconv.AppendInt([]byte("retry: "), retry.Milliseconds(), 10), "\n\n"...)) != nil {
		return
	}
	grant := opened.Grant()
	slog.InfoContext(r.Context(), "session begins", "component", "sse", "session", opened.ID(), "remote", remote.String(),
		"subject", grant.Subject, "company", grant.Tenant, "role", grant.Role, "cursor", opened.Cursor().String())
	reason := h.Sessions.Run(r.Context(), opened)
	slog.InfoContext(r.Context(), "session ended", "component", "sse", "session", opened.ID(), "remote", remote.String(),
		"subject", grant.Subject, "reason", reason.Name, "cursor", opened.Cursor().String())
}

// open makes the session that the request asks for.
func (h *Handler) open(r *http.Request, s *stream) (*session.Session, error) {
	grant, err := h.Authenticate(r)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil { // what is left of it could ask for more than was meant
		return nil, problem.New(problem.InvalidParameter, "the query cannot be read, or has more than 10,000 parameters")
	}
	if grant, err = grant.Name(query.Get("companyId")); err != nil {
		return nil, err
	}
	if s.company, err = h.Limits.Session(grant.Tenant); err != nil {
		return nil, err
	}
	wanted := query.Get("cursor")
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		wanted = last
	}
	namespaces := query["namespace"]
	if len(namespaces) == 0 {
		namespaces = h.Namespaces
	}
	// The namespaces share one list of rooms, however many of both a query has.
	rooms, list := distinct(query["room"]), []session.Subscription(nil)
	for _, namespace := range distinct(namespaces) {
		list = append(list, session.Subscription{Namespace: namespace, Rooms: rooms})
	}
	begin, err := session.Begin(r.Context(), h.Log, "cursor", wanted)
	if err != nil {
		return nil, err
	}
	if begin.Asked.Origin == event.At {
		s.given = begin.Asked.Cursor
	}
	return session.New(session.Config{
		ID: uuid.NewString(), Origin: session.Origin{Transport: "sse", Address: h.Client(r).String()}, Open: h.Open,
		Sink: s, Grant: grant, Rules: h.Rules, Heartbeat: h.Heartbeat,
		Start: begin.Cursor, Reset: begin.Reset,
	}, list)
}

func distinct(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// stream is one response, the sink of its session.
type stream struct {
	handler *Handler
	w       http.ResponseWriter
	control *http.ResponseController
	company limit.Seat
	given   event.Cursor // the id the client has
	buf     []byte
}

// Send writes a session's frame.
func (s *stream) Send(f *session.Frame) error {
	s.buf = s.append(s.buf[:0], f)
	if err := s.write(s.buf); err != nil {
		return err
	}
	s.handler.events.Add(float64(len(f.Entries)))
	s.handler.bytes.Add(float64(len(s.buf)))
	if cap(s.buf) > keepBuffer {
		s.buf = nil // a replay's buffer is not kept by who is idle
	}
	return nil
}

// Heartbeat writes a comment; a line that is dead fails it in time.
func (s *stream) Heartbeat() error { return s.write([]byte(":\n\n")) }

// EndBy leaves one write timeout from then on.
func (s *stream) EndBy(t time.Time) { _ = s.control.SetWriteDeadline(t.Add(s.handler.WriteTimeout)) }

func (s *stream) append(b []byte, f *session.Frame) []byte {
	switch f.Kind {
	case session.Events:
		for _, e := range f.Entries {
			b = e.Cursor.Append(append(b, "id: "...))
			b = append(append(b, "\nevent: "...), e.Type...)
			b = append(append(b, "\ndata: "...), e.JSON()...)
			b = append(b, "\n\n"...)
		}
		s.given = f.Entries[len(f.Entries)-1].Cursor
	case session.Bookmark:
		b = append(s.appendID(b, f.Cursor), '\n')
	case session.Live:
		// A client that brought no cursor gets its resume point here, so that
		// it misses nothing when the line breaks before the first event.
		b = appendControl(s.appendID(b, f.Cursor), "live", map[string]any{
			"cursor": f.Cursor, "heartbeatMs": s.handler.Heartbeat.Milliseconds(),
		})
	case session.Reset:
		b = appendControl(s.appendID(b, f.Reset.Resume), "reset", map[string]any{
			"reason": f.Reset.Reason, "oldest": f.Reset.Oldest, "resume": f.Reset.Resume, "snapshot": session.SnapshotPath,
		})
	case session.Degraded:
		b = appendControl(b, "degraded", map[string]any{"reason": f.Text})
	case session.Expiring:
		b = appendControl(b, "expiring", map[string]any{"expiresAt": f.Expires.UTC()})
	case session.GoAway:
		b = appendControl(b, "goaway", map[string]any{"reason": f.Text, "delayMs": f.Delay.Milliseconds()})
	case session.Snapshot: // nobody asks for one here
	}
	return b
}

// appendID appends an id line if it moves the client's cursor.
func (s *stream) appendID(b []byte, c event.Cursor) []byte {
	if c == s.given {
		return b
	}
	s.given = c
	return append(c.Append(append(b, "id: "...)), '\n')
}

func appendControl(b []byte, name string, data map[string]any) []byte {
	encoded, err := json.Marshal(data)
	if err != nil {
		panic("sse: unencodable control event: " + err.Error()) // strings, numbers and cursors
	}
	b = append(append(b, "event: tailroom."...), name...)
	b = append(append(b, "\ndata: "...), encoded...)
	return append(b, "\n\n"...)
}

// write writes and flushes. It fails with session.Slow when the peer did not take it
// in time.
func (s *stream) write(b []byte) error {
	_, err := s.w.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return session.Slow
	}
	return err
}
