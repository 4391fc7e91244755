package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// fakeServer answers every hello with talk: for what a real one never does, or not
// when it is told to.
func fakeServer(t *testing.T, talk func(*websocket.Conn)) string {
	t.Helper()
	url, _ := listeningServer(t, talk)
	return url
}

// listeningServer is a fakeServer that passes the hellos on.
func listeningServer(t *testing.T, talk func(*websocket.Conn)) (url string, hellos chan map[string]any) {
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

// Where the server began "now" is where the next connection begins, although nothing
// has come.
func TestRun_GoesOnFromTheWelcome(t *testing.T) {
	t.Parallel()
	url, hellos := listeningServer(t, func(ws *websocket.Conn) { say(ws, welcome) })
	followOrders(t, url)
	require.Nil(t, next(t, hellos)["cursor"])
	require.Equal(t, "1-5", next(t, hellos)["cursor"])
}

// The log is failed over under a client that has the state: with another connection it
// gets that anew. Else it has it once.
func TestRun_AsksForTheStateAgain(t *testing.T) {
	t.Parallel()
	said := make(chan string, 10)
	url, hellos := listeningServer(t, func(ws *websocket.Conn) {
		for text := range said {
			if text == "" {
				return
			}
			say(ws, text)
		}
	})
	defer close(said)
	snapshots := make(chan client.Snapshot, 10)
	f := follow(t, client.Config{
		Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: client.AllStates}},
		OnReset: func(context.Context, client.Reset) error { return nil },
		OnSnapshot: func(_ context.Context, s client.Snapshot) error {
			snapshots <- s
			return nil
		},
	})
	asks := func() (cursor, snapshot any) {
		hello := next(t, hellos)
		return hello["cursor"], hello["subscribe"].([]any)[0].(map[string]any)["snapshot"]
	}
	cursor, snapshot := asks()
	require.Equal(t, []any{nil, true}, []any{cursor, snapshot})
	said <- welcome
	said <- `{"type":"snapshot","namespace":"/orders","states":[],"cursor":"1-5","more":true}`
	said <- "" // before it is whole
	cursor, snapshot = asks()
	require.Equal(t, []any{"1-5", true}, []any{cursor, snapshot})
	said <- welcome
	said <- `{"type":"snapshot","namespace":"/orders","states":[],"cursor":"1-5","more":true}`
	said <- `{"type":"snapshot","namespace":"/orders","states":[],"cursor":"1-5","more":false}`
	said <- `{"type":"live","cursor":"1-5"}`
	for _, first := range []bool{true, true, false} {
		require.Equal(t, first, next(t, snapshots).First)
	}
	f.until(t, client.Live)
	said <- ""
	cursor, snapshot = asks()
	require.Equal(t, []any{"1-5", nil}, []any{cursor, snapshot})
	said <- welcome
	said <- `{"type":"reset","reason":"diverged","oldest":"1-0","resume":"1-3","snapshot":"/v1/state"}`
	cursor, snapshot = asks()
	require.Equal(t, []any{"1-3", true}, []any{cursor, snapshot})
}

func say(ws *websocket.Conn, text string) {
	_ = ws.Write(context.Background(), websocket.MessageText, []byte(text))
}

const welcome = `{"type":"welcome","instance":"fake","cursor":"1-5","heartbeatMs":60000}`

func followOrders(t *testing.T, url string) *follower {
	t.Helper()
	return follow(t, client.Config{Server: serverAt("a token", url), Subscribe: []client.Subscription{{Namespace: "/orders"}}})
}

