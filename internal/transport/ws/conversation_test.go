package ws_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// client is a socket that keeps what comes while it waits for an answer.
type client struct {
	*apptest.Socket
	events []apptest.Event
}

// join says hello and waits until the client is caught up.
func join(t testing.TB, i *apptest.Instance, token, subscribe string) *client {
	t.Helper()
	s, _ := i.Hello(t, token, "", subscribe)
	s.Until(t, "live")
	return &client{Socket: s}
}

// ask sends a message with the ref given in it, and returns the message that
// carries it.
func (c *client) ask(t testing.TB, ref, text string) apptest.Message {
	t.Helper()
	c.Send(t, text)
	for {
		m := c.Next(t)
		if string(m.Ref) == ref {
			return m
		}
		c.events = append(c.events, m.Decoded(t)...)
	}
}

// reach reads until the event at a position has come.
func (c *client) reach(t testing.TB, position int64) {
	t.Helper()
	for len(c.events) == 0 || c.events[len(c.events)-1].Position < position {
		m := c.Next(t)
		c.events = append(c.events, m.Decoded(t)...)
	}
}

func (c *client) orders() []string {
	var list []string
	for _, e := range c.events {
		list = append(list, strings.TrimPrefix(*e.Stream, "order:"))
	}
	return list
}

// order is a newOrder of a branch.
func order(id, branch string) string {
	return fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":%q,"branchId":%q}}`, id, branch)
}

func TestSubscribe_TakesEffectAtTheCursor(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	c := join(t, i, apptest.Token(t, access.Web, "c1"), `[{"namespace":"/orders","rooms":["branch:b1"]}]`)
	i.Publish(t, service, order("before", "b2"))
	i.Publish(t, service, order("1", "b1"))
	c.reach(t, 2)

	m := c.ask(t, "7", `{"type":"subscribe","ref":7,"subscribe":[{"namespace":"/orders","rooms":["branch_b2"]},{"namespace":"/availability"}]}`)
	require.Equal(t, "reply", m.Type, string(m.Raw))
	require.True(t, m.OK)
	require.Equal(t, "1-2", m.Cursor)
	require.Equal(t, map[string][]string{"/orders": {"branch:b1", "branch:b2"}, "/availability": {"company:c1"}}, m.Rooms)
	i.Publish(t, service, "["+order("2", "b2")+","+order("3", "b1")+","+order("other", "b3")+"]")
	c.reach(t, 4)
	require.Equal(t, []string{"1", "2", "3"}, c.orders())

	// What is refused changes nothing.
	for text, code := range map[string]string{
		`"subscribe":[{"namespace":"/orders","rooms":["branch:b3"]},{"namespace":"/nowhere"}]`:              "unknown_namespace",
		`"subscribe":[{"namespace":"/orders","rooms":["branch:b3"]},{"namespace":"/orders","rooms":["x"]}]`: "invalid_room",
		`"subscribe":[{"namespace":"/orders","rooms":["branch:b3","company:c2"]}]`:                          "forbidden",
	} {
		m = c.ask(t, `"r"`, `{"type":"subscribe","ref":"r",`+text+`}`)
		require.Equal(t, "reply", m.Type, string(m.Raw))
		require.False(t, m.OK)
		require.Equal(t, code, m.Code, string(m.Raw))
		require.NotEmpty(t, m.Message)
	}
	m = c.ask(t, `"u"`, `{"type":"unsubscribe","ref":"u","unsubscribe":[{"namespace":"/orders","rooms":["branch:b1"]},{"namespace":"/availability"}]}`)
	require.True(t, m.OK, string(m.Raw))
	require.Equal(t, map[string][]string{"/orders": {"branch:b2"}}, m.Rooms)
	i.Publish(t, service, "["+order("gone", "b1")+","+order("other", "b3")+","+order("4", "b2")+"]")
	c.reach(t, 8)
	require.Equal(t, []string{"1", "2", "3", "4"}, c.orders())
}

