package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// withOutbox is a Config with an outbox in a folder, which must not be refused
// anything.
func withOutbox(dir string, s client.Server) client.Config {
	return client.Config{
		Server: s, Outbox: filepath.Join(dir, "outbox"),
		OnRefused: func(_ context.Context, r client.Refusal) error { return r.Err },
	}
}

// What is stored without a connection, over two lives of the program, is sent in
// order behind what was stored before it, each event with the time of its storing.
func TestEnqueue_OfflineAndAcrossRestarts(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	l := apptest.NewLine(t, "")
	before := time.Now().Add(-time.Millisecond)
	c := withOutbox(t.TempDir(), serverAt(service(t), l.URL()))
	first, err := client.New(c)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, first.Enqueue(orders(i, i+1)...))
	}
	_, err = client.New(c)
	require.ErrorContains(t, err, "in use by another Client")
	require.NoError(t, first.Close())
	require.NoError(t, first.Close())
	require.ErrorIs(t, first.Enqueue(orders(0, 1)...), os.ErrClosed)

	f := follow(t, c)
	require.Equal(t, 20, f.Pending())
	require.NoError(t, f.Enqueue(orders(20, 40)...))
	f.until(t, client.Offline)
	after := time.Now()
	l.Turn(server.URL)
	require.NoError(t, f.Enqueue(orders(40, 41)...))
	require.Eventually(t, func() bool { return f.Pending() == 0 }, apptest.Patience, 10*time.Millisecond)
	all := logged(t, serverAt(service(t), server.URL))
	require.Len(t, all, 41)
	for i, e := range all {
		require.Equal(t, orders(i, i+1)[0].Data.(map[string]any)["orderId"], e.Stream[len("order:"):])
	}
	require.WithinRange(t, all[0].OccurredAt, before, after)
}

// What the server refuses is told and does not stop what comes behind it. What the
// program does not want to have refused stays.
func TestEnqueue_Refusals(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	refused := make(chan client.Refusal, 10)
	no := errors.New("not now")
	answer := no
	c := client.Config{
		Server: serverAt(web(t), server.URL), Outbox: filepath.Join(t.TempDir(), "outbox"),
		OnRefused: func(_ context.Context, r client.Refusal) error {
			refused <- r
			return answer
		},
	}
	f := follow(t, c)
	bad := client.Draft{Namespace: "/orders", Type: "newOrder", Data: map[string]any{"total": 9007199254740993, "branchId": "b7"}}
	forbidden := client.Draft{Namespace: "/orders", Type: "newOrder", Data: map[string]any{"orderId": "1", "branchId": "b8"}}
	require.NoError(t, f.Enqueue(bad))
	require.ErrorIs(t, next(t, f.ended), no)
	r := next(t, refused)
	require.ErrorIs(t, r.Err, client.ErrSchemaViolation)
	require.JSONEq(t, `{"total":9007199254740993,"branchId":"b7"}`, string(r.Events[0].Data.(json.RawMessage)))
	require.Equal(t, 1, f.Pending())

	answer = nil
	require.NoError(t, f.Enqueue(forbidden))
	require.NoError(t, f.Enqueue(orders(2, 3)...))
	f.run(t)
	require.ErrorIs(t, next(t, refused).Err, client.ErrSchemaViolation)
	r = next(t, refused)
	require.ErrorIs(t, r.Err, client.ErrForbidden)
	require.NotEmpty(t, r.Events[0].ID)
	require.Equal(t, "order:2", next(t, f.events).Stream)
	require.Eventually(t, func() bool { return f.Pending() == 0 }, apptest.Patience, 10*time.Millisecond)
	require.Empty(t, refused)
}

func TestEnqueue_Full(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	c := withOutbox(t.TempDir(), serverAt(service(t), server.URL))
	c.OutboxEvents = 3
	f := follow(t, c)
	f.stop()
	require.ErrorIs(t, f.Enqueue(orders(0, 4)...), client.ErrOutboxFull)
	require.NoError(t, f.Enqueue(orders(0, 3)...))
	require.ErrorIs(t, f.Enqueue(orders(3, 4)...), client.ErrOutboxFull)
	require.NoError(t, f.Close())

	c.OutboxEvents, c.OutboxBytes = 0, 700
	bytes, err := client.New(c)
	require.NoError(t, err)
	defer func() { require.NoError(t, bytes.Close()) }()
	require.ErrorIs(t, bytes.Enqueue(orders(3, 4)...), client.ErrOutboxFull)
	require.Equal(t, 3, bytes.Pending())
}

// A fault of the server is no refusal: what was published is published again, whichever
// way it goes.
func TestPublish_TheServerFails(t *testing.T) {
	t.Parallel()
	url := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		for n := 0; ; n++ {
			var m struct {
				Ref    int   `json:"ref"`
				Events []any `json:"events"`
			}
			if wsjson.Read(context.Background(), ws, &m) != nil {
				return
			}
			answer := map[string]any{"type": "reply", "ref": m.Ref, "ok": true, "events": m.Events}
			if n%2 == 0 {
				answer = map[string]any{"type": "reply", "ref": m.Ref, "ok": false, "code": "internal", "message": "a fault"}
			}
			_ = wsjson.Write(context.Background(), ws, answer)
		}
	})
	c := withOutbox(t.TempDir(), serverAt("a token", url))
	c.Subscribe = []client.Subscription{{Namespace: "/orders"}}
	f := follow(t, c)
	require.NoError(t, f.Enqueue(orders(0, 1)...))
	require.Eventually(t, func() bool { return f.Pending() == 0 }, apptest.Patience, time.Millisecond)
	_, err := f.Publish(t.Context(), orders(1, 2)...)
	require.NoError(t, err)
	f.stop()
	require.NoError(t, next(t, f.ended), "nothing was refused")

	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"code":"internal","detail":"a fault"}`)
			return
		}
		fmt.Fprint(w, `{"events":[{"duplicate":true}]}`)
	}))
	t.Cleanup(server.Close)
	receipts, err := serverAt("a token", server.URL).Publish(t.Context(), orders(2, 3)...)
	require.NoError(t, err)
	require.True(t, receipts[0].Duplicate)
}
