package client_test

import (
	"context"
	"testing"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
)

// agree answers the next message of a client, and returns it.
func agree(t *testing.T, ws *websocket.Conn) (m map[string]any) {
	t.Helper()
	if err := wsjson.Read(context.Background(), ws, &m); err != nil {
		t.Errorf("no message came: %v", err)
	}
	_ = wsjson.Write(context.Background(), ws, map[string]any{"type": "reply", "ref": m["ref"], "ok": true})
	return m
}

// What no callback is there for would end the process when it comes.
func TestSubscribe_SaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	s := serverAt("a", "http://127.0.0.1:1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := client.New(client.Config{Server: s})
	require.NoError(t, err)
	require.ErrorContains(t, c.Subscribe(ctx, client.Subscription{Namespace: "/orders"}), "no Handler")
	c, err = client.New(client.Config{Server: s, Handler: func(context.Context, client.Event) error { return nil }})
	require.NoError(t, err)
	require.ErrorContains(t, c.Subscribe(ctx, client.Subscription{Namespace: "/orders", Snapshot: client.OpenStates}), "no OnSnapshot")
}

// The line breaks when the server has agreed, and again between two pages: the next
// hello asks for what is missing, and for nothing else.
func TestSubscribe_TheLineBreaks(t *testing.T) {
	t.Parallel()
	const page = `{"type":"snapshot","namespace":"/printing-ws","states":[],"cursor":"1-5","more":true}`
	const last = `{"type":"snapshot","namespace":"/printing-ws","states":[],"cursor":"1-5","more":false}`
	const bookmark = `{"type":"cursor","cursor":"1-9"}`
	rounds := make(chan []string, 4)
	rounds <- nil
	rounds <- []string{page, bookmark}
	rounds <- []string{page, last}
	rounds <- []string{`{"type":"live","cursor":"1-9"}`}
	url, hellos := listeningServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		texts := <-rounds
		for _, text := range texts {
			say(ws, text)
		}
		if texts == nil {
			agree(t, ws)
		}
	})
	snapshots := make(chan client.Snapshot, 10)
	f := follow(t, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}},
		OnSnapshot: func(_ context.Context, s client.Snapshot) error {
			snapshots <- s
			return nil
		},
	})
	require.NoError(t, f.Subscribe(t.Context(), client.Subscription{Namespace: "/printing-ws", Snapshot: client.OpenStates}))
	orders, printing := map[string]any{"namespace": "/orders"}, map[string]any{"namespace": "/printing-ws", "snapshot": "open"}
	require.Equal(t, []any{orders}, next(t, hellos)["subscribe"])
	require.Equal(t, []any{orders, printing}, next(t, hellos)["subscribe"], "no page has come")
	require.Equal(t, []any{orders, printing}, next(t, hellos)["subscribe"], "the last page has not come")
	delete(printing, "snapshot")
	require.Equal(t, []any{orders, printing}, next(t, hellos)["subscribe"])
	f.stop()
	for _, first := range []bool{true, true, false} {
		require.Equal(t, first, next(t, snapshots).First)
	}
}
