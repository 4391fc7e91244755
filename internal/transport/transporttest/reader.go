package transporttest

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
)

// reader is a client that checks whatever it hears.
type reader struct {
	conn   Conn
	cursor string            // where the client would come back with; "" before it knows any
	heard  []string          // the events, as they came
	others map[string]string // the cursors of the other sessions, where there are several
	of     string            // the session that cursor is of

	expires string // when the token does, as the warning said
}

// listen connects a client that must not be refused.
func listen(t testing.TB, dial Dialer, i *apptest.Instance, ask Ask) *reader {
	t.Helper()
	conn, refused := dial(t, i, ask)
	require.Empty(t, refused)
	t.Cleanup(conn.Close)
	r := &reader{conn: conn}
	if _, err := event.ParseCursor(ask.Cursor); err == nil {
		r.cursor = ask.Cursor
	}
	return r
}

// live connects a client and waits until it is caught up.
func live(t testing.TB, dial Dialer, i *apptest.Instance, ask Ask) *reader {
	t.Helper()
	r := listen(t, dial, i, ask)
	n := r.until(t, Live)
	for caughtUp := map[string]bool{n.Session: true}; n.Session != "" && len(caughtUp) < len(ask.Namespaces); {
		caughtUp[r.until(t, Live).Session] = true
	}
	return r
}

// turn puts the cursor of another session in the place of the one before.
func (r *reader) turn(session string) {
	if session == r.of {
		return
	}
	if r.others == nil {
		r.others = map[string]string{}
	}
	r.others[r.of] = r.cursor
	r.cursor, r.of = r.others[session], session
}

// next reads a piece of news. What moves the cursor moves it on, other than a
// reset.
func (r *reader) next(t testing.TB) News {
	t.Helper()
	n := r.conn.Next(t)
	if n.Kind != End {
		r.turn(n.Session)
	}
	switch n.Kind {
	case Event:
		require.Greater(t, position(t, n.Cursor), r.position(t), "an event at or below the client's cursor")
		require.Equal(t, n.Cursor, CursorOf(t, n.Raw))
		r.heard = append(r.heard, string(n.Raw))
		r.cursor = n.Cursor
	case Live, Bookmark:
		require.GreaterOrEqual(t, position(t, n.Cursor), r.position(t), "the client's cursor went back")
		r.cursor = n.Cursor
	case Reset:
		r.cursor = n.Resume
	case Expiring:
		require.Empty(t, r.expires, "the warning came twice")
		r.expires = n.Expires
	case Degraded, GoAway, End:
	}
	return n
}

// until reads up to the first news of one of the kinds. The connection must
// not end before.
func (r *reader) until(t testing.TB, kinds ...Kind) News {
	t.Helper()
	for deadline := time.Now().Add(apptest.Patience); ; {
		n := r.next(t)
		if slices.Contains(kinds, n.Kind) {
			return n
		}
		require.True(t, time.Now().Before(deadline), "no %v came", kinds)
		require.NotEqual(t, End, n.Kind, "the connection ended (%s)", n.Reason)
	}
}

// hear reads until n events have been heard in all.
func (r *reader) hear(t testing.TB, n int) {
	t.Helper()
	for len(r.heard) < n {
		r.until(t, Event)
	}
	require.Len(t, r.heard, n)
}

// reach reads until the client's cursor is at a position, or beyond.
func (r *reader) reach(t testing.TB, last int64) {
	t.Helper()
	for deadline := time.Now().Add(apptest.Patience); r.position(t) < last; {
		require.NotEqual(t, End, r.next(t).Kind)
		require.True(t, time.Now().Before(deadline), "the cursor stays at %s", r.cursor)
	}
}

// same reports the first difference between what the log holds and what was
// heard; whole lists would be unreadable.
func same(t testing.TB, logged, heard []string, which ...any) {
	t.Helper()
	require.Equal(t, positions(t, logged), positions(t, heard), which...)
	for i := range logged {
		require.Equal(t, logged[i], heard[i], which...)
	}
}

// CursorOf is an event's cursor, which its envelope begins with, and its
// position.
func CursorOf(t testing.TB, raw []byte) string {
	t.Helper()
	rest, ok := bytes.CutPrefix(raw, []byte(`{"cursor":"`))
	require.True(t, ok, "%.100s", raw)
	cursor, rest, _ := bytes.Cut(rest, []byte(`","position":`))
	number, _, _ := bytes.Cut(rest, []byte(`,"id":"`))
	require.Equal(t, strconv.FormatInt(position(t, string(cursor)), 10), string(number))
	return string(cursor)
}

// sorted puts what several sessions heard into the order of the log.
func sorted(t testing.TB, events []string) []string {
	t.Helper()
	return slices.SortedFunc(slices.Values(events), func(a, b string) int {
		return cmp.Compare(position(t, CursorOf(t, []byte(a))), position(t, CursorOf(t, []byte(b))))
	})
}

func positions(t testing.TB, events []string) []int64 {
	t.Helper()
	list := make([]int64, len(events))
	for i, raw := range events {
		list[i] = position(t, CursorOf(t, []byte(raw)))
	}
	return list
}

func (r *reader) position(t testing.TB) int64 {
	t.Helper()
	if r.cursor == "" {
		return 0
	}
	return position(t, r.cursor)
}

func position(t testing.TB, cursor string) int64 {
	t.Helper()
	c, err := event.ParseCursor(cursor)
	require.NoError(t, err, cursor)
	return c.Position
}
