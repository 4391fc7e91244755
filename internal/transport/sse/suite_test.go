package sse_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

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
	query := url.Values{"namespace": ask.Namespaces, "room": ask.Rooms}
	if ask.Cursor != "" {
		query.Set("cursor", ask.Cursor)
	}
	if strings.HasPrefix(t.Name(), "TestSuite/Replay/malformed") { // refused, which Stream does not expect
		answer := i.Get(t, "/v1/stream?"+query.Encode(), ask.Token)
		require.Equal(t, http.StatusBadRequest, answer.Status)
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"))
		return nil, answer.Code()
	}
	return &conn{stream: i.Stream(t, ask.Token, query.Encode()), id: ask.Cursor}, ""
}

// conn takes the server's blocks apart, as an EventSource does.
type conn struct {
	stream *apptest.Stream
	id     string // the last one that was given: what Last-Event-ID would be
	why    string // of the last goaway
}

func (c *conn) Close() { c.stream.Close() }

func (c *conn) Next(t testing.TB) transporttest.News {
	t.Helper()
	for {
		b, err := c.stream.Next(t)
		if errors.Is(err, io.EOF) {
			return transporttest.News{Kind: transporttest.End, Reason: c.why}
		} else if err != nil {
			return transporttest.News{Kind: transporttest.End}
		}
		if n, ok := c.news(t, b); ok {
			return n
		}
	}
}

// news is what a block says, if it says anything.
func (c *conn) news(t testing.TB, b apptest.Block) (n transporttest.News, ok bool) {
	t.Helper()
	if b.ID != "" {
		c.id = b.ID
	}
	name, control := strings.CutPrefix(b.Event, "tailroom.")
	if b.Data == "" {
		require.Empty(t, b.Event)
		return transporttest.News{Kind: transporttest.Bookmark, Cursor: b.ID}, b.ID != ""
	}
	if !control {
		return transporttest.News{Kind: transporttest.Event, Raw: []byte(b.Data), Cursor: b.ID}, true
	}
	var said struct{ Cursor, Reason, Oldest, Resume, Snapshot, ExpiresAt string }
	require.NoError(t, json.Unmarshal([]byte(b.Data), &said))
	switch name {
	case "live":
		require.Equal(t, said.Cursor, c.id, "live does not say where the client is")
	case "reset":
		require.Equal(t, said.Resume, c.id, "a client that comes back would be reset again")
	case "degraded", "expiring":
	case "goaway":
		c.why = said.Reason
	default:
		require.Fail(t, "an unexpected event", b.Raw)
	}
	return transporttest.News{
		Kind: transporttest.Kind(name), Cursor: said.Cursor, Reason: said.Reason, Expires: said.ExpiresAt,
		Oldest: said.Oldest, Resume: said.Resume, Snapshot: said.Snapshot,
	}, true
}
