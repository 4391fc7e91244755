package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

func printerTest() client.Draft {
	return client.Draft{
		Namespace: "/printing-ws", Type: "printer:test",
		Data: map[string]any{"printerId": "kitchen-1", "branchId": "b7"},
	}
}

// answering is what an agent does.
func answering(f **follower, seen chan<- client.Event) func(context.Context, client.Event) error {
	return func(ctx context.Context, e client.Event) error {
		if e.Type != "printer:test" {
			return nil
		}
		_, err := (*f).Publish(ctx, e.Reply(client.Draft{
			Type: "printer:test:result", Data: map[string]any{"printerId": "kitchen-1", "branchId": "b7", "success": true},
		}))
		seen <- e
		return err
	}
}

// Who asks and who answers are on different instances, and the asker is cut while
// it waits. The request is published once.
func TestRequest_IsAnswered(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	l := apptest.NewLine(t, cluster[0].URL)
	asker := follow(t, client.Config{Server: serverAt(web(t), l.URL())})
	asker.until(t, client.Live)
	replies := make(chan client.Event, 1)
	errs := make(chan error, 1)
	go func() {
		reply, err := asker.Request(t.Context(), printerTest())
		replies <- reply
		errs <- err
	}()
	asked := next(t, asker.events)
	l.Turn(cluster[1].URL)
	asker.until(t, client.Live)

	var agent *follower
	seen := make(chan client.Event, 10)
	ready := make(chan struct{})
	handler := answering(&agent, seen)
	agent = follow(t, client.Config{
		Server: serverAt(apptest.Token(t, access.DesktopApp, "c1", "b7"), cluster[1].URL), From: "earliest",
		Handler: func(ctx context.Context, e client.Event) error { <-ready; return handler(ctx, e) },
	})
	close(ready)
	require.NoError(t, next(t, errs))
	reply := next(t, replies)
	require.Equal(t, asked.ID, reply.CausationID)
	require.Equal(t, asked.CorrelationID, reply.CorrelationID)
	require.Equal(t, "printer:test:result", reply.Type)
	require.Equal(t, asked.ID, next(t, seen).ID)
	require.False(t, asked.ReplyBy.IsZero())
	require.False(t, asked.Overdue(time.Now()))
	require.True(t, asked.Overdue(asked.ReplyBy.Add(1)))

	s := serverAt(service(t), cluster[0].URL)
	var list []client.Asked
	for a, err := range s.Requests(t.Context(), client.RequestQuery{Status: "answered"}) {
		require.NoError(t, err)
		list = append(list, a)
	}
	require.Len(t, list, 1, "it was asked once")
	require.Equal(t, asked.ID, list[0].Request.ID)
	require.Equal(t, reply.ID, list[0].Reply.ID)

	_, err := s.Publish(t.Context(), asked.Reply(client.Draft{
		ID: client.DeriveID(asked.ID, "another"), Type: "printer:test:result", Data: map[string]any{"printerId": "kitchen-1", "branchId": "b7", "success": false},
	}))
	require.ErrorIs(t, err, client.ErrAlreadyAnswered)
}

func TestRequest_NobodyAnswers(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	f := follow(t, client.Config{Server: serverAt(web(t), server.URL)})
	d := printerTest()
	d.ID = client.DeriveID("request", "1")
	d.ReplyBy = time.Now().Add(300 * time.Millisecond)
	_, err := f.Request(t.Context(), d)
	require.ErrorIs(t, err, client.ErrReplyTimeout)
	var timeout *client.Error
	require.ErrorAs(t, err, &timeout)
	var correlation string
	require.True(t, timeout.Field("correlationId", &correlation))
	require.Equal(t, d.ID, correlation)

	_, err = serverAt(web(t), server.URL).Request(t.Context(), d)
	require.ErrorIs(t, err, client.ErrReplyTimeout, "the same, over HTTP")
	for a, err := range serverAt(service(t), server.URL).Requests(t.Context(), client.RequestQuery{}) {
		require.NoError(t, err)
		require.Equal(t, correlation, a.CorrelationID)
		require.Nil(t, a.Reply)
	}
	_, err = f.Request(t.Context(), client.Draft{
		Namespace: "/orders", Type: "driverUpdate", Data: map[string]any{"driverId": "1", "branchId": "b7"},
	})
	var refused *client.Error
	require.ErrorAs(t, err, &refused, "nothing answers that")
}

// The server lets nobody wait for more than ten minutes. What asks again waits for what
// is left.
func TestRequest_WaitsForWhatIsLeft(t *testing.T) {
	t.Parallel()
	type question struct {
		Ref   int `json:"ref"`
		Event struct {
			TimeoutMs int64 `json:"timeoutMs"`
		} `json:"event"`
		TimeoutMs int64 `json:"timeoutMs"`
	}
	const minute = 60_000
	asked, again := make(chan int64, 10), make(chan bool, 10)
	overSocket := fakeServer(t, func(ws *websocket.Conn) {
		say(ws, welcome)
		var q question
		if wsjson.Read(context.Background(), ws, &q) != nil {
			return
		}
		asked <- q.Event.TimeoutMs
		if !<-again {
			say(ws, fmt.Sprintf(`{"type":"reply","ref":%d,"ok":true,"reply":{}}`, q.Ref))
			_ = wsjson.Read(context.Background(), ws, &q)
		}
	})
	overHTTP := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		var q question
		_ = json.Unmarshal(text, &q)
		asked <- q.TimeoutMs
		if <-again {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, `{"reply":{}}`)
	}))
	t.Cleanup(overHTTP.Close)
	f := followOrders(t, overSocket)
	for _, request := range []func(context.Context, client.Draft) (client.Event, error){f.Request, serverAt("a token", overHTTP.URL).Request} {
		done := make(chan error, 1)
		d := printerTest()
		d.ReplyBy = time.Now().Add(5 * time.Minute)
		go func() {
			_, err := request(t.Context(), d)
			done <- err
		}()
		first := next(t, asked)
		require.LessOrEqual(t, first, int64(5*minute))
		require.Eventually(t, func() bool { return time.Until(d.ReplyBy).Milliseconds() < first }, apptest.Patience, time.Millisecond)
		again <- true
		require.Less(t, next(t, asked), first)
		again <- false
		require.NoError(t, next(t, done))
	}

	d := printerTest()
	d.ReplyBy = time.Now().Add(time.Hour)
	again <- false
	_, err := serverAt("a token", overHTTP.URL).Request(t.Context(), d)
	require.NoError(t, err)
	require.EqualValues(t, 10*minute, next(t, asked))
}

// A list of requests comes in pages, which is nobody's concern.
func TestRequests_Pages(t *testing.T) {
	t.Parallel()
	s := serverAt(service(t), apptest.Cluster(t, 1)[0].URL)
	asked := slices.Repeat([]client.Draft{printerTest()}, 101) // a page has 100
	for i := range asked {
		asked[i].ReplyBy = time.Now().Add(time.Hour)
	}
	_, err := s.Publish(t.Context(), asked...)
	require.NoError(t, err)
	listed := 0
	for _, err := range s.Requests(t.Context(), client.RequestQuery{}) {
		require.NoError(t, err)
		listed++
	}
	require.Equal(t, len(asked), listed)
}
