package socketio_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// both runs a test over both transports.
func both(t *testing.T, test func(t *testing.T, transport string)) {
	t.Helper()
	for _, transport := range []string{sioclient.WebSocket, sioclient.Polling} {
		t.Run(transport, func(t *testing.T) {
			t.Parallel()
			test(t, transport)
		})
	}
}

// alert publishes an alert to a room, and returns its position.
func alert(t testing.TB, i *apptest.Instance, room, text string) int64 {
	t.Helper()
	return i.Publish(t, apptest.Token(t, access.Service, "c1"),
		fmt.Sprintf(`{"namespace":"/availability","type":"newAlert","rooms":[%q],"data":{"message":%q}}`, room, text))[0].Position
}

// heard reads up to an offset at a position or beyond, and returns the messages of the alerts
// that came, and the offset.
func heard(t testing.TB, c *sioclient.Client, position int64) (messages []string, offset string) {
	t.Helper()
	for {
		p, err := c.Next(t)
		require.NoError(t, err)
		if p.Kind != sioclient.Event || p.Namespace != "/availability" {
			continue
		}
		switch name, arguments := p.Event(t); name {
		case "newAlert":
			require.Len(t, arguments, 1)
			var data struct{ Message string }
			require.NoError(t, json.Unmarshal(arguments[0], &data))
			messages = append(messages, data.Message)
		case "$o", "$live":
			require.NoError(t, json.Unmarshal(arguments[0], &offset))
			var at int64
			_, err := fmt.Sscanf(offset, "p1-%d", &at)
			require.NoError(t, err)
			if at >= position {
				return messages, offset
			}
		}
	}
}

// refusal is a CONNECT_ERROR.
type refusal struct {
	Message string
	Data    map[string]any
}

func refused(t testing.TB, p sioclient.Packet) (r refusal) {
	t.Helper()
	require.Equal(t, sioclient.ConnectError, p.Kind, p.Raw)
	require.NoError(t, json.Unmarshal(p.Data, &r))
	return r
}

// Several namespaces on one connection, each with a session, an id and a pid of its own.
func TestConnect_Namespaces(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	both(t, func(t *testing.T, transport string) {
		t.Helper()
		token := apptest.Token(t, access.Web, "c1", transport)
		c := sioclient.Dial(t, i, transport)
		p := c.Ask(t, "/unknown", sioclient.Token(token))
		require.JSONEq(t, `{"message":"Invalid namespace"}`, string(p.Data))
		c.Send(t, `0{"token":"`+token+`"}`)
		p, err := c.Next(t)
		require.NoError(t, err)
		require.Equal(t, `4{"message":"Invalid namespace"}`, p.Raw)

		ids := map[string]bool{}
		for _, namespace := range []string{"/orders", "/availability", "/printing-ws"} {
			p := c.Ask(t, namespace, sioclient.Token(token))
			var fields map[string]string
			require.NoError(t, json.Unmarshal(p.Data, &fields))
			require.Len(t, fields, 2)
			require.Len(t, fields["sid"], 20)
			ids[fields["sid"]], ids[fields["pid"]] = true, true
			require.NotContains(t, p.Raw, c.SID[:20], "the engine's id is a secret")
			c.Until(t, namespace, "$live")
		}
		require.Len(t, ids, 6)
		require.Equal(t, 1.0, i.Metric(t, `tailroom_engineio_connections{transport="`+transport+`",version="4"}`))

		// One that is left is left alone, and can be joined again; the others go on.
		c.Send(t, "1/orders,")
		joined := "/v1/connections?namespace=/orders&room=branch:" + transport
		apptest.Eventually(t, func() bool {
			return strings.Contains(string(i.Get(t, joined, apptest.Token(t, access.Admin, "c1")).Body), `"totalConnections":0,`)
		}, apptest.Patience, 10*time.Millisecond, "the namespace is left")
		at := alert(t, i, "branch:"+transport, "1")
		messages, _ := heard(t, c, at)
		require.Equal(t, []string{"1"}, messages)
		order := `{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"` + transport + `"}}`
		i.Reach(t, i.Publish(t, apptest.Token(t, access.Service, "c1"), fmt.Sprintf(order, 1))[0].Position)
		c.Join(t, "/orders", sioclient.Token(token))
		i.Publish(t, apptest.Token(t, access.Service, "c1"), fmt.Sprintf(order, 2))
		data, _ := c.Until(t, "/orders", "newOrder")
		require.Contains(t, string(data), `"orderId":"2"`)
	})
}