// A subscription that lags joins at the cursor it has, not at the log's tip:
// nothing of the new room after that cursor is missed, nothing before it comes.
func TestSubscribe_WhileOthersPublish(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	c := join(t, i, token, `[{"namespace":"/orders","rooms":["branch:b1"]}]`)
	published := make(chan int64)
	go func() {
		defer close(published)
		for n := range 40 {
			published <- i.Publish(t, service, "["+order(fmt.Sprint(n), "b1")+","+order(fmt.Sprint(n), "b2")+"]")[1].Position
		}
	}()
	for range 20 {
		<-published
	}
	joined := c.ask(t, "1", `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/orders","rooms":["branch:b2"]}]}`)
	for range 10 {
		<-published
	}
	left := c.ask(t, "2", `{"type":"unsubscribe","ref":2,"unsubscribe":[{"namespace":"/orders","rooms":["branch:b1"]}]}`)
	last := int64(0)
	for position := range published {
		last = position
	}
	c.reach(t, last)

	want, _, _ := i.History(t, token, "room=branch:b1&namespace=/orders&limit=1000")
	want = slices.DeleteFunc(want, func(e apptest.Event) bool { return e.Position > cursorPosition(t, left.Cursor) })
	second, _, _ := i.History(t, token, "room=branch:b2&namespace=/orders&limit=1000&after="+joined.Cursor)
	want = append(want, second...)
	slices.SortFunc(want, func(a, b apptest.Event) int { return int(a.Position - b.Position) })
	require.Equal(t, want, c.events)
}

func cursorPosition(t testing.TB, cursor string) (n int64) {
	t.Helper()
	_, err := fmt.Sscanf(cursor, "1-%d", &n)
	require.NoError(t, err)
	return n
}

func TestUnsubscribe_FromAll(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")

	branches := join(t, i, apptest.Token(t, access.Web, "c1", "b1", "b2"), `[{"namespace":"/orders"}]`)
	m := branches.ask(t, "1", `{"type":"unsubscribe","ref":1,"unsubscribe":[{"namespace":"/orders","rooms":["branch:b1"]}]}`)
	require.True(t, m.OK, string(m.Raw))
	require.Equal(t, map[string][]string{"/orders": {"branch:b2", "company:c1"}}, m.Rooms)

	// Every room of a company less one cannot be listed.
	company := join(t, i, apptest.Token(t, access.Web, "c1"), `[{"namespace":"/orders"}]`)
	m = company.ask(t, "1", `{"type":"unsubscribe","ref":1,"unsubscribe":[{"namespace":"/orders","rooms":["branch:b1"]}]}`)
	require.False(t, m.OK)
	require.Equal(t, "invalid_parameter", m.Code)
	m = company.ask(t, "2", `{"type":"unsubscribe","ref":2,"unsubscribe":[{"namespace":"/availability"}]}`)
	require.Equal(t, "invalid_parameter", m.Code)

	i.Publish(t, service, "["+order("1", "b1")+","+order("2", "b2")+"]")
	branches.reach(t, 2)
	company.reach(t, 2)
	require.Equal(t, []string{"2"}, branches.orders())
	require.Equal(t, []string{"1", "2"}, company.orders())
	m = company.ask(t, "3", `{"type":"unsubscribe","ref":3,"unsubscribe":[{"namespace":"/orders"}]}`)
	require.Empty(t, m.Rooms)
	i.Publish(t, service, order("3", "b1"))
	m = company.ask(t, "4", `{"type":"subscribe","ref":4,"subscribe":[{"namespace":"/orders"}]}`)
	require.Equal(t, map[string][]string{"/orders": {"company:c1"}}, m.Rooms)
	i.Publish(t, service, order("4", "b1"))
	company.reach(t, 4)
	for _, e := range company.events[2:] { // what came between may come: the cursor had not passed it
		require.Greater(t, e.Position, cursorPosition(t, m.Cursor))
	}
}

