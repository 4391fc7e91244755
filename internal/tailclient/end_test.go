package tailclient_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/tailclient"
)

// fakeServer answers every hello with talk, and passes the hellos on.
func fakeServer(t *testing.T, talk func(*websocket.Conn)) (url string, hellos chan map[string]any) {
	t.Helper()
	hellos = make(chan map[string]any, 100)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"tailroom.v1"}})
		if err != nil {
			return
		}
		defer func() { _ = ws.CloseNow() }()
		var hello map[string]any
		if wsjson.Read(r.Context(), ws, &hello) == nil {
			hellos <- hello
			talk(ws)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, hellos
}

func say(ws *websocket.Conn, text string) {
	_ = ws.Write(context.Background(), websocket.MessageText, []byte(text))
}

const welcome = `{"type":"welcome","instance":"fake","cursor":"1-5","heartbeatMs":100}`

func follow(ctx context.Context, url string) func(func(tailclient.Message, error) bool) {
	return tailclient.Follow(ctx, tailclient.Config{URL: url, Token: token("a"), Namespaces: []string{"/orders"}, From: "earliest"})
}

// The protocol's rule: come back on 1001, 1006, 1011 to 1013 and 4000 to 4099.
func TestFollow_ObeysCloseCodes(t *testing.T) {
	t.Parallel()
	for code, again := range map[websocket.StatusCode]bool{
		1000: false, 1001: true, 1008: false, 1009: false, 1010: false, 1011: true, 1012: true, 1013: true, 1014: false,
		3999: false, 4000: true, 4001: true, 4003: true, 4099: true, 4100: false, 4105: false, 4199: false, 4200: false,
	} {
		t.Run(fmt.Sprint(int(code)), func(t *testing.T) {
			t.Parallel()
			url, _ := fakeServer(t, func(ws *websocket.Conn) {
				say(ws, welcome)
				_ = ws.Close(code, "why")
			})
			want := fmt.Sprintf("the server closed the connection: why (%d)", code)
			for m, err := range follow(t.Context(), url) {
				if err != nil {
					require.False(t, again)
					require.EqualError(t, err, want)
					break
				}
				if m.Type == tailclient.Disconnected {
					require.True(t, again)
					require.EqualError(t, m.Err, want)
					break
				}
			}
		})
	}
}

// The server says nothing at all; its heartbeat is 100 ms.
func TestFollow_NoticesADeadLine(t *testing.T) {
	t.Parallel()
	url, hellos := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		say(ws, `{"type":"events","events":[{"a":1}],"cursor":"1-9"}`)
		<-ws.CloseRead(context.Background()).Done() // until the client leaves
	})
	var since time.Time
	for m, err := range follow(t.Context(), url) {
		require.NoError(t, err)
		if m.Type == tailclient.Events {
			since = time.Now()
		}
		if m.Type == tailclient.Disconnected {
			require.EqualError(t, m.Err, "the line is dead: the server was not heard for two heartbeats")
			require.GreaterOrEqual(t, time.Since(since), 150*time.Millisecond)
			require.Equal(t, "1-9", m.Cursor)
			<-hellos
		}
		if m.Type == tailclient.Welcome && !since.IsZero() {
			require.Equal(t, "1-9", (<-hellos)["cursor"], "it goes on where it was")
			break
		}
	}
}

// Pings are signs of life.
func TestFollow_KeepsAQuietLine(t *testing.T) {
	t.Parallel()
	url, _ := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		ctx := ws.CloseRead(context.Background())
		for range 10 {
			beat := time.NewTimer(50 * time.Millisecond)
			<-beat.C
			_ = ws.Ping(ctx)
		}
		say(ws, `{"type":"live","cursor":"1-5"}`)
	})
	for m, err := range follow(t.Context(), url) {
		require.NoError(t, err)
		require.NotEqual(t, tailclient.Disconnected, m.Type, "%v", m.Err)
		if m.Type == tailclient.Live {
			break
		}
	}
}

// A caller who is busy for longer than the line's patience does not make the
// line look dead.
func TestFollow_WaitsForItsCaller(t *testing.T) {
	t.Parallel()
	url, _ := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		say(ws, `{"type":"events","events":[{"a":1}],"cursor":"1-9"}`)
		say(ws, `{"type":"live","cursor":"1-9"}`)
		<-ws.CloseRead(context.Background()).Done()
	})
	for m, err := range follow(t.Context(), url) {
		require.NoError(t, err)
		require.NotEqual(t, tailclient.Disconnected, m.Type, "%v", m.Err)
		if m.Type == tailclient.Events {
			busy := time.NewTimer(300 * time.Millisecond)
			<-busy.C
		}
		if m.Type == tailclient.Live {
			break
		}
	}
}

func TestFollow_RenewsItsToken(t *testing.T) {
	t.Parallel()
	url, hellos := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, `{"type":"error","code":"token_expired","message":"the token has expired"}`)
		_ = ws.Close(4002, "token_expired")
	})
	tokens := make(chan string, 4)
	for _, text := range []string{"a", "b", "b", "b"} {
		tokens <- text
	}
	var last error
	for _, err := range tailclient.Follow(t.Context(), tailclient.Config{
		URL: url, Namespaces: []string{"/orders"},
		Token: func(context.Context) (string, error) { return <-tokens, nil },
	}) {
		last = err
	}
	require.EqualError(t, last, "the server closed the connection: token_expired: the token has expired (4002)")
	require.Equal(t, "a", (<-hellos)["token"])
	require.Equal(t, "b", (<-hellos)["token"])
	require.Empty(t, hellos, "the same token is not worth another try")
}

func TestFollow_HTTPRefusals(t *testing.T) {
	t.Parallel()
	for status, again := range map[int]bool{401: false, 403: false, 404: false, 429: true, 502: true, 503: true} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"code":"some","detail":"some reason"}`)
		}))
		t.Cleanup(server.Close)
		want := fmt.Sprintf("the server answered %d %s: some reason", status, http.StatusText(status))
		for m, err := range follow(t.Context(), server.URL) {
			if again {
				require.NoError(t, err)
				require.EqualError(t, m.Err, want)
				require.GreaterOrEqual(t, m.Delay, 3*time.Second)
			} else {
				require.EqualError(t, err, want)
			}
			break
		}
	}
}

func TestFollow_NobodyIsThere(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	tries := 0
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for m, err := range follow(ctx, server.URL) {
		require.NoError(t, err)
		require.Equal(t, tailclient.Disconnected, m.Type)
		require.ErrorContains(t, m.Err, "connection refused")
		require.Less(t, m.Delay, 500*time.Millisecond<<tries)
		if tries++; tries == 3 {
			cancel()
		}
	}
	require.Equal(t, 3, tries, "it ends with its context")
}

func TestFollow_CannotBeginWithout(t *testing.T) {
	t.Parallel()
	for _, err := range tailclient.Follow(t.Context(), tailclient.Config{URL: "localhost:3001", Token: token("a")}) {
		require.ErrorContains(t, err, `"localhost:3001" is not the address of a server`)
	}
	lost := func(context.Context) (string, error) { return "", errors.New("the token is lost") }
	for _, err := range tailclient.Follow(t.Context(), tailclient.Config{URL: "http://localhost:3001", Token: lost}) {
		require.EqualError(t, err, "the token is lost")
	}
}
