package socketio_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/transport/transporttest"
)

func TestMain(m *testing.M) { apptest.Main(m) }

func TestSuite(t *testing.T) {
	t.Parallel()
	for _, transport := range []string{sioclient.WebSocket, sioclient.Polling} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			transporttest.Run(t, func(t testing.TB, i *apptest.Instance, ask transporttest.Ask) (transporttest.Conn, string) {
				t.Helper()
				return dial(t, i, transport, ask)
			})
		})
	}
}

func dial(t testing.TB, i *apptest.Instance, transport string, ask transporttest.Ask) (transporttest.Conn, string) {
	t.Helper()
	c := &conn{
		client: sioclient.Dial(t, i, transport), polls: transport == sioclient.Polling, several: len(ask.Namespaces) > 1,
		library: newLibrary(t, i.DSN, ask), sessions: map[string]*sess{},
	}
	auth := sioclient.Token(ask.Token)
	if ask.Cursor != "" {
		auth["cursor"] = ask.Cursor
	}
	if ask.Rooms != nil {
		auth["rooms"] = ask.Rooms
	}
	for _, namespace := range ask.Namespaces {
		text, err := json.Marshal(auth)
		require.NoError(t, err)
		c.client.Send(t, "0"+namespace+","+string(text))
	}
	for joined := 0; joined < len(ask.Namespaces); {
		p, err := c.client.Next(t)
		require.NoError(t, err)
		switch p.Kind {
		case sioclient.ConnectError:
			var refused struct{ Data struct{ Code string } }
			require.NoError(t, json.Unmarshal(p.Data, &refused))
			return nil, refused.Data.Code
		case sioclient.Connect:
			joined++
			c.sessions[p.Namespace] = &sess{}
		default:
			c.news(t, p)
		}
	}
	return c, ""
}

// conn takes the server's packets apart. What an event is beside its type and data the
// client is not told: that is looked up in the log, where they must be the ones that came.
type conn struct {
	client   *sioclient.Client
	polls    bool
	several  bool
	library  *library
	sessions map[string]*sess
	ahead    []transporttest.News
}

// sess is the session of a namespace.
type sess struct {
	came  []came // since the last offset
	reset string // where the session goes on: the offset that comes next
	why   string // of the last goaway
}

// came is an event as it came.
type came struct {
	name string
	data []byte
}

func (c *conn) Close() { c.client.Close() }

func (c *conn) Next(t testing.TB) transporttest.News {
	t.Helper()
	for len(c.ahead) == 0 {
		p, err := c.client.Next(t)
		if err != nil {
			c.ahead = append(c.ahead, c.ended(t, err))
			break
		}
		c.news(t, p)
	}
	n := c.ahead[0]
	c.ahead = c.ahead[1:]
	return n
}

// ended is the end of the connection. Who polls is told nothing but that.
func (c *conn) ended(t testing.TB, err error) transporttest.News {
	t.Helper()
	code, reason := sioclient.Why(t, err)
	if c.polls {
		require.ErrorIs(t, err, sioclient.ErrClosed)
		for _, s := range c.sessions {
			reason = s.why
		}
	} else {
		require.Equal(t, map[string]int{"draining": 1001, "token_expired": 4002}[reason], code, reason)
	}
	return transporttest.News{Kind: transporttest.End, Reason: reason}
}

func (c *conn) say(namespace string, n transporttest.News) {
	if c.several {
		n.Session = namespace
	}
	c.ahead = append(c.ahead, n)
}

func (c *conn) news(t testing.TB, p sioclient.Packet) {
	t.Helper()
	s := c.sessions[p.Namespace]
	if p.Kind == sioclient.Disconnect {
		c.say(p.Namespace, transporttest.News{Kind: transporttest.End, Reason: s.why})
		return
	}
	name, arguments := p.Event(t)
	require.Len(t, arguments, 1, p.Raw)
	if name == "$o" || name == "$live" {
		c.caughtUp(t, p.Namespace, name, sioclient.Offset(t, arguments[0]))
		return
	}
	var said struct {
		Reason, Oldest, Resume, Snapshot, Code, ExpiresAt, Cursor string
		DelayMS                                                   *int64
	}
	if name[0] == '$' || name == "exception" {
		require.NoError(t, json.Unmarshal(arguments[0], &said))
	}
	n := transporttest.News{Reason: said.Reason, Oldest: said.Oldest, Resume: said.Resume, Snapshot: said.Snapshot, Expires: said.ExpiresAt}
	switch name {
	case "$reset":
		n.Kind, s.reset = transporttest.Reset, said.Resume
		require.Empty(t, s.came)
	case "$degraded":
		n.Kind = transporttest.Degraded
	case "$goaway":
		n.Kind, s.why = transporttest.GoAway, said.Reason
		require.NotEmpty(t, said.Cursor)
		require.NotNil(t, said.DelayMS)
	case "exception":
		require.Equal(t, "token_expiring", said.Code, p.Raw)
		n.Kind = transporttest.Expiring
	default:
		s.came = append(s.came, came{name, arguments[0]})
		return
	}
	c.say(p.Namespace, n)
}

