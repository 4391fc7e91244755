package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Config is what a Client does. Server is needed; all else has a useful zero
// value.
type Config struct {
	Server

	// Subscribe lists what to follow. Nil is all that the token covers if there is a
	// Handler, and nothing otherwise.
	Subscribe []Subscription
	// Handler is given each event, one at a time and in order. When it returns nil
	// the event is behind the cursor. Its error ends Run.
	Handler func(context.Context, Event) error

	// Consumer names the cursor that the server keeps. It belongs to the token's
	// subject; a newer session of the same name replaces this one (ErrReplaced).
	Consumer string
	// CursorFile keeps the cursor on this machine. The file is replaced as a
	// whole, when the handler has nothing more to do and at least once a second.
	CursorFile string
	// From is where to begin while no cursor is kept: a cursor, "earliest" or
	// "now", which "" is as well. Consumers begin where the server says.
	From string

	// OnReset is told that the log cannot go on from the cursor: events are
	// missing. When it returns nil, the cursor moves to Reset.Resume. Its error
	// ends Run, and so does a reset when it is nil.
	OnReset func(context.Context, Reset) error
	// OnSnapshot is given the pages of state that a Subscription with Snapshot asks
	// for.
	OnSnapshot func(context.Context, Snapshot) error

	// Outbox is the file for Enqueue; "" is none. It belongs to one Client at a
	// time.
	Outbox string
	// OutboxEvents and OutboxBytes bound what waits in it; 0 is 100,000 events, and
	// 64 MiB.
	OutboxEvents int
	OutboxBytes  int64
	// OnRefused is given what the server refuses of the outbox. It is needed with
	// Outbox. When it returns nil, the group is forgotten. Its error ends Run, and
	// the group stays.
	OnRefused func(context.Context, Refusal) error

	// OnStatus is told what becomes of the connection. It must not block.
	OnStatus func(Status)
	// Name and Version tell the operators which program this is.
	Name, Version string
	// Logger is told what no callback is: attempts that failed and will be made
	// again. Nil is nobody.
	Logger *slog.Logger
}

// Subscription is a namespace, and the rooms of it to follow: all that the token
// covers if there are none. In a Config, "" is every namespace of the catalogue.
type Subscription struct {
	Namespace string   `json:"namespace"`
	Rooms     []string `json:"rooms,omitempty"`
	// Snapshot asks for the state first, before the events that change it, when Run
	// begins and after a reset: Config.OnSnapshot.
	Snapshot Extent `json:"snapshot,omitempty"`
}

// Extent is which states a Subscription asks for. The zero Extent is none.
type Extent string

const (
	// OpenStates are those of streams that nothing has closed: what a screen shows.
	OpenStates Extent = "open"
	// AllStates are those of closed streams as well.
	AllStates Extent = "all"
)

// MarshalJSON writes the Extent as the protocol has it.
func (e Extent) MarshalJSON() ([]byte, error) {
	if e == AllStates {
		return []byte("true"), nil
	}
	return json.Marshal(string(e))
}

// Reset says that the log cannot go on from the client's cursor, so that events
// may be missing or may never have been.
type Reset struct {
	Reason   string // "expired": retention dropped them; "diverged": the log has another past
	Oldest   string // the log is complete from this cursor on
	Resume   string // the client goes on from this cursor
	Snapshot string // the path of the state to take instead
}

// ResetError is what Run returns for a Reset that nobody handles.
type ResetError struct{ Reset }

func (e *ResetError) Error() string {
	return fmt.Sprintf("the log cannot go on from the client's cursor (%s): events before %s are missing, and there is no OnReset",
		e.Reason, e.Resume)
}

// Refusal is a group of the outbox that the server refused for good.
type Refusal struct {
	Events []Draft // Data is a json.RawMessage
	Err    *Error
}

// Client is one program's connection. Its methods may be called at any time, from
// many goroutines.
type Client struct {
	cfg    Config
	outbox *outbox
	queue  queue

	mu        sync.Mutex
	running   bool
	ended     error         // of the last Run, once it has ended
	following []followed    // as the server has agreed to; changed by the reader alone
	received  string        // the cursor to come back with; "" is none
	handled   string        // the cursor of what the callbacks have dealt with
	token     string        // the one last shown
	conn      *conn         // the one that is welcome; nil while there is none
	changed   chan struct{} // closed when one of these has changed

	reports sync.Mutex // orders the calls of OnStatus
	status  Status     // guarded by mu

	keep  keeper // the dispatcher's
	wider int    // how often a snapshot had no room, in a row; the reader's
}

// New checks the Config and opens its files. It connects to nothing yet. Close
// the Client.
func New(c Config) (*Client, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Handler != nil && c.Subscribe == nil {
		c.Subscribe = []Subscription{{}}
	}
	cl := &Client{cfg: c, following: follow(c.Subscribe), changed: make(chan struct{})}
	cl.queue.changed, cl.queue.limit = make(chan struct{}, 1), maxBehind
	if c.CursorFile != "" {
		var err error
		if cl.received, err = loadCursor(c.CursorFile); err != nil {
			return nil, err
		}
	}
	kept := cl.received
	if cl.received == "" && cursorForm.MatchString(c.From) {
		cl.received = c.From
	}
	cl.handled = cl.received
	cl.keep = keeper{client: cl, kept: kept}
	if c.Outbox != "" {
		var err error
		if cl.outbox, err = openOutbox(c.Outbox, cmp.Or(c.OutboxEvents, 100_000), cmp.Or(c.OutboxBytes, 64<<20)); err != nil {
			return nil, err
		}
	}
	return cl, nil
}

