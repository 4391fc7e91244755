package socketio_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
)

// ack is what an acknowledgement says.
type ack struct {
	OK            bool     `json:"ok"`
	Position      int64    `json:"position"`
	ID            string   `json:"id"`
	Duplicate     bool     `json:"duplicate"`
	Code          string   `json:"code"`
	Message       string   `json:"message"`
	CorrelationID string   `json:"correlationId"`
	Rooms         []string `json:"rooms"`
}

func acked(t testing.TB, c *sioclient.Client, namespace, id string) (a ack) {
	t.Helper()
	require.NoError(t, json.Unmarshal(c.Acked(t, namespace, id), &a))
	return a
}

// What is emitted is published: rooms and stream from the catalogue and the data, the
// correlation id from the data, the event's id from eventId alone.
func TestPublish(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	both(t, func(t *testing.T, transport string) {
		t.Helper()
		const eventID = "0192f0c4-0000-7000-8000-00000000000b"
		token := apptest.Token(t, access.Service, transport)
		c := sioclient.Dial(t, i, transport)
		c.Join(t, "/orders", sioclient.Token(token))
		c.Send(t, `2/orders,0["newOrder",{"id":"`+eventID+`","orderId":"1","branchId":"b1","correlationId":"call-1"}]`)
		first := acked(t, c, "/orders", "0")
		require.True(t, first.OK)
		require.NotEqual(t, eventID, first.ID, "that is the order's")
		c.Send(t, `2/orders,1["newOrder",{"eventId":"`+strings.ToUpper(eventID)+`","orderId":"2","branchId":"b1","correlationId":7}]`)
		second := acked(t, c, "/orders", "1")
		require.Equal(t, eventID, second.ID)
		require.False(t, second.Duplicate)
		for _, retry := range []string{"2", "3"} { // as the library's retries do, with another id each time
			c.Send(t, `2/orders,`+retry+`["newOrder",{"eventId":"`+strings.ToUpper(eventID)+`","orderId":"2","branchId":"b1","correlationId":7}]`)
			again := acked(t, c, "/orders", retry)
			require.True(t, again.OK && again.Duplicate)
			require.Equal(t, second.Position, again.Position)
		}
		c.Send(t, `2/orders,4["newOrder",{"eventId":"order-7","orderId":"3","branchId":"b1"}]`)
		require.True(t, acked(t, c, "/orders", "4").OK, "no UUID is no event's id")
		c.Send(t, `2/orders,["newOrder",{"orderId":"4","branchId":"b1","note":"<b>\u2028&"}]`) // nobody asks what became of it
		c.Until(t, "/orders", "newOrder")
		events, _, _ := i.History(t, token, "")
		for len(events) < 4 {
			events, _, _ = i.History(t, token, "")
		}
		require.Len(t, events, 4)
		require.Equal(t, []string{"call-1", eventID}, []string{events[0].CorrelationID, events[1].CorrelationID})
		require.Equal(t, []string{"branch:b1"}, events[0].Rooms)
		require.Equal(t, "order:1", *events[0].Stream)
		require.Equal(t, first.Position, events[0].Position)
	})
}

// Attachments are in the log as their base64 text.
func TestPublish_Binary(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	both(t, func(t *testing.T, transport string) {
		t.Helper()
		token := apptest.Token(t, access.Service, transport)
		c := sioclient.Dial(t, i, transport)
		c.Join(t, "/orders", sioclient.Token(token))
		c.Send(t, `52-/orders,7["newOrder",{"orderId":"1","branchId":"b1","logo":{"_placeholder":true,"num":1},"parts":[{"_placeholder":true,"num":0}]}]`,
			[]byte{0, 255, 254}, []byte("hello"))
		var data json.RawMessage
		for said := false; data == nil || !said; { // in any order
			p, err := c.Next(t)
			require.NoError(t, err)
			switch {
			case p.Kind == sioclient.Ack:
				require.Contains(t, p.Raw, `"ok":true`)
				said = true
			case strings.HasPrefix(p.Raw, `2/orders,["newOrder"`):
				_, arguments := p.Event(t)
				data = arguments[0]
			}
		}
		require.JSONEq(t, `{"orderId":"1","branchId":"b1","logo":"aGVsbG8=","parts":["AP/+"]}`, string(data))
		_ = c.TrySend(t, `51-/orders,8["newOrder",{"orderId":{"_placeholder":true,"num":7}}]`, []byte("x")) // a POST is refused for it
		c.Ended(t)
	})
}

// Attachments are messages, too, where those are counted.
func TestPublish_Pace(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_FRAME_RATE_PER_CONNECTION=20")[0]
	c := sioclient.Dial(t, i, sioclient.Polling)
	c.Join(t, "/orders", sioclient.Token(apptest.Token(t, access.Service, "c1")))
	parts := make([][]byte, 10)
	for n := 1; ; n++ {
		require.Less(t, n, 10)
		c.Send(t, fmt.Sprintf(`510-/orders,%d["newOrder",{"orderId":"1","branchId":"b1"}]`, n), parts...)
		if a := acked(t, c, "/orders", fmt.Sprint(n)); !a.OK {
			require.Equal(t, "rate_limited", a.Code)
			break
		}
	}
}