func TestSubscribe_ToTooMuch(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := join(t, i, apptest.Token(t, access.Web, "c1"), `[{"namespace":"/orders","rooms":["branch:b1"]}]`)
	rooms := func(n, from int) string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprintf("branch:b%d", from+i)
		}
		text, err := json.Marshal(list)
		require.NoError(t, err)
		return string(text)
	}
	m := c.ask(t, "1", `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/orders","rooms":`+rooms(10_000, 0)+`}]}`)
	require.Equal(t, "too_large", m.Code)
	require.Contains(t, string(m.Raw), `"limit":1000`)
	m = c.ask(t, "2", `{"type":"subscribe","ref":2,"subscribe":[{"namespace":"/orders","rooms":`+rooms(999, 2)+`}]}`)
	require.True(t, m.OK, string(m.Raw)) // with the first it is 1,000
	m = c.ask(t, "3", `{"type":"subscribe","ref":3,"subscribe":[{"namespace":"/availability","rooms":["branch:b1"]}]}`)
	require.Equal(t, "too_large", m.Code, "the limit is the session's, over all namespaces")

	s := i.Dial(t)
	s.SendJSON(t, map[string]any{
		"type": "hello", "token": apptest.Token(t, access.Web, "c1"),
		"subscribe": json.RawMessage(`[{"namespace":"/orders","rooms":` + rooms(1001, 0) + `}]`),
	})
	require.Equal(t, "too_large", s.Next(t).Code)
	require.EqualValues(t, 1009, s.Closed(t).Code)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_EVENT_BYTES=1KiB")[0]
	c := join(t, i, apptest.Token(t, access.Service, "c1"), `[{"namespace":"/orders"}]`)
	event := func(rest string) string {
		return `{"namespace":"/orders","type":"orderStatusUpdate",` + rest + `}`
	}
	const one, two = "0192f0c4-0000-7000-8000-000000000001", "0192f0c4-0000-7000-8000-000000000002"
	data := `"data":{"orderId":"1","branchId":"b1","status":"ready"}`
	for n, test := range []struct {
		events string
		code   string // "" is accepted
		holds  []string
	}{
		{event(`"id":"` + one + `","expectedVersion":0,` + data), "", []string{`"cursor":"1-1"`, `"version":1`, `"duplicate":false`}},
		{event(`"id":"` + one + `",` + data), "", []string{`"cursor":"1-1"`, `"version":1`, `"duplicate":true`}},
		{event(`"id":"` + one + `","data":{"orderId":"1","branchId":"b1","status":"accepted"}`), "id_reused", nil},
		{event(`"id":"`+one+`",`+data) + "," + event(`"id":"`+two+`",`+data), "partial_duplicate", nil},
		{event(data) + "," + event(`"id":"`+two+`",`+data), "", []string{`"cursor":"1-2"`, `"version":2`, `"cursor":"1-3"`, `"version":3`}},
		{event(data) + "," + event(`"data":{"orderId":"1","branchId":"b1","status":"gone"}`), "schema_violation", []string{`"errors":[{"path":"/status"`, `"index":1`}},
		{event(`"expectedVersion":7,` + data), "version_conflict", []string{
			`"conflicts":[{"index":0,"namespace":"/orders","stream":"order:1","expectedVersion":7,"currentVersion":3}]`, `"currentVersion":3`,
		}},
		{event(`"data":{"orderId":"1","status":"ready"}`), "schema_violation", []string{`"path":"/branchId"`}},
		{event(`"data":{"orderId":"\u0000","branchId":"b1","status":"ready"}`), "schema_violation", []string{`"path":"/orderId"`}},
		{event(`"data":[]`), "schema_violation", []string{`"path":""`}},
		{event(`"data":{"orderId":"1","branchId":"b1","status":"ready","x":"` + strings.Repeat("x", 1<<10) + `"}`), "too_large", []string{`"limit":1024`}},
		{event(`"rooms":["branch:"],` + data), "invalid_room", []string{`"allowed"`}},
		{event(`"rooms":["company:c2"],` + data), "forbidden", []string{`"allowed":["company:c1","branch:{any}"]`}},
		{event(`"companyId":"c2",` + data), "forbidden", []string{`"allowed":["c1"]`}},
		{event(`"stream":"none",` + data), "invalid_parameter", []string{`"path":"stream"`}},
		{event(`"id":"x",` + data), "invalid_parameter", []string{`"path":"id"`}},
		{event(`"expectedVersion":"1",` + data), "invalid_parameter", []string{`"path":"expectedVersion"`}},
		{`{"namespace":"/orders","type":"nothing","data":{}}`, "unknown_type", []string{`"allowed":["newOrder"`}},
		{`{"namespace":"/nowhere","type":"newOrder","data":{}}`, "unknown_namespace", []string{`"allowed":["/printing-ws"`}},
		{`7`, "invalid_parameter", nil},
		{`[]`, "invalid_parameter", nil},
		{``, "invalid_parameter", nil},
	} {
		m := c.ask(t, fmt.Sprint(n), fmt.Sprintf(`{"type":"publish","ref":%d,"events":[%s]}`, n, test.events))
		require.Equal(t, "reply", m.Type, "%d: %s", n, m.Raw)
		require.Equal(t, test.code == "", m.OK, "%d: %s", n, m.Raw)
		require.Equal(t, test.code, m.Code, "%d: %s", n, m.Raw)
		for _, part := range test.holds {
			require.Contains(t, string(m.Raw), part, "%d", n)
		}
	}
	many := "[" + strings.TrimSuffix(strings.Repeat(event(data)+",", 1001), ",") + "]"
	m := c.ask(t, `"many"`, `{"type":"publish","ref":"many","events":`+many+`}`)
	require.Equal(t, "too_large", m.Code)
	require.Contains(t, string(m.Raw), `"limit":1000`)

	// A web user may not publish what the catalogue does not let him.
	web := join(t, i, apptest.Token(t, access.Web, "c1"), `[]`)
	m = web.ask(t, "1", `{"type":"publish","ref":1,"events":[{"namespace":"/availability","type":"newAlert","data":{"message":"x"}}]}`)
	require.Equal(t, "forbidden", m.Code)
	require.Contains(t, string(m.Raw), `"allowed":["service","admin"]`)
	// Nothing of what was refused is in the log.
	m = c.ask(t, `"last"`, `{"type":"publish","ref":"last","events":[`+event(data)+`]}`)
	require.Contains(t, string(m.Raw), `"cursor":"1-4"`)
	c.reach(t, 4)
	require.Len(t, c.events, 4)
}