func (c Config) check() error {
	switch {
	case c.Consumer != "" && c.CursorFile != "":
		return errors.New("both Consumer and CursorFile: the cursor is kept in one place")
	case c.Consumer != "" && c.From != "":
		return errors.New("both Consumer and From: the server knows where a consumer is")
	case c.Outbox != "" && c.OnRefused == nil:
		return errors.New("no OnRefused: somebody has to hear what the server refuses of the outbox")
	}
	return cmp.Or(c.takes(c.Subscribe), c.Server.check())
}

// takes says which callback is missing for subscriptions.
func (c Config) takes(list []Subscription) error {
	switch {
	case c.Handler == nil && len(list) > 0:
		return errors.New("no Handler for what is subscribed to")
	case c.OnSnapshot == nil && slices.ContainsFunc(list, func(s Subscription) bool { return s.Snapshot != "" }):
		return errors.New("no OnSnapshot for the state that is subscribed to")
	}
	return nil
}

// Close gives the outbox's file free. Call it when Run has returned.
func (c *Client) Close() error {
	if c.outbox == nil {
		return nil
	}
	return c.outbox.close()
}

// Run keeps the client connected, and calls the handler, until ctx ends, which is
// no error: then what the handler is doing is waited for, the cursor is kept, and
// goodbye is said. It returns early with the error of a callback, with a
// *ResetError, or with the *Error for which coming back is no use. It may be
// called again, and goes on where it was.
func (c *Client) Run(ctx context.Context) error {
	if err := c.begin(); err != nil {
		return err
	}
	work, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// The connection outlives ctx, for the last acknowledgement and the goodbye.
	line, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()

	var workers, lines sync.WaitGroup
	workers.Go(func() { stop(c.dispatch(work)) })
	if c.outbox != nil {
		workers.Go(func() { stop(c.empty(work)) })
	}
	lines.Go(func() { stop(c.stayConnected(work, line)) })
	workers.Wait()
	err := context.Cause(work)
	if ctx.Err() != nil {
		err = nil
	}
	err = errors.Join(err, c.keep.last(line))
	hangUp()
	lines.Wait()
	c.end(err)
	return err
}

func (c *Client) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		return ErrRunning
	}
	c.running, c.ended = true, nil
	// What was received and not handled comes again.
	c.received = c.handled
	c.outdate()
	c.queue.clear()
	return nil
}

func (c *Client) end(err error) {
	c.mu.Lock()
	c.running, c.ended = false, ErrClosed
	if err != nil {
		c.ended = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	c.change()
	c.mu.Unlock()
	c.report(nil, Status{Phase: Closed, Err: err})
}

// change tells whoever waits. The caller holds mu.
func (c *Client) change() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Publish publishes a group, whole or not at all, and returns a receipt for each
// event when they are durable. It waits for a connection, and goes through
// interruptions, until there is an answer or ctx ends; like Server.Publish,
// but over the connection. Run has to run.
func (c *Client) Publish(ctx context.Context, drafts ...Draft) ([]Receipt, error) {
	list, err := c.cfg.complete(drafts)
	if err != nil {
		return nil, err
	}
	answer, err := c.call(ctx, map[string]any{"type": "publish", "events": list}, nil)
	if err != nil {
		return nil, err
	}
	var receipts []Receipt
	err = json.Unmarshal(answer.Events, &receipts)
	return receipts, err
}

// Enqueue writes a group to the outbox. When it returns nil the group is on the
// disk, and Run sends it, behind all that was put there before, when it can. What
// the server refuses goes to OnRefused. OccurredAt is now, unless it is given. The
// error is ErrOutboxFull if there is no room.
func (c *Client) Enqueue(drafts ...Draft) error {
	if c.outbox == nil {
		return errors.New("there is no outbox: name a file in Config.Outbox")
	}
	list, err := c.cfg.complete(drafts)
	if err != nil {
		return err
	}
	events := make([]json.RawMessage, len(list))
	for i, d := range list {
		if d.OccurredAt.IsZero() {
			d.OccurredAt = time.Now()
		}
		if events[i], err = json.Marshal(d); err != nil {
			return fmt.Errorf("encoding: %w", err)
		}
	}
	if len(events) == 0 {
		return nil
	}
	return c.outbox.put(events)
}

// Cursor is where the client is: everything up to there is handled. It is "" before
// that is known. A program that keeps it itself, with what its handler does, gives
// it back as Config.From.
func (c *Client) Cursor() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.handled
}

// Pending is how many events wait in the outbox.
func (c *Client) Pending() int {
	if c.outbox == nil {
		return 0
	}
	return c.outbox.pending()
}
