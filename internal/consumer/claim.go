package consumer

import (
	"cmp"
	"encoding/json"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/session"
)

// key names a consumer.
type key struct{ tenant, name string }

// compare is the order in which rows are locked.
func (k key) compare(o key) int {
	return cmp.Or(cmp.Compare(k.tenant, o.tenant), cmp.Compare(k.name, o.name))
}

// claim is a session's hold on a consumer. What is below desk is under its lock.
type claim struct {
	key

	session *session.Session
	start   event.Cursor // acknowledged when the claim was made
	desk    *Desk

	generation int64
	acked      event.Cursor
	follows    string
	over       bool // replaced, or released

	written        event.Cursor
	writtenFollows string
	tellHistory    bool // acked covers an event that written does not
}

// Start is what was acknowledged when the claim was made.
func (c *claim) Start() event.Cursor { return c.start }

// Ack notes that everything up to a cursor is done with.
func (c *claim) Ack(cursor, newest event.Cursor) {
	c.desk.metrics.acks.Inc()
	c.desk.mu.Lock()
	defer c.desk.mu.Unlock()
	if c.over || cursor.Compare(c.acked) <= 0 {
		return
	}
	// A bookmark is no event, and nobody asks when it was acknowledged.
	c.tellHistory = c.tellHistory || newest.Compare(c.acked) > 0
	c.acked = cursor
}

// Follow notes what the session follows from now on. One that follows nothing any
// more only pauses, as clients do whose handlers are behind: the consumer still lags
// behind what it followed, and events have receipts.
func (c *claim) Follow(topics []event.Topic) {
	if len(topics) == 0 {
		return
	}
	follows := encode(topics)
	c.desk.mu.Lock()
	defer c.desk.mu.Unlock()
	c.follows = follows
}

// Release gives the claim up: what was acknowledged is written at once, and the
// consumer is not connected any more.
func (c *claim) Release() {
	c.desk.mu.Lock()
	defer c.desk.mu.Unlock()
	c.desk.end(c)
}

// dirty reports whether there is something to write. It is for who holds the lock.
func (c *claim) dirty() bool { return c.acked != c.written || c.follows != c.writtenFollows }

// everything is what stands for all rooms of a namespace.
const everything = "*"

// encode writes topics of one tenant as the rooms of each namespace.
func encode(topics []event.Topic) string {
	follows := map[string][]string{}
	for _, t := range topics {
		follows[t.Namespace] = append(follows[t.Namespace], cmp.Or(t.Room, everything))
	}
	text, err := json.Marshal(follows)
	if err != nil {
		panic("consumer: unencodable rooms: " + err.Error()) // a map of strings
	}
	return string(text)
}
