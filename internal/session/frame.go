package session

import (
	"context"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// SnapshotPath is where a client whose cursor cannot be served gets the state
// that it has missed the way to.
const SnapshotPath = "/v1/state"

// Kind says what a Frame is.
type Kind int

// The kinds of frame. A transport writes each in its own way.
const (
	Events   Kind = iota // Entries, and the Cursor behind them
	Live                 // caught up at Cursor
	Bookmark             // a Cursor without an event
	Reset                // Reset: the session goes on from its Resume
	Degraded             // Text: nothing new can be known for now
	Expiring             // Expires: when the token does, so that another is brought
	GoAway               // Text: why; the session ends in Delay at the latest
	Snapshot             // States of Namespace, true at Cursor; More are to come
)

// Frame is one thing a session says.
type Frame struct {
	Kind    Kind
	Cursor  event.Cursor
	Entries []*event.Entry
	Reset   *event.Reset
	Text    string
	Delay   time.Duration
	Expires time.Time

	Namespace string
	States    []event.State
	More      bool
}

// Sink is the connection as a session sees it. An error ends the session: a
// Reason in its chain is the one the session ends with, else Gone.
type Sink interface {
	// Send writes a frame, and blocks while the peer does not read. The frame
	// is the session's again when Send returns.
	Send(f *Frame) error
	// Heartbeat is called every heartbeat interval, to show that the line is
	// alive and to find out whether it is.
	Heartbeat() error
	// EndBy says when the session is over, as of now. A write that is under way then, or
	// comes later, is given one write timeout, however the peer takes it. Any goroutine
	// may call it while the session is known to its Registry.
	EndBy(t time.Time)
}

// Feed is where a session reads from: the hub's Reader.
type Feed interface {
	// Read returns what comes after a cursor without waiting for news. An
	// *event.Reset means that the cursor cannot be served.
	Read(ctx context.Context, after event.Cursor) (event.Batch, error)
	// Follow replaces the topics.
	Follow(topics []event.Topic)
	// Close ends the feed.
	Close()
}

// Opener opens a feed of some topics. wake, of capacity 1, is signalled without
// blocking when there may be something to read.
type Opener func(topics []event.Topic, wake chan<- struct{}) Feed
