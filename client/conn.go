package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// message is any message of the server.
type message struct {
	Type        string              `json:"type"`
	Ref         uint64              `json:"ref"`
	OK          bool                `json:"ok"`
	Cursor      string              `json:"cursor"`
	Events      json.RawMessage     `json:"events"` // events, or receipts in a reply
	Reply       json.RawMessage     `json:"reply"`
	Instance    string              `json:"instance"`
	HeartbeatMs int64               `json:"heartbeatMs"`
	Rooms       map[string][]string `json:"rooms"`
	Reason      string              `json:"reason"`
	Oldest      string              `json:"oldest"`
	Resume      string              `json:"resume"`
	Snapshot    string              `json:"snapshot"`
	Namespace   string              `json:"namespace"`
	States      []State             `json:"states"`
	More        bool                `json:"more"`
	ExpiresAt   time.Time           `json:"expiresAt"`

	raw []byte
}

// conn is one connection.
type conn struct {
	client  *Client
	ws      *websocket.Conn
	welcome message
	said    *Error // what the server complained of last; the reader's

	patience atomic.Int64  // how long silence is not death; 0 before the welcome
	dead     *time.Timer   // ends the connection when nothing was heard for so long
	behind   atomic.Bool   // it stopped following, because the handler is too far behind
	states   string        // the namespace whose snapshot is under way; the reader's
	out      chan []byte   // to the writer
	done     chan struct{} // closed when the connection has ended
	over     sync.Once
	reason   error // why; set before done is closed

	mu      sync.Mutex
	refs    uint64
	waiting map[uint64]*call
	largest int // the size of the largest message that had no answer
}

func newConn(c *Client) *conn {
	return &conn{client: c, out: make(chan []byte), done: make(chan struct{}), waiting: map[uint64]*call{}}
}

// end ends the connection for a reason. The first one counts.
func (k *conn) end(reason error) {
	k.over.Do(func() {
		k.reason = reason
		k.mu.Lock()
		for _, c := range k.waiting {
			k.largest = max(k.largest, c.size)
		}
		k.mu.Unlock()
		close(k.done)
		_ = k.ws.CloseNow()
	})
}

// heard says that the line is alive.
func (k *conn) heard() {
	if patience := k.patience.Load(); patience > 0 {
		k.dead.Reset(time.Duration(patience))
	}
}

// read reads a message. Every part of it shows that the line is alive.
func (k *conn) read(ctx context.Context) (message, error) {
	_, r, err := k.ws.Reader(ctx)
	if err != nil {
		return message{}, k.explain(err)
	}
	k.heard()
	text, err := io.ReadAll(listener{r, k})
	if err != nil {
		return message{}, k.explain(err)
	}
	m := message{raw: text}
	if err := json.Unmarshal(text, &m); err != nil {
		return message{}, fmt.Errorf("the server said what cannot be read: %w", err)
	}
	return m, nil
}

type listener struct {
	io.Reader

	conn *conn
}

func (l listener) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.conn.heard()
	return n, err
}

// explain says why a connection ended: the server's own words, if it had any.
func (k *conn) explain(err error) error {
	closed, ok := errors.AsType[websocket.CloseError](err)
	if !ok {
		if errors.Is(err, io.EOF) {
			return errors.New("the connection broke")
		}
		return fmt.Errorf("the connection broke: %w", err)
	}
	e := &Error{Code: closed.Reason}
	if e.Code == "" {
		e.Detail = "the connection was closed without a reason"
	}
	if k.said != nil {
		*e = *k.said
	}
	e.Close = int(closed.Code)
	return e
}

// welcomed reads the first answer.
func (k *conn) welcomed(ctx context.Context) (message, error) {
	for {
		m, err := k.read(ctx)
		if err != nil || m.Type == "welcome" {
			return m, err
		}
		if m.Type == "error" {
			k.said = parseError(m.raw)
		}
	}
}

// goodbye is how long the last words may take.
const goodbye = time.Second

