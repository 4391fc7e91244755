package tailclient

import (
	"encoding/json"
	"time"
)

// Type says what a Message is: the server's own types, and Disconnected.
type Type string

// The types a caller hears. Others may come with newer servers.
const (
	Welcome      Type = "welcome"      // Instance, Rooms; Cursor is where it starts
	Events       Type = "events"       // Events
	Live         Type = "live"         // caught up
	Bookmark     Type = "cursor"       // nothing for us up to Cursor
	Reset        Type = "reset"        // Reason, Oldest, Snapshot; it goes on from Cursor
	Degraded     Type = "degraded"     // Reason: the log is away, Live follows
	Expiring     Type = "expiring"     // ExpiresAt: when the token does
	GoAway       Type = "goaway"       // Reason: the connection will end soon
	Disconnected Type = "disconnected" // Err; the next try is after Delay
)

// Message is one thing that happened. Cursor, unless it is empty, is where to
// come back to once the message is dealt with.
type Message struct {
	Type     Type                `json:"type"`
	Cursor   string              `json:"cursor"`
	Events   []json.RawMessage   `json:"events"` // envelopes, byte for byte
	Instance string              `json:"instance"`
	Rooms    map[string][]string `json:"rooms"` // by namespace
	Reason   string              `json:"reason"`
	Oldest   string              `json:"oldest"`
	Snapshot string              `json:"snapshot"` // path of the state to take instead of what is gone

	ExpiresAt time.Time `json:"expiresAt,omitzero"`

	Err   error         `json:"-"`
	Delay time.Duration `json:"-"`
}

// incoming is a message as it comes, with what only Follow needs of it.
type incoming struct {
	Message

	HeartbeatMs int64  `json:"heartbeatMs"`
	Resume      string `json:"resume"`
	Code        string `json:"code"`
	Text        string `json:"message"`
}
