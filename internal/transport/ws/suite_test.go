package ws_test

import (
	"errors"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/transport/transporttest"
)

func TestMain(m *testing.M) { apptest.Main(m) }

func TestSuite(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, dial)
}

func dial(t testing.TB, i *apptest.Instance, ask transporttest.Ask) (transporttest.Conn, string) {
	t.Helper()
	type subscription struct {
		Namespace string   `json:"namespace"`
		Rooms     []string `json:"rooms,omitempty"`
	}
	hello := map[string]any{"type": "hello", "token": ask.Token}
	if ask.Cursor != "" {
		hello["cursor"] = ask.Cursor
	}
	var list []subscription
	for _, namespace := range ask.Namespaces {
		list = append(list, subscription{namespace, ask.Rooms})
	}
	hello["subscribe"] = list
	s := i.Dial(t)
	s.SendJSON(t, hello)
	first := s.Next(t)
	if first.Type == "error" {
		require.Equal(t, websocket.CloseError{Code: 4106, Reason: "cursor_invalid"}, s.Closed(t))
		return nil, first.Code
	}
	require.Equal(t, "welcome", first.Type)
	return &conn{socket: s, start: first.Cursor}, ""
}

// conn takes the server's messages apart.
type conn struct {
	socket *apptest.Socket
	start  string // where the session starts, as the welcome says; "" once it goes on
	ahead  []transporttest.News
}

func (c *conn) Close() { _ = c.socket.Conn.CloseNow() }

func (c *conn) Next(t testing.TB) transporttest.News {
	t.Helper()
	for len(c.ahead) == 0 {
		m, err := c.socket.Read(t)
		if err != nil {
			c.ahead = append(c.ahead, ended(t, err))
			break
		}
		c.ahead = c.news(t, m)
	}
	n := c.ahead[0]
	c.ahead = c.ahead[1:]
	return n
}

// ended is the end of a connection: code and reason are of the table.
func ended(t testing.TB, err error) transporttest.News {
	t.Helper()
	n := transporttest.News{Kind: transporttest.End}
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		require.Equal(t, map[string]websocket.StatusCode{
			"draining": 1001, "token_expired": 4002, "token_revoked": 4101, "disconnected": 4105,
		}[closed.Reason], closed.Code)
		n.Reason = closed.Reason
	}
	return n
}

func (c *conn) news(t testing.TB, m apptest.Message) []transporttest.News {
	t.Helper()
	if m.Type == "reset" && c.start != "" {
		require.Equal(t, m.Resume, c.start, "the session does not start where the welcome says")
	}
	c.start = ""
	switch m.Type {
	case "events":
		var list []transporttest.News
		for _, raw := range m.Events {
			list = append(list, transporttest.News{Kind: transporttest.Event, Raw: raw, Cursor: transporttest.CursorOf(t, raw)})
		}
		require.NotEmpty(t, list)
		if m.Cursor != list[len(list)-1].Cursor { // that of the last, or beyond
			list = append(list, transporttest.News{Kind: transporttest.Bookmark, Cursor: m.Cursor})
		}
		return list
	case "live":
		return []transporttest.News{{Kind: transporttest.Live, Cursor: m.Cursor}}
	case "cursor":
		return []transporttest.News{{Kind: transporttest.Bookmark, Cursor: m.Cursor}}
	case "reset":
		return []transporttest.News{{
			Kind: transporttest.Reset, Reason: m.Reason, Oldest: m.Oldest, Resume: m.Resume, Snapshot: m.Snapshot,
		}}
	case "degraded":
		return []transporttest.News{{Kind: transporttest.Degraded, Reason: m.Reason}}
	case "expiring":
		return []transporttest.News{{Kind: transporttest.Expiring, Expires: m.ExpiresAt}}
	case "goaway":
		return []transporttest.News{{Kind: transporttest.GoAway, Reason: m.Reason}}
	}
	require.Fail(t, "an unexpected message", string(m.Raw))
	return nil
}
