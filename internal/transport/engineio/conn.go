package engineio

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/wire"
)

const (
	// maxBuffered is how much waits for a client that polls, in bytes, before senders
	// wait for it as well. What is sent at once fits always.
	maxBuffered = 256 << 10
	// keepBuffer is the capacity above which a buffer is not kept for reuse.
	keepBuffer = 256 << 10
	// maxAuthorization is the longest header of that name, in bytes.
	maxAuthorization = 8 << 10
	authorization    = "Authorization"
)

// phase is how a Conn sends.
type phase int

const (
	onPolling phase = iota // into the buffer, which a GET takes
	switching              // into the buffer, which is being emptied to the socket
	upgraded               // to the socket
	closed
)

// Conn is a connection, over whatever transport. Its methods are safe for concurrent use.
type Conn struct {
	server *Server
	sid    string // a secret
	header http.Header
	remote netip.Addr
	seat   limit.Seat
	place  limit.Seat      // since it was entered
	ctx    context.Context //nolint:containedctx // the connection's life, which outlasts its requests
	cancel context.CancelCauseFunc

	calling sync.Mutex // held while the handler is called, and until there is one
	handler Handler
	pace    limit.Pace // for who holds calling

	mu        sync.Mutex
	phase     phase
	transport string
	out       []byte        // the payload that waits
	parked    *poll         // the GET that waits; out is empty then
	polled    *poll         // the last GET
	posting   bool          // a POST is being read
	taking    int           // how often out is being written now
	taken     time.Time     // when that ended last
	room      chan struct{} // closed when senders that wait are to look again; nil if none does
	endBy     time.Time     // when senders that wait have one timeout left; zero: never
	socket    *socket       // since switching
	upgrading bool          // somebody tries to upgrade
	probe     *socket       // on which he does
	reason    session.Reason
	farewell  [][]byte // once closed: what each GET that still comes gets
	beat      heartbeat
}

func (s *Server) newConn(r *http.Request, seat limit.Seat, transport string) *Conn {
	c := &Conn{
		server: s, sid: newSID(s.Owner), header: keptHeader(r.Header), remote: s.Client(r),
		seat: seat, transport: transport, pace: s.Limits.Pace(),
	}
	if transport == webSocket {
		c.phase = switching
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.out = appendPacket(nil, openPacket, c.opening())
	c.calling.Lock() // until introduce
	return c
}

func keptHeader(h http.Header) http.Header {
	return http.Header{authorization: slices.Clone(h[authorization])}
}

// opening is what the peer is told first.
func (c *Conn) opening() []byte {
	upgrades := []string{}
	if c.transport == polling {
		upgrades = append(upgrades, webSocket)
	}
	b, err := json.Marshal(struct {
		SID          string   `json:"sid"`
		Upgrades     []string `json:"upgrades"`
		PingInterval int64    `json:"pingInterval"` // ms
		PingTimeout  int64    `json:"pingTimeout"`  // ms
		MaxPayload   int64    `json:"maxPayload"`
	}{c.sid, upgrades, c.server.PingInterval.Milliseconds(), c.server.PingTimeout.Milliseconds(), c.server.MaxPayload})
	if err != nil {
		panic("engineio: unencodable opening: " + err.Error()) // texts and numbers
	}
	return b
}

// start counts the connection and starts its clock.
func (c *Conn) start() {
	c.server.metrics.handshakes.WithLabelValues(c.transport).Inc()
	c.server.metrics.connections.WithLabelValues(c.transport).Inc()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != closed { // by a Server that is closing
		c.startBeat()
	}
}

// introduce makes the handler. It is called once; nothing is taken in before.
func (c *Conn) introduce() {
	defer c.calling.Unlock()
	c.handler = c.server.Accept(c)
}

// Context ends when the connection does. Its cause is the session.Reason.
func (c *Conn) Context() context.Context { return c.ctx }

// Header has what is kept of the handshake's request: Authorization. Anybody may send
// 128 KiB of others, which would stay for as long as the connection.
func (c *Conn) Header() http.Header { return c.header }

// Remote is the client's address at the handshake.
func (c *Conn) Remote() netip.Addr { return c.remote }

// Transport is "polling" or "websocket", as it is at present.
func (c *Conn) Transport() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.transport
}