// Publishes of one connection are appended in the order they were sent, though
// none waits for the one before.
func TestPublish_Pipelined(t *testing.T) {
	t.Parallel()
	const n = 300
	cluster := apptest.Cluster(t, 2)
	c := join(t, cluster[0], apptest.Token(t, access.Service, "c1"), `[]`)
	reader := join(t, cluster[1], apptest.Token(t, access.Web, "c1", "b1"), `[{"namespace":"/orders"}]`)
	for k := range n {
		// One stream now and then with a condition, which is judged in a batch of its own.
		rest := ""
		if k%7 == 0 {
			rest = fmt.Sprintf(`"expectedVersion":%d,`, k)
		}
		c.Send(t, fmt.Sprintf(`{"type":"publish","ref":%d,"events":[{"namespace":"/orders","type":"newOrder",%s"stream":"order:one",
			"data":{"orderId":"%d","branchId":"b1"}}]}`, k, rest, k))
	}
	for range n {
		m := c.Next(t)
		require.True(t, m.OK, string(m.Raw))
		receipt := m.Decoded(t)[0]
		require.Equal(t, string(m.Ref), fmt.Sprint(receipt.Position-1))
	}
	reader.reach(t, n)
	for k, e := range reader.events {
		require.JSONEq(t, fmt.Sprintf(`{"orderId":"%d","branchId":"b1"}`, k), string(e.Data))
		require.Equal(t, int64(k+1), *e.Version)
	}
}