// caughtUp is an offset: the events that came before it are the last ones of the log up to it.
func (c *conn) caughtUp(t testing.TB, namespace, name, cursor string) {
	t.Helper()
	s := c.sessions[namespace]
	if s.reset != "" {
		require.Equal(t, s.reset, cursor, "a client that comes back would be reset again")
		s.reset = ""
		return
	}
	at := ""
	for i, e := range c.library.last(t, namespace, cursor, len(s.came)) {
		require.Equal(t, s.came[i].name, e.Type)
		data := s.came[i].data
		if e.CorrelationID != e.ID.String() { // of which the client could not learn otherwise
			rest, said := bytes.CutPrefix(data, event.AppendString([]byte(`{"correlationId":`), e.CorrelationID))
			require.True(t, said, "%s: without its correlation id: %.200s", e.Cursor, data)
			data = append([]byte("{"), bytes.TrimPrefix(rest, []byte(","))...)
		}
		require.True(t, bytes.Equal(data, e.Data), "%s: not what the log has: %.200s", e.Cursor, data)
		at = e.Cursor.String()
		c.say(namespace, transporttest.News{Kind: transporttest.Event, Raw: e.JSON(), Cursor: at})
	}
	s.came = nil
	switch {
	case name == "$live":
		c.say(namespace, transporttest.News{Kind: transporttest.Live, Cursor: cursor})
	case at != cursor: // that of the last, or beyond
		c.say(namespace, transporttest.News{Kind: transporttest.Bookmark, Cursor: cursor})
	}
}

// library reads what of the log a client may hear. What it has read it keeps, for it may be
// gone when the client comes to it.
type library struct {
	log    *eventlog.Log
	grant  access.Grant
	rooms  []string // in colon form; nil is all
	events []*event.Entry
	read   int64
}

func newLibrary(t testing.TB, dsn string, ask transporttest.Ask) *library {
	t.Helper()
	grant, err := access.NewVerifier(access.VerifierConfig{Secrets: [][]byte{[]byte(apptest.Secret)}, Roles: roles(t)}).Verify(ask.Token)
	require.NoError(t, err)
	l := &library{log: eventlog.NewShared(pgtest.Pool(t, dsn)), grant: grant}
	for _, name := range ask.Rooms {
		room, err := grant.Room(name)
		require.NoError(t, err)
		l.rooms = append(l.rooms, room)
	}
	return l
}

func roles(t testing.TB) access.RoleMap {
	t.Helper()
	m, err := access.ParseRoleMap("*=web")
	require.NoError(t, err)
	return m
}

// last are the last events at or below a cursor.
func (l *library) last(t testing.TB, namespace, cursor string, n int) (list []*event.Entry) {
	t.Helper()
	at, err := event.ParseCursor(cursor)
	require.NoError(t, err)
	if n > 0 && l.read < at.Position {
		require.Eventually(t, func() bool { return l.readOn(t) == nil }, apptest.Patience, 10*time.Millisecond)
	}
	for _, e := range slices.Backward(l.events) {
		if len(list) == n {
			break
		}
		inRooms := l.rooms == nil || slices.ContainsFunc(e.Rooms, func(room string) bool { return slices.Contains(l.rooms, room) })
		if e.Namespace == namespace && e.Cursor.Position <= at.Position && l.grant.Sees(&e.Event) && inRooms {
			list = append(list, e)
		}
	}
	slices.Reverse(list)
	require.Len(t, list, n, "more came than the log has")
	return list
}

func (l *library) readOn(t testing.TB) error {
	t.Helper()
	listing, err := l.log.List(t.Context(), eventlog.Query{
		Tenant: l.grant.Tenant, Namespaces: []string{"/orders", "/availability", "/printing-ws"}, After: l.read, Limit: 100_000,
	})
	if err != nil {
		return err
	}
	for e, err := range listing.Events(t.Context()) {
		if err != nil {
			return err
		}
		l.events, l.read = append(l.events, e), e.Cursor.Position
	}
	return nil
}