// Pace is how fast the client may send, for Handler.Message alone: what is no message
// the connection counts itself.
func (c *Conn) Pace() *limit.Pace { return &c.pace }

// Send sends texts as messages, in this order and with none of another Send between
// them. It blocks while the peer does not take what was sent before. The texts are the
// caller's again when it returns. They have no U+001E; in JSON that is escaped.
//
// The error is the session.Reason that the connection has ended for: session.Slow if the
// peer took nothing for a whole write timeout.
func (c *Conn) Send(texts ...[]byte) error {
	c.mu.Lock()
	if err := c.awaitRoom(); err != nil {
		c.mu.Unlock()
		return err
	}
	if c.phase == upgraded {
		c.mu.Unlock()
		return c.write(texts)
	}
	for _, text := range texts {
		c.out = appendPacket(c.out, messagePacket, text)
	}
	c.serve()
	c.mu.Unlock()
	return nil
}

// write sends messages over the socket.
func (c *Conn) write(texts [][]byte) error {
	buf := buffer()
	b := (*buf)[:0]
	for _, text := range texts {
		b = wire.AppendHeader(b, wire.Text, false, 1+len(text))
		b = append(append(b, messagePacket), text...)
	}
	err := c.socket.line.Send(b)
	reuse(buf, b)
	return c.wrote(err)
}

// awaitRoom waits until something may be sent. It is for who holds mu, and gives it up
// meanwhile.
func (c *Conn) awaitRoom() error {
	for since := time.Now(); c.phase < upgraded && len(c.out) >= maxBuffered; {
		until := since
		switch {
		case c.taking > 0: // who writes sees to it that it does not take for ever
			until = time.Now()
		case c.taken.After(since):
			until = c.taken
		}
		if !c.endBy.IsZero() && c.endBy.Before(until) {
			until = c.endBy
		}
		if !time.Now().Before(until.Add(c.server.WriteTimeout)) {
			c.end(ending{reason: session.Slow, word: transportError, poll: closePacket})
			return session.Slow
		}
		if c.room == nil {
			c.room = make(chan struct{})
		}
		room, late := c.room, time.NewTimer(time.Until(until.Add(c.server.WriteTimeout)))
		c.mu.Unlock()
		select {
		case <-room:
		case <-late.C:
		}
		late.Stop()
		c.mu.Lock()
	}
	if c.phase == closed {
		return c.reason
	}
	return nil
}

// EndBy gives a sender that waits, now or later, one write timeout after a time at the most,
// however the peer takes what was sent.
func (c *Conn) EndBy(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endBy = t
	c.lookAgain()
	if c.socket != nil {
		c.socket.line.EndBy(t)
	}
}

// take empties the buffer. It is for who holds mu, and writes what he got.
func (c *Conn) take() []byte {
	out := c.out
	c.out = nil
	c.taking++
	c.lookAgain()
	return out
}

// took says that what was taken is written.
func (c *Conn) took() {
	c.taking--
	c.taken = time.Now()
	c.lookAgain()
}

// lookAgain wakes senders that wait. It is for who holds mu.
func (c *Conn) lookAgain() {
	if c.room != nil {
		close(c.room)
		c.room = nil
	}
}

var buffers sync.Pool // of *[]byte

func buffer() *[]byte {
	if b, ok := buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4<<10)
	return &b
}

// reuse takes back a buffer, grown to b.
func reuse(buf *[]byte, b []byte) {
	if cap(b) <= keepBuffer {
		*buf = b
		buffers.Put(buf)
	}
}