func TestAuth_RecomputesTheRooms(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	c := join(t, i, apptest.Token(t, access.Web, "c1", "b1"), `[{"namespace":"/orders"},{"namespace":"/availability","rooms":["branch:b1"]}]`)
	auth := func(token string) apptest.Message {
		return c.ask(t, `"a"`, `{"type":"auth","ref":"a","token":"`+token+`"}`)
	}
	m := auth(apptest.Token(t, access.Web, "c1", "b1", "b2"))
	require.True(t, m.OK, string(m.Raw))
	require.Equal(t, map[string][]string{"/orders": {"branch:b1", "branch:b2", "company:c1"}, "/availability": {"branch:b1"}}, m.Rooms)
	i.Publish(t, service, "["+order("1", "b1")+","+order("2", "b2")+","+order("-", "b3")+"]")
	c.reach(t, 2)

	// A room by name that the new token does not cover is left.
	m = auth(apptest.Token(t, access.Web, "c1", "b2"))
	require.Equal(t, map[string][]string{"/orders": {"branch:b2", "company:c1"}}, m.Rooms)
	require.Equal(t, "forbidden", c.ask(t, "1", `{"type":"publish","ref":1,"events":[`+order("-", "b1")+`]}`).Code)
	i.Publish(t, service, "["+order("-", "b1")+`,{"namespace":"/availability","type":"newAlert","rooms":["branch:b1"],"data":{"message":"-"}},`+order("3", "b2")+"]")
	c.reach(t, 6)

	claims := jwt.MapClaims{"sub": "test-web", "exp": time.Now().Add(time.Hour).Unix(), "companyId": "c1", "userRole": "web"}
	with := func(name string, value any) string {
		other := jwt.MapClaims{name: value}
		for k, v := range claims {
			if k != name {
				other[k] = v
			}
		}
		return sign(t, jwt.SigningMethodHS256, []byte(apptest.Secret), other)
	}
	for token, code := range map[string]string{
		with("sub", "somebody else"):                     "forbidden",
		with("companyId", "c2"):                          "forbidden",
		with("companyId", "*"):                           "forbidden",
		with("exp", time.Now().Add(-time.Minute).Unix()): "token_expired",
		sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), claims): "unauthenticated",
		sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims): "unauthenticated",
		"": "unauthenticated",
	} {
		m := auth(token)
		require.Equal(t, "reply", m.Type)
		require.Equal(t, code, m.Code, string(m.Raw))
	}
	i.Publish(t, service, "["+order("-", "b1")+","+order("4", "b2")+"]")
	c.reach(t, 8)
	require.Equal(t, []string{"1", "2", "3", "4"}, c.orders())

	// The whole company: all of it from now on, and rights with it.
	m = auth(with("x", "no branch claim"))
	require.Equal(t, map[string][]string{"/orders": {"company:c1"}}, m.Rooms)
	m = c.ask(t, "2", `{"type":"publish","ref":2,"events":[`+order("5", "b9")+`]}`)
	require.True(t, m.OK, string(m.Raw))
	c.reach(t, 9)
}

func TestAuth_KeepsTheSessionAlive(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
	short := apptest.TokenUntil(t, expires, access.Web, "c1", "b1")
	renewed, forgotten := join(t, i, short, `[{"namespace":"/orders"}]`), join(t, i, short, `[{"namespace":"/orders"}]`)
	m := renewed.ask(t, "1", `{"type":"auth","ref":1,"token":"`+apptest.Token(t, access.Web, "c1", "b1")+`"}`)
	require.True(t, m.OK, string(m.Raw))
	require.Equal(t, websocket.CloseError{Code: 4002, Reason: "token_expired"}, forgotten.Closed(t))
	require.False(t, time.Now().Before(expires))
	i.Publish(t, apptest.Token(t, access.Service, "c1"), order("1", "b1"))
	renewed.reach(t, 1)
	require.Equal(t, "pong", renewed.ask(t, "2", `{"type":"ping","ref":2}`).Type)
}