// The token in all its places, and what is said of one that is not believed.
func TestConnect_Tokens(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	for name, test := range map[string]struct {
		auth   any
		header string
	}{
		"as it is":            {sioclient.Token(token), ""},
		"with Bearer":         {sioclient.Token("Bearer " + token), ""},
		"with bearer":         {sioclient.Token("bearer  " + token), ""},
		"in the header":       {map[string]any{}, "Bearer " + token},
		"none in the payload": {nil, "Bearer " + token},
		"empty":               {sioclient.Token(""), "Bearer " + token},
		"before the header's": {sioclient.Token(token), "Bearer nonsense"},
		"among other things":  {sioclient.Token(token, "userRole", "admin", "offset", 7, "pid", []int{1}, "companyId", nil), ""},
	} {
		c := sioclient.Dial(t, i, sioclient.Polling, "Authorization", test.header)
		if test.auth == nil {
			c.Send(t, "0/orders,")
			p, err := c.Next(t)
			require.NoError(t, err)
			require.Equal(t, sioclient.Connect, p.Kind, name)
			continue
		}
		c.Join(t, "/orders", test.auth)
	}
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	service := apptest.Token(t, access.Service, "*")
	for name, test := range map[string]struct {
		auth any
		code string
		says string
	}{
		"none":             {map[string]any{}, "unauthenticated", "auth: {token}"},
		"nonsense":         {sioclient.Token("nonsense"), "unauthenticated", ""},
		"no text":          {map[string]any{"token": 7}, "invalid_message", "the field token"},
		"expired":          {sioclient.Token(apptest.TokenUntil(t, time.Now().Add(-time.Minute), access.Web, "c1")), "token_expired", ""},
		"another company":  {sioclient.Token(token, "companyId", "c2"), "forbidden", ""},
		"another branch":   {sioclient.Token(token, "branchId", 2), "forbidden", ""},
		"another room":     {sioclient.Token(token, "rooms", []string{"branch:b2"}), "forbidden", ""},
		"no list of rooms": {sioclient.Token(token, "rooms", "branch:b1"), "invalid_message", "the field rooms"},
		"no cursor":        {sioclient.Token(token, "cursor", "p1-1"), "invalid_cursor", ""},
		"no company":       {sioclient.Token(service), "invalid_parameter", "companyId"},
	} {
		r := refused(t, c.Ask(t, "/orders", test.auth))
		require.Equal(t, test.code, r.Data["code"], name)
		require.Contains(t, r.Message, test.says, name)
		require.NotContains(t, r.Message, token)
	}
	// Ten in a row, and the eleventh closes the connection.
	c.Send(t, `0/orders,{}`)
	code, reason := c.Ended(t)
	require.Equal(t, "4103 invalid_message", fmt.Sprint(code, " ", reason))
	require.Equal(t, 2.0, i.Metric(t, `tailroom_hello_refused_total{code="unauthenticated",transport="socketio"}`)-1)
}