// Nothing but 4100 to 4199 is for good: proxies close with 1000, 1005 and what else
// they like. What is too large behind the welcome was one message, and before it the
// hello.
func TestRun_ObeysCloseCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code           websocket.StatusCode
		welcome, again bool
	}{
		{1000, true, true},
		{1001, true, true},
		{1005, true, true},
		{1008, true, true},
		{1009, true, true},
		{1010, true, true},
		{1011, true, true},
		{1012, true, true},
		{1013, true, true},
		{1014, true, true},
		{3999, true, true},
		{4000, true, true},
		{4003, true, true},
		{4099, true, true},
		{4100, true, false},
		{4104, true, false},
		{4105, true, false},
		{4199, true, false},
		{4200, true, true},
		{1000, false, true},
		{1009, false, false},
		{1013, false, true},
		{4103, false, false},
	} {
		t.Run(fmt.Sprint(int(c.code), c.welcome), func(t *testing.T) {
			t.Parallel()
			f := followOrders(t, fakeServer(t, func(ws *websocket.Conn) {
				if c.welcome {
					say(ws, welcome)
				}
				_ = ws.Close(c.code, "why")
			}))
			var e *client.Error
			if c.again {
				told := f.until(t, client.Offline)
				require.ErrorAs(t, told[len(told)-1].Err, &e)
			} else {
				require.ErrorAs(t, next(t, f.ended), &e)
			}
			want := fmt.Sprintf("why (%d)", c.code)
			if c.code == websocket.StatusNoStatusRcvd {
				want = "the connection was closed without a reason (1005)"
			}
			require.EqualError(t, e, want)
			require.Equal(t, int(c.code), e.Close)
		})
	}
}

// A refused hello is told with the server's sentence and its advice.
func TestRun_TheServersAdvice(t *testing.T) {
	t.Parallel()
	f := followOrders(t, fakeServer(t, func(ws *websocket.Conn) {
		say(ws, `{"type":"error","code":"overloaded","message":"too many","retryAfterMs":5000}`)
		_ = ws.Close(1013, "overloaded")
	}))
	told := f.until(t, client.Offline)
	s := told[len(told)-1]
	require.EqualError(t, s.Err, "overloaded: too many (1013)")
	require.Greater(t, time.Until(s.Retry), 4*time.Second)
	f.stop()
	require.NoError(t, next(t, f.ended), "it does not wait for the next try")

	l := apptest.NewLine(t, fakeServer(t, func(ws *websocket.Conn) {
		say(ws, `{"type":"error","code":"invalid_cursor","message":"no"}`)
		_ = ws.Close(4106, "cursor_invalid")
	}))
	f = followOrders(t, l.URL())
	require.ErrorIs(t, next(t, f.ended), &client.Error{Code: "invalid_cursor"})
}

