package engineio

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/wire"
)

// socket is a WebSocket of a connection.
type socket struct {
	*websocket.Conn
	line *wire.Line
	conn *Conn
}

// accept upgrades a request, or refuses it.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, c *Conn) (*socket, bool) {
	capture := &wire.Capture{
		ResponseWriter: w, WriteTimeout: s.WriteTimeout, BodyTimeout: s.BodyTimeout,
		Refuse: func(w http.ResponseWriter) { s.refuse(w, badRequest) },
	}
	k := &socket{conn: c}
	accepted, err := websocket.Accept(capture, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // origins are judged before, by the one rule for both transports
		Subprotocols:       offered(r.Header),
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     k.onPing,
	})
	if err != nil {
		slog.DebugContext(r.Context(), "an upgrade failed", "component", "engineio", "error", err)
		return nil, false
	}
	accepted.SetReadLimit(-1) // ours names the reason
	k.Conn, k.line = accepted, capture.Line
	return k, true
}

// offered is the first of the subprotocols that a client names, as the official server takes it:
// who names some hangs up unless one is chosen (RFC 6455, 4.1).
func offered(h http.Header) []string {
	first, _, _ := strings.Cut(h.Get("Sec-WebSocket-Protocol"), ",")
	return []string{strings.TrimSpace(first)}
}

// open begins a connection with a WebSocket, and returns: it lives on in a goroutine of
// its own, without what the HTTP server holds for a request.
func (s *Server) open(w http.ResponseWriter, r *http.Request, c *Conn) {
	k, ok := s.accept(w, r, c)
	if !ok {
		c.shut(peerLost)
		c.calling.Unlock()
		return
	}
	c.introduce()
	if !s.run(k, func() {
		if c.adopt(k) {
			c.read(k)
		}
		k.hangUp(c.cause())
	}) {
		c.shut(peerLost)
		_ = k.CloseNow()
	}
}

// onPing answers a ping of WebSocket's own. It is called by who reads, and later by who
// waits for the client's close.
func (k *socket) onPing(_ context.Context, payload []byte) bool {
	if k.line.Over() {
		return false
	}
	c := k.conn
	c.calling.Lock()
	e := c.keepPace()
	c.calling.Unlock()
	if e != nil {
		c.shut(*e)
		return false
	}
	k.line.Answer(payload)
	return false // answered
}

// read takes in what comes until the connection ends.
func (c *Conn) read(k *socket) {
	for {
		p, e := k.next()
		if e == nil {
			c.calling.Lock()
			e = c.receive(p)
			c.calling.Unlock()
		}
		if e != nil {
			c.shut(*e)
			return
		}
	}
}

// next reads one packet, or says how the connection is to end.
func (k *socket) next() (packet, *ending) {
	s := k.conn.server
	kind, r, err := k.Reader(context.Background())
	if err != nil {
		return packet{}, lost(err)
	}
	data, err := k.line.ReadMessage(r, s.MaxPayload)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.Limits.Hit(limit.BodyTimeout)
		return packet{}, &ending{reason: session.MessageTimeout, word: transportError}
	case err != nil:
		return packet{}, lost(err)
	case int64(len(data)) > s.MaxPayload:
		s.Limits.Hit(limit.MessageBytes)
		return packet{}, &ending{reason: session.TooLarge, word: transportError}
	case kind == websocket.MessageBinary:
		return packet{kind: messagePacket, binary: true, data: data}, nil
	}
	p, err := parsePacket(data)
	if err != nil {
		return packet{}, &unparsable
	}
	return p, nil
}

// lost is how a connection ends that failed while it was read.
func lost(err error) *ending {
	if websocket.CloseStatus(err) != -1 || errors.Is(err, io.EOF) {
		return &peerLeft
	}
	return &peerLost
}

// adopt switches to a socket. What waits goes there first, in order, and a GET that
// waits gets nothing of it. It reports false if the connection is closed, or another
// tries to upgrade it.
func (c *Conn) adopt(k *socket) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed || c.probe != nil && c.probe != k {
		return false
	}
	if c.phase == onPolling {
		c.server.metrics.connections.WithLabelValues(polling).Dec()
		c.server.metrics.connections.WithLabelValues(webSocket).Inc()
	}
	c.phase, c.transport, c.socket, c.probe = switching, webSocket, k, nil
	if !c.endBy.IsZero() {
		k.line.EndBy(c.endBy)
	}
	c.polled = nil
	if p := c.parked; p != nil {
		c.parked = nil
		p.answer <- answer{refusal: &badRequest}
	}
	for len(c.out) > 0 {
		frames := appendFrames(nil, c.take())
		c.mu.Unlock()
		err := c.wrote(k.line.Send(frames))
		c.mu.Lock()
		c.took()
		if err != nil {
			return false
		}
	}
	if c.phase == closed {
		return false
	}
	c.phase = upgraded
	return true
}

// appendFrames appends the packets of a payload, each in a frame.
func appendFrames(b, payload []byte) []byte {
	for text := range bytes.SplitSeq(payload, []byte{separator}) {
		b = append(wire.AppendHeader(b, wire.Text, false, len(text)), text...)
	}
	return b
}

// wrote takes the result of a write to the socket. What it returns is the reason that the
// connection has ended for.
func (c *Conn) wrote(err error) error {
	if err == nil {
		return nil
	}
	e := peerLost
	if errors.Is(err, session.Slow) {
		e.reason = session.Slow
	}
	c.shut(e)
	return c.cause()
}