// What is no packet, or not one that may come then, closes the connection.
func TestConn_Violations(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	for name, packets := range map[string][]string{
		"no packet":                 {"9"},
		"an event before a CONNECT": {`2["a",{}]`},
		"of another namespace":      {`2/availability,["a",{}]`},
		"an ack of another":         {`3/availability,1[]`},
		"leaving another":           {"1/availability,"},
		"attachments of another":    {`51-/availability,["a",{"_placeholder":true,"num":0}]`},
		"a second CONNECT":          {`0/orders,{"token":"` + token + `"}`},
		"a CONNECT_ERROR":           {`4/orders,{}`},
		"a reserved name":           {`2/orders,["disconnect"]`},
		"no event":                  {"2/orders,"},
		"text among attachments":    {`51-/orders,["a",{"_placeholder":true,"num":0}]`, `2/orders,["a",{}]`},
		"too many attachments":      {`511-/orders,["a"]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, transport := range []string{sioclient.WebSocket, sioclient.Polling} {
				c := sioclient.Dial(t, i, transport)
				c.Join(t, "/orders", sioclient.Token(token))
				c.Until(t, "/orders", "$live")
				for _, p := range packets {
					_ = c.TrySend(t, p) // a POST may be refused for it
				}
				if transport == sioclient.WebSocket {
					code, reason := c.Ended(t)
					require.Equal(t, "4103 invalid_message", fmt.Sprint(code, " ", reason))
				} else {
					c.Ended(t)
				}
			}
		})
	}
	t.Run("an attachment of nothing", func(t *testing.T) {
		t.Parallel()
		c := sioclient.Dial(t, i, sioclient.Polling)
		c.Join(t, "/orders", sioclient.Token(token))
		require.Error(t, c.Write(t, "bAAAA"))
		c.Ended(t)
	})
}

// Where a client is to try again, the connection is closed, and nothing is refused for good.
func TestConnect_TryAgain(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_SESSIONS_PER_COMPANY=1", "TAILROOM_MAX_SESSIONS_PER_ADDRESS=2")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	first := sioclient.Dial(t, i, sioclient.WebSocket)
	first.Join(t, "/orders", sioclient.Token(token))
	second := sioclient.Dial(t, i, sioclient.WebSocket)
	answer := i.Get(t, "/socket.io/?EIO=4&transport=polling", "")
	require.Equal(t, http.StatusTooManyRequests, answer.Status)
	require.Contains(t, string(answer.Body), `{"code":4,`)
	begin := time.Now()
	for range 3 {
		second.Send(t, `0/orders,{"token":"`+token+`"}`)
	}
	code, reason := second.Ended(t)
	require.Equal(t, "1013 overloaded", fmt.Sprint(code, " ", reason))
	require.Greater(t, time.Since(begin), time.Second, "it would be back a second later")
	require.InDelta(t, 1, i.Metric(t, `tailroom_hello_refused_total{code="rate_limited",transport="socketio"}`), 0, "once for each connection")

	// The seats are given back.
	first.Until(t, "/orders", "$live")
	first.Send(t, "1/orders,")
	i.AwaitMetric(t, `tailroom_connections{role="web",transport="socketio"}`, 0)
	first.Join(t, "/orders", sioclient.Token(token))
	first.Close()
	i.AwaitMetric(t, `tailroom_engineio_connections{transport="websocket",version="4"}`, 0)
	apptest.Eventually(t, func() bool { // the namespace's comes a moment after the connection's
		third := sioclient.Dial(t, i, sioclient.WebSocket)
		defer third.Close()
		third.Send(t, `0/orders,{"token":"`+token+`"}`)
		p, err := third.Next(t)
		return err == nil && p.Kind == sioclient.Connect
	}, apptest.Patience, 20*time.Millisecond)
}

// Whom an operator disconnects is sent out of the namespace, for good, and out of no other.
func TestConnect_Disconnected(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, transport := range []string{sioclient.WebSocket, sioclient.Polling} { // one after the other: the order is for a subject
		mine := apptest.Token(t, access.Web, "c1", transport)
		c := sioclient.Dial(t, i, transport)
		c.Join(t, "/orders", sioclient.Token(apptest.Token(t, access.DesktopApp, "c1", "b1")))
		c.Join(t, "/availability", sioclient.Token(mine))
		c.Until(t, "/availability", "$live")
		ordered := i.Do(t, http.MethodPost, "/v1/disconnections", apptest.Token(t, access.Admin, "c1"), `{"subject":"test-desktop_app","reason":"of the test"}`)
		require.Equal(t, http.StatusCreated, ordered.Status)
		for said := false; ; {
			p, err := c.Next(t)
			require.NoError(t, err)
			if p.Kind == sioclient.Disconnect {
				require.Equal(t, "1/orders,", p.Raw)
				require.True(t, said)
				break
			}
			said = said || strings.HasPrefix(p.Raw, `2/orders,["$goaway",{`) && strings.Contains(p.Raw, `"reason":"disconnected"`)
		}
		c.Send(t, `2/orders,["newOrder",{}]`) // was on its way
		c.Send(t, "1/orders,")
		messages, _ := heard(t, c, alert(t, i, "branch:"+transport, "1"))
		require.Equal(t, []string{"1"}, messages)
	}
}

// With SOCKETIO_TOKEN_EXPIRY=keep a session outlives its token, also to publish, until it is
// revoked.
func TestConnect_KeptExpired(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "SOCKETIO_TOKEN_EXPIRY=keep")[0]
	expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
	token := apptest.TokenUntil(t, expires, access.Web, "c1", "b1")
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, "/orders", sioclient.Token(token))
	c.Join(t, "/availability", sioclient.Token(token))
	other, _ := i.Hello(t, token, "", `[{"namespace":"/orders"}]`)
	require.Equal(t, "token_expired", other.Closed(t).Reason)
	c.Send(t, `2/orders,1["newOrder",{"orderId":"1","branchId":"b1"}]`)
	require.Contains(t, string(c.Acked(t, "/orders", "1")), `"ok":true`)
	messages, _ := heard(t, c, alert(t, i, "branch:b1", "late"))
	require.Equal(t, []string{"late"}, messages)
	r := i.Do(t, http.MethodPost, "/v1/revocations", apptest.Token(t, access.Admin, "c1"), `{"subject":"test-web","reason":"of the test"}`)
	require.Equal(t, http.StatusCreated, r.Status)
	for left := 0; left < 2; {
		p, err := c.Next(t)
		require.NoError(t, err)
		if p.Kind == sioclient.Disconnect {
			left++
		}
	}
}

// While the log is away nobody is refused for good.
func TestConnect_LogAway(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	i := apptest.Start(t, proxy.DSN())
	token := apptest.Token(t, access.Web, "c1", "b1")
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	proxy.Refuse(true)
	c.Send(t, `0/orders,{"token":"`+token+`"}`)
	p, err := c.Next(t)
	require.Error(t, err, p.Raw)
	code, reason := sioclient.Why(t, err)
	require.Equal(t, "1013 overloaded", fmt.Sprint(code, " ", reason))
	proxy.Refuse(false)
	apptest.Eventually(t, func() bool {
		c := sioclient.Dial(t, i, sioclient.WebSocket)
		defer c.Close()
		c.Send(t, `0/orders,{"token":"`+token+`"}`)
		p, err := c.Next(t)
		return err == nil && p.Kind == sioclient.Connect
	}, apptest.Patience, 50*time.Millisecond)
}

// Who sends too fast is told, and cut off when he does not listen.
func TestConn_TooFast(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_FRAME_RATE_PER_CONNECTION=2")[0]
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, "/orders", sioclient.Token(apptest.Token(t, access.Web, "c1", "b1")))
	for range 20 { // more than may come while they are sent
		c.Send(t, `2/orders,1["join","branch:b1"]`)
	}
	for refused := false; !refused; {
		answer := string(c.Acked(t, "/orders", "1"))
		refused = strings.Contains(answer, `"code":"rate_limited"`) && strings.Contains(answer, `"retryAfterMs":`)
	}
	for range 2000 { // it never reads
		if c.TrySend(t, `3/orders,1[]`) != nil {
			break
		}
	}
	_, reason := c.Ended(t)
	require.Equal(t, "overloaded", reason)
}