// Refusals are said in the acknowledgement or, without one, as an exception of NestJS's form.
func TestPublish_Refused(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, "/orders", sioclient.Token(apptest.Token(t, access.Web, "c1", "b1")))
	for emitted, test := range map[string]struct{ code, says string }{
		`"nothing",{}`:       {"unknown_type", "has no event type"},
		`"newOrder",{}`:      {"schema_violation", ""},
		`"newOrder"`:         {"invalid_message", "emit(name, data)"},
		`"newOrder",{},{}`:   {"invalid_message", "one argument"},
		`"newOrder",7`:       {"schema_violation", "must be a JSON object"},
		`"newOrder",null`:    {"schema_violation", "data"},
		`7,{"orderId":"1"}`:  {"unknown_type", ""},
		`"$o","p1-1"`:        {"unknown_type", ""},
		`"__proto__",{}`:     {"unknown_type", ""},
		`"join"`:             {"invalid_message", "room is missing"},
		`"join",{"room":1}`:  {"invalid_message", "room is missing"},
		`"join","kitchen"`:   {"invalid_room", ""},
		`"join","branch:b2"`: {"forbidden", ""},
		`"newOrder",{"orderId":"1","branchId":"b2"}`:                      {"forbidden", ""},
		`"newOrder",{"orderId":"1\u0000","branchId":"b1"}`:                {"schema_violation", ""},
		`"newOrder",{"orderId":"1\ud800","branchId":"b1"}`:                {"schema_violation", ""},
		`"newOrder",{"orderId":"1","branchId":"b1","correlationId":"\t"}`: {"invalid_parameter", "correlationId"},
	} {
		c.Send(t, `2/orders,7[`+emitted+`]`)
		a := acked(t, c, "/orders", "7")
		require.Equal(t, test.code, a.Code, emitted)
		require.Contains(t, a.Message, test.says, emitted)
		require.False(t, a.OK)
		c.Send(t, `2/orders,[`+emitted+`]`)
		exception, _ := c.Until(t, "/orders", "exception")
		var body struct{ Status, Message, Code, Event string }
		require.NoError(t, json.Unmarshal(exception, &body))
		require.Equal(t, []string{"error", a.Message, test.code}, []string{body.Status, body.Message, body.Code}, emitted)
	}
	require.Empty(t, i.Lines(t, "/v1/events", apptest.Token(t, access.Service, "c1")))
	c.Send(t, `2/orders,8["newOrder",{"orderId":"1","branchId":"b1"}]`)
	require.True(t, acked(t, c, "/orders", "8").OK, "and it goes on")
}

// Rooms are those of the token; a client can leave some, and come back, by either name.
func TestRooms(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, availability, sioclient.Token(apptest.Token(t, access.Web, "c1", "b1", "b2")))
	move := func(emitted string) []string {
		c.Send(t, `2/availability,1[`+emitted+`]`)
		a := acked(t, c, availability, "1")
		require.True(t, a.OK, emitted)
		return a.Rooms
	}
	require.Equal(t, []string{"branch:b1", "branch:b2", "company:c1"}, move(`"join",{"room":"branch_b1"}`))
	require.Equal(t, []string{"branch:b2", "company:c1"}, move(`"leave",{"room":"branch_b1"}`))
	alert(t, i, "branch:b1", "not heard")
	messages, _ := heard(t, c, alert(t, i, "branch:b2", "heard"))
	require.Equal(t, []string{"heard"}, messages)
	require.Equal(t, []string{"company:c1"}, move(`"leave","branch:b2"`))
	require.Equal(t, []string{}, move(`"leave","company_c1"`))
	require.Equal(t, []string{}, move(`"leave","company_c1"`), "a room that was left")
	apptest.Eventually(t, func() bool { // who is in no room is in the namespace all the same
		answer := i.Get(t, "/v1/connections?namespace=/availability", apptest.Token(t, access.Admin, "c1"))
		return strings.Contains(string(answer.Body), `"rooms":{"/availability":[]}`)
	}, apptest.Patience, 10*time.Millisecond, "it is still listed")
	require.Equal(t, []string{"branch:b1"}, move(`"join","branch:b1"`))
	alert(t, i, "branch:b2", "not heard")
	messages, _ = heard(t, c, alert(t, i, "branch:b1", "heard again"))
	require.Equal(t, []string{"heard again"}, messages)
}

