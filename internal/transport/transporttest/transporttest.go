// Package transporttest is the suite that every transport must pass: what a
// reader is promised, whatever it is connected by.
//
// The tests run real instances on a real database. A transport only says, in
// a Dialer, how it connects and how it tells what the server says. With every
// piece of news the suite checks that the client's cursor never goes back and
// that no event lies at or below it.
//
//	transporttest.go  Dialer, and what it yields; Run
//	reader.go         a reader that checks what it hears
//	log.go            publishing, and what the log then holds
//	deliver.go        live, in order, each once, the same bytes everywhere
//	replay.go         where a reader begins: cursors, the cold past, resets
//	life.go           bookmarks, expiry, drain, a reader that pauses, a log that is away
//	expel.go          revoked tokens, sessions that an operator ends
package transporttest

import (
	"testing"

	"github.com/tailroom/tailroom/internal/apptest"
)

// Ask is what a client wants to hear.
type Ask struct {
	Token      string
	Cursor     string   // "" is none
	Namespaces []string // at least one
	Rooms      []string // in each of the namespaces; none is all that the token covers
}

// Kind says what a piece of News is.
type Kind string

// The kinds of news.
const (
	Event    Kind = "event"    // Raw, and the Cursor behind it
	Live     Kind = "live"     // caught up at Cursor
	Bookmark Kind = "bookmark" // a Cursor without an event
	Reset    Kind = "reset"    // Reason, Oldest, Resume, Snapshot
	Degraded Kind = "degraded" // Reason
	Expiring Kind = "expiring" // Expires
	GoAway   Kind = "goaway"   // Reason
	End      Kind = "end"      // Reason; "" when the line just broke
)

// News is one thing that the server says.
type News struct {
	Kind                     Kind
	Raw                      []byte // an event's bytes, as they came
	Cursor                   string
	Reason                   string
	Oldest, Resume, Snapshot string
	Expires                  string
	// Session is the namespace whose session says it, where each has one of its own: then
	// each has a cursor, and their news come in any order. "" is one session for all.
	Session string
}

// Conn is a client's connection.
type Conn interface {
	// Next returns what the server says next. Between two calls nothing is
	// read from the connection, but for what a buffer of some KB holds. What
	// is no news (heartbeats, greetings) is passed over.
	Next(t testing.TB) News
	// Close leaves without a word.
	Close()
}

// Dialer connects to an instance. When the server refuses, it returns the code
// of the refusal instead.
type Dialer func(t testing.TB, i *apptest.Instance, ask Ask) (conn Conn, refused string)

// Run runs the suite.
func Run(t *testing.T, dial Dialer) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, Dialer){
		"Live/in commit order":               liveInCommitOrder,
		"Live/only what is subscribed":       onlyWhatIsSubscribed,
		"Live/the bytes of replay":           sameBytes,
		"Replay/on the other instance":       resumeElsewhere,
		"Replay/earliest and now":            earliestAndNow,
		"Replay/older than the window":       olderThanTheWindow,
		"Replay/below the floor":             belowTheFloor,
		"Replay/the floor passes the reader": floorPasses,
		"Replay/above the tip":               aboveTheTip,
		"Replay/a restored log":              restoredLog,
		"Replay/malformed cursors":           malformedCursors,
		"Life/bookmarks":                     bookmarks,
		"Life/expiry":                        expiry,
		"Life/revocation":                    revocation,
		"Life/disconnection":                 disconnection,
		"Life/drain":                         drain,
		"Life/pause":                         pause,
		"Life/the log is away":               logAway,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, dial)
		})
	}
}
