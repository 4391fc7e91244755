package sioclient

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

// Event is the name of an event, and its arguments.
func (p Packet) Event(t testing.TB) (name string, arguments []json.RawMessage) {
	t.Helper()
	require.Equal(t, Event, p.Kind, p.Raw)
	require.NoError(t, json.Unmarshal(p.Data, &arguments))
	require.NoError(t, json.Unmarshal(arguments[0], &name))
	return name, arguments[1:]
}

// Welcome is what a CONNECT is answered.
type Welcome struct {
	SID string `json:"sid"`
	PID string `json:"pid"`
}

// Join joins a namespace. The answer must come before anything else of that namespace;
// what comes of others is skipped.
func (c *Client) Join(t testing.TB, namespace string, auth any) Welcome {
	t.Helper()
	p := c.Ask(t, namespace, auth)
	require.Equal(t, Connect, p.Kind, p.Raw)
	var w Welcome
	require.NoError(t, json.Unmarshal(p.Data, &w))
	return w
}

// Ask is Join that may be refused.
func (c *Client) Ask(t testing.TB, namespace string, auth any) Packet {
	t.Helper()
	text, err := json.Marshal(auth)
	require.NoError(t, err)
	c.Send(t, "0"+namespace+","+string(text))
	for {
		p, err := c.Next(t)
		require.NoError(t, err)
		if p.Namespace == namespace {
			return p
		}
	}
}

// Token is an auth that shows a token, with more fields in pairs.
func Token(token string, more ...any) map[string]any {
	auth := map[string]any{"token": token}
	for n := 0; n+1 < len(more); n += 2 {
		auth[more[n].(string)] = more[n+1]
	}
	return auth
}

// Until reads up to and with the first event of a name in a namespace, and returns its
// first argument and what came before it there.
func (c *Client) Until(t testing.TB, namespace, name string) (argument json.RawMessage, before []Packet) {
	t.Helper()
	for {
		p, err := c.Next(t)
		require.NoError(t, err)
		if p.Namespace != namespace {
			continue
		}
		if p.Kind == Event {
			if called, arguments := p.Event(t); called == name {
				return arguments[0], before
			}
		}
		before = append(before, p)
	}
}

// Acked reads up to the acknowledgement of an id in a namespace, and returns its argument.
func (c *Client) Acked(t testing.TB, namespace, id string) json.RawMessage {
	t.Helper()
	for {
		p, err := c.Next(t)
		require.NoError(t, err)
		if p.Kind == Ack && p.Namespace == namespace && p.ID == id {
			var arguments []json.RawMessage
			require.NoError(t, json.Unmarshal(p.Data, &arguments))
			require.Len(t, arguments, 1)
			return arguments[0]
		}
	}
}

// Offset is a bookmark's or an event's last argument.
func Offset(t testing.TB, argument json.RawMessage) (cursor string) {
	t.Helper()
	var offset string
	require.NoError(t, json.Unmarshal(argument, &offset))
	cursor, ok := strings.CutPrefix(offset, "p")
	require.True(t, ok, offset)
	return cursor
}

// Ended reads until the connection ends, and returns how: over a WebSocket, the code and
// the name of its close.
func (c *Client) Ended(t testing.TB) (code int, reason string) {
	t.Helper()
	for {
		if _, err := c.Next(t); err != nil {
			return Why(t, err)
		}
	}
}

// Why is how a connection ended.
func Why(t testing.TB, err error) (code int, reason string) {
	t.Helper()
	var closed websocket.CloseError
	if c := websocket.CloseStatus(err); c >= 0 {
		require.ErrorAs(t, err, &closed)
		return int(closed.Code), closed.Reason
	}
	return 0, ""
}