// The acknowledgement of a request is its reply's data, whoever gives it and wherever, or the
// end of patience.
func TestRequest(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	web, app := apptest.Token(t, access.Web, "c1", "b1"), apptest.Token(t, access.DesktopApp, "c1", "b1")
	asks := sioclient.Dial(t, cluster[0], sioclient.WebSocket)
	asks.Join(t, "/printing-ws", sioclient.Token(web))
	printer := sioclient.Dial(t, cluster[1], sioclient.Polling)
	printer.Join(t, "/printing-ws", sioclient.Token(app))
	asks.Send(t, `2/printing-ws,5["printer:test",{"printerId":"p1","branchId":"b1","correlationId":"call-5"}]`)
	asks.Send(t, `2/printing-ws,6["printer:test",{"printerId":"p2","branchId":"b1"}]`)
	asks.Send(t, `2/printing-ws,["printer:test",{"printerId":"p3","branchId":"b1"}]`) // nobody waits
	asks.Send(t, `2/printing-ws,["printer:test",{"printerId":"p4","branchId":"b1","correlationId":""}]`)
	asked := map[string]string{}
	for range 4 {
		data, _ := printer.Until(t, "/printing-ws", "printer:test")
		var test struct{ PrinterID, CorrelationID string }
		require.NoError(t, json.Unmarshal(data, &test))
		asked[test.PrinterID] = test.CorrelationID
	}
	require.Equal(t, "call-5", asked["p1"])
	printer.Send(t, fmt.Sprintf(`2/printing-ws,["printer:test:result",{"printerId":"p1","branchId":"b1","success":true,"correlationId":%q}]`, asked["p1"]))
	require.JSONEq(t, `{"printerId":"p1","branchId":"b1","success":true,"correlationId":"call-5"}`, string(asks.Acked(t, "/printing-ws", "5")))
	// The other one is answered under the id that the log has given it; the log has the data as
	// they were.
	events, _, _ := cluster[0].History(t, web, "type=printer:test")
	require.Len(t, events, 4)
	require.Equal(t, events[1].CorrelationID, asked["p2"])
	require.JSONEq(t, `{"printerId":"p2","branchId":"b1"}`, string(events[1].Data))
	printer.Send(t, fmt.Sprintf(`2/printing-ws,["printer:test:result",{"printerId":"p2","branchId":"b1","correlationId":%q}]`, asked["p2"]))
	require.Contains(t, string(asks.Acked(t, "/printing-ws", "6")), `"p2"`)
}

// Who has left the namespace meanwhile is not answered any more.
func TestRequest_Left(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	asks := sioclient.Dial(t, i, sioclient.WebSocket)
	web := sioclient.Token(apptest.Token(t, access.Web, "c1", "b1"))
	asks.Join(t, "/printing-ws", web)
	asks.Until(t, "/printing-ws", "$live")
	asks.Send(t, `2/printing-ws,5["printer:test",{"printerId":"p1","branchId":"b1","correlationId":"call-5"}]`)
	asks.Until(t, "/printing-ws", "printer:test")
	asks.Until(t, "/printing-ws", "$o")
	asks.Send(t, "1/printing-ws,")
	i.AwaitMetric(t, `tailroom_request_waits_total{end="gone"}`, 1)
	asks.Join(t, "/printing-ws", web)
	i.Publish(t, apptest.Token(t, access.Service, "c1"),
		`{"namespace":"/printing-ws","type":"printer:test:result","correlationId":"call-5","data":{"printerId":"p1","branchId":"b1","success":true}}`)
	data, _ := asks.Until(t, "/printing-ws", "printer:test:result")
	require.JSONEq(t, `{"printerId":"p1","branchId":"b1","success":true,"correlationId":"call-5"}`, string(data), "it says what it answers")
	asks.Send(t, `2/printing-ws,6["printer:test",{}]`)
	for {
		p, err := asks.Next(t)
		require.NoError(t, err)
		if p.Kind == sioclient.Ack {
			require.Equal(t, "6", p.ID, p.Raw)
			break
		}
	}
	require.Equal(t, 1.0, i.Metric(t, "tailroom_socketio_emits_refused_total"))
}

// Nobody answers.
func TestRequest_Timeout(t *testing.T) {
	t.Parallel()
	catalogue := t.TempDir() + "/catalogue.yaml"
	write(t, catalogue, `namespaces:
  /printing-ws:
    description: Printers.
    events:
      printer:test:
        description: Asks for a page.
        publish: [web]
        rooms: ["branch:{data.branchId}"]
        reply: {type: "printer:test:result", timeout: 100ms, ack: true}
        schema: {type: object}
        example: {branchId: b1}
      printer:test:result:
        description: How it went.
        publish: [desktop_app]
        rooms: ["branch:{data.branchId}"]
        schema: {type: object}
        example: {branchId: b1}
`)
	i := apptest.Cluster(t, 1, "CATALOG_FILE="+catalogue)[0]
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, "/printing-ws", sioclient.Token(apptest.Token(t, access.Web, "c1", "b1")))
	c.Send(t, `2/printing-ws,5["printer:test",{"branchId":"b1","correlationId":"call-5"}]`)
	a := acked(t, c, "/printing-ws", "5")
	require.False(t, a.OK)
	require.Equal(t, "reply_timeout", a.Code)
	require.Equal(t, "call-5", a.CorrelationID)
	require.NotEmpty(t, a.ID)
	require.NotEmpty(t, a.Message)
}
