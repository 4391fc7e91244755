package client_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// A message is too large for the server, or for a proxy, and its publisher waits no
// more when the connection closes for it. What else waits is not to blame, and is sent
// again: the outbox loses nothing.
func TestPublish_AnotherWasTooLarge(t *testing.T) {
	t.Parallel()
	for name, complaint := range map[string]string{
		"the server says what it takes": `{"type":"error","code":"too_large","message":"the message is too large","limit":10000}`,
		"a proxy says nothing":          `{"type":"cursor","cursor":"1-5"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			came := make(chan int, 10) // what was published on the first connection
			gone := make(chan struct{})
			var again atomic.Bool
			url := fakeServer(t, func(ws *websocket.Conn) {
				say(ws, welcome)
				if !again.Swap(true) {
					ws.SetReadLimit(-1)
					for range 2 {
						_, text, _ := ws.Read(context.Background())
						came <- len(text)
					}
					<-gone
					say(ws, complaint)
					_ = ws.Close(1009, "too_large")
					return
				}
				agree(t, ws)
				_ = wsjson.Read(context.Background(), ws, new(any))
			})
			f := follow(t, client.Config{
				Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}}, Outbox: t.TempDir() + "/outbox",
				OnRefused: func(_ context.Context, r client.Refusal) error { return r.Err },
			})
			ctx, cancel := context.WithCancel(t.Context())
			published := make(chan error, 1)
			go func() {
				_, err := f.Publish(ctx, client.Draft{Namespace: "/orders", Type: "newOrder", Data: strings.Repeat("x", 20_000)})
				published <- err
			}()
			require.Greater(t, next(t, came), 20_000)
			require.NoError(t, f.Enqueue(orders(0, 1)...))
			require.Less(t, next(t, came), 10_000)
			cancel()
			require.ErrorIs(t, next(t, published), context.Canceled)
			close(gone)
			require.Eventually(t, func() bool { return f.Pending() == 0 }, apptest.Patience, 5*time.Millisecond)
			f.stop()
			require.NoError(t, <-f.ended)
		})
	}
}