// serve lives the connection to its end, which comes in good order when line ends.
// It returns why it ended, and whether it caught up with the log.
func (k *conn) serve(line context.Context) (live bool, reason error) {
	patience := 2 * time.Duration(k.welcome.HeartbeatMs) * time.Millisecond
	if patience <= 0 {
		patience = time.Minute
	}
	k.patience.Store(int64(patience))
	k.dead = time.AfterFunc(patience, func() {
		k.end(fmt.Errorf("the line is dead: the server was not heard for %s, two of its heartbeats", patience))
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(line))
	var others sync.WaitGroup
	others.Go(func() { k.write(ctx, line.Done()) })
	others.Go(func() { k.hurry(line.Done()) })
	k.enter()
	if k.client.queue.full() { // of what earlier connections brought
		k.fallBehind(ctx, &others)
	}
	for {
		m, err := k.read(ctx)
		if err != nil {
			k.end(err)
			break
		}
		live = live || m.Type == "live"
		k.hear(ctx, &others, m)
	}
	k.leave()
	cancel()
	k.dead.Stop()
	others.Wait()
	return live, k.reason
}

// enter makes it the client's connection. If it begins at a place of the server's
// choice, "now" for one, the next one begins there as well: what happens in
// between is not missed. A consumer's place the server keeps.
func (k *conn) enter() {
	c := k.client
	c.mu.Lock()
	c.conn = k
	pin := c.received == "" && c.cfg.Consumer == ""
	if pin {
		c.received = k.welcome.Cursor
	}
	c.change()
	c.mu.Unlock()
	c.report(k, Status{Phase: Replaying, Instance: k.welcome.Instance, Rooms: k.welcome.Rooms, Cursor: k.welcome.Cursor})
	if pin {
		c.queue.push(item{cursor: k.welcome.Cursor})
	}
}

func (k *conn) leave() {
	k.client.mu.Lock()
	defer k.client.mu.Unlock()
	k.client.conn = nil
	k.client.change()
}

// write writes what others say, and goodbye.
func (k *conn) write(ctx context.Context, leave <-chan struct{}) {
	for {
		select {
		case text := <-k.out:
			if err := k.ws.Write(ctx, websocket.MessageText, text); err != nil {
				k.end(fmt.Errorf("the connection broke: %w", err))
				return
			}
		case <-leave:
			_ = k.ws.Close(websocket.StatusNormalClosure, "") // or it has ended
			return
		case <-k.done:
			return
		}
	}
}

// hurry ends the connection if that does not happen in good order.
func (k *conn) hurry(leave <-chan struct{}) {
	select {
	case <-leave:
	case <-k.done:
		return
	}
	late := time.NewTimer(goodbye)
	defer late.Stop()
	select {
	case <-late.C:
		k.end(ErrClosed)
	case <-k.done:
	}
}

// hear does what a message asks for.
func (k *conn) hear(ctx context.Context, others *sync.WaitGroup, m message) {
	if m.Type != "error" {
		k.said = nil
	}
	switch m.Type {
	case "events", "cursor", "live", "degraded", "reset", "snapshot":
		if !k.behind.Load() && !k.enqueue(m) {
			k.fallBehind(ctx, others)
		}
	case "reply", "pong":
		k.answer(m)
	case "error":
		if m.Ref != 0 {
			k.answer(m)
			return
		}
		if e := parseError(m.raw); e != nil {
			k.said = e
			k.client.cfg.Logger.WarnContext(ctx, "the server complains", "component", "client", "error", e)
		}
	case "expiring":
		others.Go(func() { k.renew(ctx, m.ExpiresAt) })
	case "goaway":
		k.client.cfg.Logger.InfoContext(ctx, "the server sends the client away", "component", "client", "reason", m.Reason)
	}
}

// enqueue puts a message into the queue, and reports whether there is room for
// more.
func (k *conn) enqueue(m message) bool {
	var items []item
	next := m.Cursor
	switch m.Type {
	case "events":
		var events []json.RawMessage
		if err := json.Unmarshal(m.Events, &events); err != nil {
			k.end(fmt.Errorf("the server said what cannot be read: %w", err))
			return true
		}
		items = make([]item, len(events))
		for i, e := range events {
			items[i].event = e
		}
		if len(items) > 0 {
			items[len(items)-1].cursor = m.Cursor
		}
	case "reset":
		next = m.Resume
		items = []item{{reset: &Reset{m.Reason, m.Oldest, m.Resume, m.Snapshot}, cursor: m.Resume}}
	case "snapshot":
		next = ""
		items = []item{{snapshot: &Snapshot{m.Namespace, m.States, m.Cursor, k.states != m.Namespace, m.More}, size: len(m.raw)}}
		if k.states = m.Namespace; !m.More {
			k.states = ""
		}
	case "live":
		items = []item{{status: Live, cursor: m.Cursor}}
	case "degraded":
		items = []item{{status: Degraded, reason: m.Reason}}
	default:
		items = []item{{cursor: m.Cursor}}
	}
	for i := range items {
		items[i].from = k
	}
	k.client.mu.Lock()
	if next != "" {
		k.client.received = next
	}
	switch {
	case m.Type == "snapshot" && !m.More:
		k.client.whole(m.Namespace)
	case m.Type == "reset" && k.client.outdate():
		defer k.end(errAgain) // the next connection begins with the state
	}
	k.client.mu.Unlock()
	waiting := k.client.queue.push(items...)
	if m.Type == "snapshot" {
		return k.client.fits(waiting, m.More)
	}
	return waiting <= k.client.queue.limit
}

// fits reports whether there is room for more of a snapshot. One that had none begins
// anew, with twice the room: otherwise a large one would never come whole to a
// callback that is slower than the line.
func (c *Client) fits(waiting int, more bool) bool {
	fits := waiting <= c.queue.limit<<c.wider
	switch {
	case !more:
		c.wider = 0
	case !fits:
		c.wider = min(c.wider+1, maxWider)
	}
	return fits
}

// fallBehind has the connection bring nothing more: what comes behind this has no
// room. The handler may have caught up by now, and would not hear of it.
func (k *conn) fallBehind(ctx context.Context, others *sync.WaitGroup) {
	k.behind.Store(true)
	k.client.queue.signal()
	others.Go(func() { k.stopFollowing(ctx) })
}

// stopFollowing leaves the connection to the calls.
func (k *conn) stopFollowing(ctx context.Context) {
	type name struct {
		Namespace string `json:"namespace"`
	}
	var list []name
	k.client.mu.Lock()
	for _, f := range k.client.following {
		if n := (name{f.Namespace}); !slices.Contains(list, n) { // one that it does not know, and the server refuses all
			list = append(list, n)
		}
	}
	k.client.mu.Unlock()
	k.client.cfg.Logger.WarnContext(ctx, "the handler is far behind: reading on later", "component", "client")
	_ = k.post(ctx, map[string]any{"type": "unsubscribe", "unsubscribe": list}) // else it has ended
}