// What the server refuses before the upgrade is for good or not, as its code says;
// what is no problem of its may come from anything in between.
func TestRun_HTTPRefusals(t *testing.T) {
	t.Parallel()
	for answer, again := range map[string]bool{
		`400 invalid_parameter`: false, `403 forbidden`: false, `429 rate_limited`: true, `503 draining`: true, `500 internal`: true,
		`404`: true, `502`: true, `403`: true,
	} {
		var status int
		var code string
		_, _ = fmt.Sscan(answer, &status, &code)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "3")
			if code != "" {
				w.Header().Set("Content-Type", "application/problem+json")
			}
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"code":%q,"detail":"some reason"}`, code)
		}))
		t.Cleanup(server.Close)
		f := followOrders(t, server.URL)
		var e *client.Error
		if again {
			told := f.until(t, client.Offline)
			s := told[len(told)-1]
			require.ErrorAs(t, s.Err, &e, answer)
			require.Greater(t, time.Until(s.Retry), 2*time.Second)
		} else {
			require.ErrorAs(t, next(t, f.ended), &e, answer)
		}
		require.Equal(t, status, e.Status)
		require.Equal(t, code, e.Code)
	}
}

// The pauses grow, and are never more than the cap.
func TestRun_NobodyIsThere(t *testing.T) {
	t.Parallel()
	f := followOrders(t, "http://127.0.0.1:1") // which nobody is given
	for n := range 4 {
		told := f.until(t, client.Offline)
		s := told[len(told)-1]
		require.ErrorContains(t, s.Err, "connection refused")
		require.Less(t, time.Until(s.Retry), 500*time.Millisecond<<n)
	}
	f.stop()
	require.NoError(t, next(t, f.ended))
}

func TestPause(t *testing.T) {
	t.Parallel()
	for n, most := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
		longest := time.Duration(0)
		for range 1000 {
			longest = max(longest, client.Pause(n))
		}
		require.Less(t, longest, most)
		require.Greater(t, longest, most*9/10, "drawn from all of it")
	}
	require.Less(t, client.Pause(1000), 30*time.Second)
}

func TestNew_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serverAt("a", "http://127.0.0.1:1")
	handler := func(context.Context, client.Event) error { return nil }
	for want, c := range map[string]client.Config{
		"no URL":                               {Server: client.Server{Token: s.Token}},
		`"localhost:3001" is not the address`:  {Server: client.Server{Token: s.Token, URLs: []string{"localhost:3001"}}},
		"no Token":                             {Server: client.Server{URLs: s.URLs}},
		"both Consumer and CursorFile":         {Server: s, Consumer: "a", CursorFile: "b"},
		"both Consumer and From":               {Server: s, Consumer: "a", From: "now"},
		"no Handler for what is subscribed to": {Server: s, Subscribe: []client.Subscription{{Namespace: "/orders"}}},
		"no OnRefused":                         {Server: s, Outbox: "o"},
		"no OnSnapshot":                        {Server: s, Handler: handler, Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: client.AllStates}}},
		"holds no cursor: remove it":           {Server: s, Handler: handler, CursorFile: "end_test.go"},
		"no such file or directory":            {Server: s, Outbox: "/nowhere/outbox", OnRefused: func(context.Context, client.Refusal) error { return nil }},
	} {
		_, err := client.New(c)
		require.ErrorContains(t, err, want)
	}
	c, err := client.New(client.Config{Server: s})
	require.NoError(t, err)
	require.ErrorContains(t, c.Enqueue(orders(0, 1)...), "there is no outbox")
	require.Zero(t, c.Pending())
	require.NoError(t, c.Close())
	require.Zero(t, c.Status())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Publish(ctx, orders(0, 1)...)
	require.ErrorIs(t, err, context.Canceled, "before Run it waits")
}

func TestServer_TriesAgain(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	l := apptest.NewLine(t, "")
	published := make(chan error, 1)
	s := serverAt(service(t), l.URL())
	go func() {
		_, err := s.Publish(t.Context(), orders(0, 1)...)
		published <- err
	}()
	l.Turn(server.URL)
	require.NoError(t, next(t, published))

	gone := serverAt(service(t), "http://127.0.0.1:1", server.URL)
	receipts, err := gone.Publish(t.Context(), orders(1, 2)...)
	require.NoError(t, err, "the other URL")
	require.EqualValues(t, 2, receipts[0].Position)
	l.Turn("")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = s.Publish(ctx, orders(2, 3)...)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestServer_History(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	s := serverAt(service(t), server.URL)
	for range 3 {
		_, err := s.Publish(t.Context(), orders(0, 400)...)
		require.NoError(t, err)
	}
	count := int64(0)
	for e, err := range s.History(t.Context(), client.Query{Types: []string{"newOrder"}}) {
		require.NoError(t, err)
		count++
		require.Equal(t, count, e.Position)
	}
	require.EqualValues(t, 1200, count)
	for e, err := range s.History(t.Context(), client.Query{Descending: true}) {
		require.NoError(t, err)
		require.Equal(t, count, e.Position)
		if count--; count == 200 {
			break
		}
	}
	var e client.Event
	for one, err := range s.History(t.Context(), client.Query{Stream: "order:7", After: "1-600", To: time.Now().Add(time.Hour), Rooms: []string{"branch:b7"}}) {
		require.NoError(t, err)
		e = one
	}
	require.EqualValues(t, 3, e.Version)
	require.Equal(t, "service:test-service", e.Actor)
	require.JSONEq(t, `{"orderId":"7","branchId":"b7"}`, string(e.Data))
	require.Empty(t, e.CausationID)
	require.True(t, e.ReplyBy.IsZero() || e.ReplyBy.After(e.RecordedAt))
	for _, err := range s.History(t.Context(), client.Query{After: "1-9999"}) {
		require.ErrorIs(t, err, client.ErrCursorDiverged)
		var gone *client.Error
		require.ErrorAs(t, err, &gone)
		var resume string
		require.True(t, gone.Field("resume", &resume))
		require.Equal(t, "1-1200", resume)
	}
}
