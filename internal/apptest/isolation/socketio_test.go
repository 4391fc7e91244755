package isolation_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
)

// namespaces are all there are.
var namespaces = []string{"/orders", "/availability", "/printing-ws"}

// hearsSocketIO joins every namespace from the beginning of the log, as a Socket.IO client, and
// reads each up to where it is caught up. It returns the bytes that came, and how many events
// did.
func hearsSocketIO(t testing.TB, i *apptest.Instance, transport, token, company string) (raw string, heard int) {
	t.Helper()
	var b strings.Builder
	c := sioclient.Dial(t, i, transport)
	auth := sioclient.Token(token, "cursor", "earliest")
	if company != "" {
		auth["companyId"] = company
	}
	text, err := json.Marshal(auth)
	require.NoError(t, err)
	for _, namespace := range namespaces {
		c.Send(t, "0"+namespace+","+string(text))
	}
	for live := 0; live < len(namespaces); {
		p, err := c.Next(t)
		require.NoError(t, err)
		require.NotEqual(t, sioclient.ConnectError, p.Kind, p.Raw)
		b.WriteString(p.Raw)
		if p.Kind != sioclient.Event {
			continue
		}
		switch name, _ := p.Event(t); name {
		case "$live":
			live++
		case "$o":
		default:
			heard++
		}
	}
	c.Close()
	return b.String(), heard
}

// A Socket.IO client of another company gets nothing by naming rooms, streams, ids, or the
// pid of somebody else.
func TestIsolation_SocketIO(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	theirs, mine := apptest.Token(t, access.Service, "bravo"), apptest.Token(t, access.Service, "alpha")
	i.Publish(t, theirs, "["+order("1", "b1", classified)+`,{"namespace":"/availability","type":"newAlert","data":{"message":"`+classified+`"}}]`)
	i.Publish(t, mine, order("1", "b1", "mine"))
	i.Reach(t, 3)
	victim := sioclient.Dial(t, i, sioclient.WebSocket)
	w := victim.Join(t, "/orders", sioclient.Token(theirs))
	for _, token := range []string{mine, apptest.Token(t, access.Web, "alpha", "b1"), apptest.Token(t, access.Admin, "alpha")} {
		c := sioclient.Dial(t, i, sioclient.WebSocket)
		joined := c.Join(t, "/orders", sioclient.Token(token, "pid", w.PID, "offset", "p1-0"))
		require.NotEqual(t, w.SID, joined.SID)
		data, before := c.Until(t, "/orders", "newOrder")
		require.Empty(t, before)
		require.Contains(t, string(data), "mine")
		for _, room := range []string{"company:bravo", "company_bravo"} {
			c.Send(t, `2/orders,1["join","`+room+`"]`)
			answer := string(c.Acked(t, "/orders", "1"))
			require.Contains(t, answer, `"ok":false`)
			require.NotContains(t, answer, classified)
			p := sioclient.Dial(t, i, sioclient.WebSocket).Ask(t, "/availability", sioclient.Token(token, "rooms", []string{room}))
			require.Equal(t, sioclient.ConnectError, p.Kind)
		}
		c.Send(t, `2/orders,2["newOrder",{"orderId":"1","branchId":"b1","companyId":"bravo"}]`) // a field like any other
		c.Acked(t, "/orders", "2")
		p := sioclient.Dial(t, i, sioclient.WebSocket).Ask(t, "/availability", sioclient.Token(token, "companyId", "bravo"))
		require.Contains(t, p.Raw, `"code":"forbidden"`)
	}
	_, before := victim.Until(t, "/orders", "$live")
	require.Empty(t, before)
	for _, line := range i.Lines(t, "/v1/events", theirs) {
		require.Contains(t, line, classified)
	}
	// The engine's id of another is needed to read by polling, and guessed by nobody.
	guess := victim.SID[:len(victim.SID)-1] + "B" // in which no id of 128 bits ends
	answer := i.Get(t, "/socket.io/?EIO=4&transport=polling&sid="+guess, "")
	require.Equal(t, `{"code":1,"message":"Session ID unknown"}`, string(answer.Body))
}
