package client_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
)

// unsubscribed is what a client leaves with its next message.
func unsubscribed(ws *websocket.Conn) (namespaces []string) {
	var m struct {
		Unsubscribe []client.Subscription `json:"unsubscribe"`
	}
	_ = wsjson.Read(context.Background(), ws, &m)
	for _, s := range m.Unsubscribe {
		namespaces = append(namespaces, s.Namespace)
	}
	return namespaces
}

// runLimited runs a Client that may have limit bytes waiting.
func runLimited(t *testing.T, limit int, c client.Config) *follower {
	t.Helper()
	f := &follower{statuses: make(chan client.Status, 1000), ended: make(chan error, 1)}
	c.OnStatus = func(s client.Status) { f.statuses <- s }
	var err error
	f.Client, err = client.New(c)
	require.NoError(t, err)
	client.SetLimit(f.Client, limit)
	f.run(t)
	return f
}

// A snapshot that is larger than what may wait begins anew with more room, and comes
// whole in the end, however slow the callback is.
func TestSnapshot_TheCallbackIsFarBehind(t *testing.T) {
	t.Parallel()
	const pages = 8
	left := make(chan []string, 10)
	url, hellos := listeningServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		for i := range pages {
			say(ws, fmt.Sprintf(`{"type":"snapshot","namespace":"/orders","states":[{"stream":"%0900d"}],"cursor":"1-5","more":%t}`, i, i < pages-1))
		}
		say(ws, `{"type":"live","cursor":"1-5"}`)
		if namespaces := unsubscribed(ws); namespaces != nil {
			left <- namespaces
		}
		_ = wsjson.Read(context.Background(), ws, new(any))
	})
	free := make(chan struct{})
	var count int
	f := runLimited(t, 2<<10, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: client.OpenStates}},
		Handler: func(context.Context, client.Event) error { return nil },
		OnSnapshot: func(ctx context.Context, s client.Snapshot) error {
			if s.First {
				count = 0
				select {
				case <-free:
				case <-ctx.Done():
				}
			}
			count++
			return nil
		},
	})
	for range 2 { // in 2 and 4 KiB
		require.Equal(t, "open", next(t, hellos)["subscribe"].([]any)[0].(map[string]any)["snapshot"])
		require.Equal(t, []string{"/orders"}, next(t, left))
		free <- struct{}{}
	}
	free <- struct{}{}
	f.until(t, client.Live)
	f.stop()
	require.Equal(t, pages, count)
	require.Len(t, hellos, 1)
}

// A client that is far behind leaves what it subscribed to later as well.
func TestSubscribe_TheHandlerIsFarBehind(t *testing.T) {
	t.Parallel()
	left := make(chan []string, 1)
	agreed := make(chan struct{})
	url := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		agree(t, ws)
		<-agreed
		say(ws, `{"type":"events","events":[{"id":"`+strings.Repeat("x", 2000)+`"},{"id":"`+strings.Repeat("y", 2000)+`"}],"cursor":"1-7"}`)
		left <- unsubscribed(ws)
		_ = wsjson.Read(context.Background(), ws, new(any))
	})
	f := runLimited(t, 1<<10, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler: func(ctx context.Context, _ client.Event) error {
			<-ctx.Done()
			return nil
		},
	})
	require.NoError(t, f.Subscribe(t.Context(),
		client.Subscription{Namespace: "/availability"}, client.Subscription{Namespace: "/orders", Rooms: []string{"branch:b7"}}))
	close(agreed)
	require.ElementsMatch(t, []string{"/orders", "/availability"}, next(t, left))
}

// A handler is stuck, and the line breaks over and over. What waits is not more with
// each connection.
func TestRun_WhatWaitsIsBoundedOverConnections(t *testing.T) {
	t.Parallel()
	const rounds = 4
	large := fmt.Sprintf(`{"id":"%02000d"}`, 0)
	url, hellos := listeningServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		say(ws, `{"type":"events","events":[`+large+`,`+large+`],"cursor":"1-6"}`)
		say(ws, `{"type":"live","cursor":"1-6"}`)
		_ = wsjson.Read(context.Background(), ws, new(any)) // it follows no more
		_ = ws.Close(websocket.StatusGoingAway, "draining")
	})
	free := make(chan struct{})
	f := runLimited(t, 1<<10, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler: func(ctx context.Context, _ client.Event) error {
			select {
			case <-free:
			case <-ctx.Done():
			}
			return nil
		},
	})
	for range rounds {
		f.until(t, client.Offline)
	}
	require.LessOrEqual(t, client.Waiting(f.Client), 3, "what welcome says of the cursor, an event, and live")
	require.Nil(t, next(t, hellos)["cursor"])
	require.Equal(t, "1-6", next(t, hellos)["cursor"])
}

// The handler may have caught up before the connection has noted that it is behind.
func TestRun_CatchesUpHoweverSoon(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	url, hellos := listeningServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		say(ws, fmt.Sprintf(`{"type":"events","events":[{"id":"a"}],"cursor":"1-%d"}`, n.Add(1)+5))
		_ = wsjson.Read(context.Background(), ws, new(any)) // it follows no more
		_ = wsjson.Read(context.Background(), ws, new(any)) // it goes
	})
	f := runLimited(t, 1, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler: func(context.Context, client.Event) error { return nil },
	})
	for range 200 {
		next(t, hellos)
		f.until(t, client.Replaying)
	}
}
