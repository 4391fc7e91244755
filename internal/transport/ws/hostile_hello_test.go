package ws_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// mostHello is how large a hello may be, in bytes.
const mostHello = 256 << 10

// padded is a hello of so many bytes.
func padded(t testing.TB, size int) string {
	t.Helper()
	hello := `{"type":"hello","token":"` + apptest.Token(t, access.Web, "c1") + `","subscribe":[],"x":"`
	return hello + strings.Repeat("x", size-len(hello)-2) + `"}`
}

func requireTooLarge(t testing.TB, r *rawConn, limit string) {
	t.Helper()
	m := r.message(t)
	require.Equal(t, "too_large", m.Code, string(m.Raw))
	require.Contains(t, string(m.Raw), `"limit":`+limit)
	code, reason := r.closed(t)
	require.EqualValues(t, 1009, code)
	require.Equal(t, "too_large", reason)
}

// Nobody has shown a token yet, so that a hello may be much less than a message.
func TestHello_HasALimitOfItsOwn(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	s := i.Dial(t)
	s.Send(t, padded(t, mostHello))
	require.Equal(t, "welcome", s.Next(t).Type)
	require.Equal(t, "pong", (&client{Socket: s}).ask(t, "1", `{"type":"ping","ref":1,"x":"`+strings.Repeat("x", mostHello)+`"}`).Type)
	require.Zero(t, limited(t, i, "hello_bytes"))

	r := dialRaw(t, i)
	r.text(t, padded(t, mostHello+1))
	requireTooLarge(t, r, "262144")
	require.EqualValues(t, 1, limited(t, i, "hello_bytes"))
	require.Zero(t, limited(t, i, "message_bytes"))

	less := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=2KiB", "TAILROOM_MAX_EVENT_BYTES=1KiB")[0]
	r = dialRaw(t, less)
	r.text(t, padded(t, 2<<10+1))
	requireTooLarge(t, r, "2048")
}

// The limit is for what it inflates to.
func TestHello_Bomb(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for size, welcome := range map[int]bool{mostHello: true, mostHello + 1: false, 16 * mostHello: false} {
		r := dialRaw(t, i, "Sec-WebSocket-Extensions", "permessage-deflate; client_no_context_takeover; server_no_context_takeover")
		var bomb bytes.Buffer
		w, err := flate.NewWriter(&bomb, flate.BestCompression)
		require.NoError(t, err)
		_, err = w.Write([]byte(padded(t, size)))
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		require.Less(t, bomb.Len(), mostHello/30)
		r.send(t, fin|rsv1|opText, bomb.Bytes()[:bomb.Len()-4])
		if welcome {
			require.Equal(t, "welcome", r.message(t).Type)
			continue
		}
		requireTooLarge(t, r, "262144")
	}
	require.EqualValues(t, 2, limited(t, i, "hello_bytes"))
}

func TestHello_InManyFragments(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	whole := []byte(padded(t, mostHello))
	for _, last := range [][]byte{maskedFrame(fin|opContinuation, nil), maskedFrame(opContinuation, []byte(" "))} {
		frames := maskedFrame(opText, nil)
		for rest := whole; len(rest) > 0; rest = rest[min(len(rest), 100):] {
			frames = append(frames, maskedFrame(opContinuation, rest[:min(len(rest), 100)])...)
		}
		r := dialRaw(t, i)
		r.write(t, append(frames, last...))
		if last[0] == fin|opContinuation {
			require.Equal(t, "welcome", r.message(t).Type)
			continue
		}
		requireTooLarge(t, r, "262144") // and it is not at its end
	}
	require.EqualValues(t, 1, limited(t, i, "hello_bytes"))
}

// What a hello names too much of is no invalid message: it is too large.
func TestHello_NamesTooMuch(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_NAMESPACES=1", "TAILROOM_MAX_ROOMS=2")[0]
	for name, list := range map[string]string{
		"rooms":      `[{"namespace":"/orders","rooms":["branch:1","branch:2","branch:3"]}]`,
		"namespaces": `[{"namespace":"/orders"},{"namespace":"/availability"}]`,
	} {
		s := i.Dial(t)
		s.Send(t, `{"type":"hello","token":"`+apptest.Token(t, access.Web, "c1")+`","subscribe":`+list+`}`)
		require.Equal(t, "too_large", s.Next(t).Code, name)
		require.Equal(t, websocket.CloseError{Code: 1009, Reason: "too_large"}, s.Closed(t), name)
		require.EqualValues(t, 1, limited(t, i, name))
	}
}

// logged is what is logged meanwhile.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// What a client says of itself fills no log.
func TestHello_ClientInTheLog(t *testing.T) { //nolint:paralleltest // the logger is everybody's
	var l logged
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewJSONHandler(&l, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	i := apptest.Cluster(t, 1)[0]
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": apptest.Token(t, access.Web, "c1"), "subscribe": []any{}, "client": map[string]string{
		"name": "\x1b[31mKüche\n\u202e 7" + strings.Repeat("n", 100_000), "version": strings.Repeat("é", 101),
	}})
	require.Equal(t, "welcome", s.Next(t).Type)
	i.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.SplitSeq(l.text.String(), "\n") {
		require.Less(t, len(line), 16<<10)
		if !strings.Contains(line, "session begins") {
			continue
		}
		var said struct {
			Client  string `json:"client"`
			Version string `json:"client_version"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &said))
		require.Equal(t, "[31mKüche 7"+strings.Repeat("n", 89), said.Client)
		require.Equal(t, strings.Repeat("é", 100), said.Version)
		return
	}
	require.Fail(t, "no session has begun", l.text.String())
}