func TestPing(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := join(t, i, apptest.Token(t, access.Web, "c1"), `[]`)
	for _, ref := range []string{`"a"`, `7`, `-1.50e3`, `true`, `"\u0000\ud83d\ude00<&>"`} {
		c.Send(t, `{"type":"ping","ref":`+ref+`}`)
		m := c.Next(t)
		require.Equal(t, "pong", m.Type)
		var want, got any
		require.NoError(t, json.Unmarshal([]byte(ref), &want))
		require.NoError(t, json.Unmarshal(m.Ref, &got))
		require.Equal(t, want, got)
	}
	c.Send(t, `{"type":"ping"}`)
	require.JSONEq(t, `{"type":"pong"}`, string(c.Next(t).Raw))
}

// What is wrong with a message is said, and the connection goes on, but not
// for ever.
func TestInvalidMessages(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	r := helloRaw(t, i, token, "/orders")
	require.Equal(t, "live", r.message(t).Type)
	r.send(t, fin|opBinary, []byte(`{"type":"ping"}`))
	require.Equal(t, "invalid_message", r.message(t).Code)
	for n, text := range []string{
		`{"type":"ping",`, "{\"type\":\"ping\",\"ref\":\"\xff\"}", `{"type":"fly"}`, `7`, `{"type":"hello","token":"` + token + `"}`, `{"type":"ack","cursor":"1-0"}`,
		`{"type":"subscribe"}`, `{"type":"unsubscribe","subscribe":[]}`,
	} {
		r.text(t, text)
		m := r.message(t)
		require.Equal(t, "error", m.Type, text)
		require.Contains(t, []string{"invalid_json", "invalid_message"}, m.Code, text)
		require.Equal(t, n < 2, m.Code == "invalid_json", text)
	}
	r.text(t, `{"type":"ping","ref":1}`)
	require.Equal(t, "pong", r.message(t).Type, "nine are forgiven")
	r.text(t, `{"type":"fly","ref":"x"}`)
	m := r.message(t)
	require.Equal(t, "invalid_message", m.Code)
	require.Equal(t, `"x"`, string(m.Ref))
	code, reason := r.closed(t)
	require.EqualValues(t, 4103, code)
	require.Equal(t, "invalid_message", reason)
}

func TestMessagesOfAnySize(t *testing.T) {
	t.Parallel()
	const limit = 64 << 10
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=32KiB")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	padded := func(size int) string {
		const bare = `{"type":"ping","ref":1,"x":""}`
		return bare[:len(bare)-2] + strings.Repeat("x", size-len(bare)) + `"}`
	}
	for name, send := range map[string]func(r *rawConn, text string){
		"in one frame": func(r *rawConn, text string) { r.text(t, text) },
		"in fragments": func(r *rawConn, text string) {
			r.send(t, opText, []byte(text[:1]))
			for rest := text[1:]; ; {
				n := min(len(rest), 1000)
				r.send(t, fin|opPing, []byte("in between"))
				if n == len(rest) {
					r.send(t, fin|opContinuation, []byte(rest))
					return
				}
				r.send(t, opContinuation, []byte(rest[:n]))
				rest = rest[n:]
			}
		},
	} {
		r := helloRaw(t, i, token, "/orders")
		require.Equal(t, "live", r.message(t).Type)
		send(r, padded(limit))
		require.Equal(t, "pong", r.message(t).Type, name)
		send(r, padded(limit+1))
		m := r.message(t)
		require.Equal(t, "too_large", m.Code, name)
		require.Contains(t, string(m.Raw), `"limit":65536`)
		code, reason := r.closed(t)
		require.EqualValues(t, 1009, code, name)
		require.Equal(t, "too_large", reason, name)
	}
	// Some KB that inflate to a hundred times the limit.
	s := join(t, i, token, `[]`)
	s.Send(t, padded(100*limit))
	require.Equal(t, "too_large", s.Next(t).Code)
	require.Equal(t, websocket.CloseError{Code: 1009, Reason: "too_large"}, s.Closed(t))
	require.Equal(t, http.StatusOK, i.Get(t, "/healthz", "").Status)
}
