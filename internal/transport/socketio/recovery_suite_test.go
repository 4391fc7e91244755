package socketio_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/pgtest"
)

const availability = "/availability"

// A client that comes back to whatever instance misses nothing, and is the one it was: also
// without any event heard, and when an application's text has taken the offset's place.
func TestRecovery(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	one, other := apptest.Start(t, dsn), apptest.Start(t, dsn)
	both(t, func(t *testing.T, transport string) {
		t.Helper()
		token, room := apptest.Token(t, access.Web, "c1", transport), "branch:"+transport
		c := sioclient.Dial(t, one, transport)
		first := c.Join(t, availability, sioclient.Token(token))
		alert(t, other, room, "while nobody listens")
		c.Close()

		// It has heard nothing, so it has no offset.
		again := sioclient.Dial(t, other, transport)
		require.Equal(t, first, again.Join(t, availability, sioclient.Token(token, "pid", first.PID)), "recovered")
		messages, offset := heard(t, again, alert(t, one, room, "and one more"))
		require.Equal(t, []string{"while nobody listens", "and one more"}, messages)
		again.Close()
		last := alert(t, one, room, "again while nobody listens")
		for _, i := range []*apptest.Instance{one, other} {
			c := sioclient.Dial(t, i, transport)
			require.Equal(t, first, c.Join(t, availability, sioclient.Token(token, "pid", first.PID, "offset", offset)))
			messages, _ := heard(t, c, last)
			require.Equal(t, []string{"again while nobody listens"}, messages)
			c.Close()
		}
		// The application's own text has become the offset: from the pid on, then, and nothing is lost.
		for _, offset := range []any{"clobbered", "p", "", 7, nil, map[string]any{}, "p0-0", "pearliest"} {
			c := sioclient.Dial(t, one, transport)
			require.Equal(t, first, c.Join(t, availability, sioclient.Token(token, "pid", first.PID, "offset", offset)))
			messages, _ := heard(t, c, last)
			require.Equal(t, []string{"while nobody listens", "and one more", "again while nobody listens"}, messages)
			c.Close()
		}
		// A restarted device has kept the offset alone, or what it began with.
		for _, auth := range []map[string]any{
			sioclient.Token(token, "offset", offset), sioclient.Token(token, "cursor", strings.TrimPrefix(offset, "p")),
			sioclient.Token(token, "pid", "another server's", "offset", offset),
			sioclient.Token(token, "offset", offset, "cursor", "earliest"),
		} {
			c := sioclient.Dial(t, other, transport)
			w := c.Join(t, availability, auth)
			require.NotEqual(t, first.SID, w.SID)
			require.NotEqual(t, first.PID, w.PID)
			messages, _ := heard(t, c, last)
			require.Equal(t, []string{"again while nobody listens"}, messages)
			// A new pid and the offset of before: the greater one counts.
			c.Close()
			c = sioclient.Dial(t, one, transport)
			require.Equal(t, w, c.Join(t, availability, sioclient.Token(token, "pid", w.PID, "offset", first.PID)))
			messages, _ = heard(t, c, last)
			require.Equal(t, []string{"again while nobody listens"}, messages)
			c.Close()
		}
	})
}

// Everything is started anew while the client is away.
func TestRecovery_AfterARestart(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	first := apptest.Start(t, dsn)
	token := apptest.Token(t, access.Web, "c1", "b1")
	c := sioclient.Dial(t, first, sioclient.WebSocket)
	w := c.Join(t, availability, sioclient.Token(token))
	c.Until(t, availability, "$live")
	c.Close()
	alert(t, first, "branch:b1", "before the restart")
	first.Stop()
	i := apptest.Start(t, dsn)
	c = sioclient.Dial(t, i, sioclient.WebSocket)
	require.Equal(t, w, c.Join(t, availability, sioclient.Token(token, "pid", w.PID)))
	messages, _ := heard(t, c, alert(t, i, "branch:b1", "after it"))
	require.Equal(t, []string{"before the restart", "after it"}, messages)
	require.Equal(t, 1.0, i.Metric(t, `tailroom_socketio_connects_total{recovery="recovered"}`))
}

// A pid is nobody else's, and no right: rooms and namespaces are those of the token that comes
// with it.
func TestRecovery_OfOthers(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	w := c.Join(t, availability, sioclient.Token(apptest.Token(t, access.Web, "c1")))
	live := alert(t, i, "branch:b1", "secret")
	messages, _ := heard(t, c, live)
	require.Equal(t, []string{"secret"}, messages)
	for name, auth := range map[string]map[string]any{
		"subject": sioclient.Token(apptest.Token(t, access.DesktopApp, "c1"), "cursor", "now"),
		"company": sioclient.Token(apptest.Token(t, access.Web, "c2")),
		"branch":  sioclient.Token(apptest.Token(t, access.Web, "c1"), "branchId", "b1"),
	} {
		auth["pid"] = w.PID
		c := sioclient.Dial(t, i, sioclient.WebSocket)
		theirs := c.Join(t, availability, auth)
		require.NotEqual(t, w.SID, theirs.SID, name)
		require.NotEqual(t, w.PID, theirs.PID, name)
		_, before := c.Until(t, availability, "$live")
		require.Empty(t, before, name)
	}
	r := refused(t, sioclient.Dial(t, i, sioclient.WebSocket).Ask(t, availability, map[string]any{"pid": w.PID}))
	require.Equal(t, "unauthenticated", r.Data["code"])
	// The same subject, with fewer rooms than before.
	c = sioclient.Dial(t, i, sioclient.WebSocket)
	require.Equal(t, w, c.Join(t, availability, sioclient.Token(apptest.Token(t, access.Web, "c1", "b2"), "pid", w.PID)))
	messages, _ = heard(t, c, live)
	require.Empty(t, messages)
}

// A public id is no secret. A pid that somebody writes around one, or another's own, ends
// nobody's connection.
func TestRecovery_Forged(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	victim := sioclient.Dial(t, i, sioclient.WebSocket)
	w := victim.Join(t, availability, sioclient.Token(apptest.Token(t, access.Web, "c1")))
	sid, err := base64.RawURLEncoding.DecodeString(w.SID)
	require.NoError(t, err)
	forged := append(append([]byte{1}, sid...), 1, 1, 1)
	for _, pid := range []string{base64.RawURLEncoding.EncodeToString(append(forged, make([]byte, 16)...)), w.PID} {
		c := sioclient.Dial(t, i, sioclient.WebSocket)
		c.Join(t, availability, sioclient.Token(apptest.Token(t, access.Web, "c2"), "pid", pid))
		c.Until(t, availability, "$live")
	}
	messages, _ := heard(t, victim, alert(t, i, "branch:b1", "still here"))
	require.Equal(t, []string{"still here"}, messages)
	require.Zero(t, i.Metric(t, "tailroom_socketio_takeovers_total"))
}

// The predecessor is half open: nobody has noticed that it is dead. It is taken over, with all
// its namespaces.
func TestRecovery_TakesOver(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	both(t, func(t *testing.T, transport string) {
		t.Helper()
		token, room := apptest.Token(t, access.Web, "c1", transport), "branch:"+transport
		dead := sioclient.Dial(t, i, transport)
		w := dead.Join(t, availability, sioclient.Token(token))
		orders := dead.Join(t, "/orders", sioclient.Token(token))
		before := i.Metric(t, "tailroom_socketio_takeovers_total")
		alert(t, i, room, "into the void")
		c := sioclient.Dial(t, i, transport)
		require.Equal(t, w, c.Join(t, availability, sioclient.Token(token, "pid", w.PID)))
		messages, _ := heard(t, c, alert(t, i, room, "and on"))
		require.Equal(t, []string{"into the void", "and on"}, messages)
		require.Equal(t, orders, c.Join(t, "/orders", sioclient.Token(token, "pid", orders.PID)))
		require.Greater(t, i.Metric(t, "tailroom_socketio_takeovers_total"), before)
		code, reason := dead.Ended(t)
		if transport == sioclient.WebSocket {
			require.Equal(t, "4104 replaced", fmt.Sprint(code, " ", reason))
		}

		// On the same connection, it comes in its own place.
		c.Until(t, "/orders", "$live")
		c.Send(t, "1/orders,")
		require.Equal(t, orders, c.Join(t, "/orders", sioclient.Token(token, "pid", orders.PID)))
		messages, _ = heard(t, c, alert(t, i, room, "which lives"))
		require.Equal(t, []string{"which lives"}, messages)
	})
}

// Its predecessor has the seat that it needs.
func TestRecovery_TakesTheSeat(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_SESSIONS_PER_COMPANY=1")[0]
	token := sioclient.Token(apptest.Token(t, access.Web, "c1", "b1"))
	dead := sioclient.Dial(t, i, sioclient.WebSocket)
	token["pid"] = dead.Join(t, availability, token).PID
	for range 2 {
		c := sioclient.Dial(t, i, sioclient.WebSocket)
		require.Equal(t, token["pid"], c.Join(t, availability, token).PID)
	}
	require.Zero(t, i.Metric(t, `tailroom_limited_total{limit="sessions_per_company"}`))
}

// Also where it cannot go on where it was, and on another instance.
func TestRecovery_TakesOverAfterAReset(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	token := apptest.Token(t, access.Web, "c1", "b1")
	dead := sioclient.Dial(t, cluster[0], sioclient.WebSocket)
	w := dead.Join(t, availability, sioclient.Token(token))
	// An instance that has just begun learns of the others within a second.
	told := func() bool { return cluster[1].Metric(t, `tailroom_peer_takeovers_total{outcome="told"}`) > 0 }
	for deadline := time.Now().Add(apptest.Patience); !told(); {
		require.True(t, time.Now().Before(deadline))
		c := sioclient.Dial(t, cluster[1], sioclient.WebSocket)
		theirs := c.Join(t, availability, sioclient.Token(token, "pid", w.PID, "offset", "p9-1"))
		require.NotEqual(t, w, theirs)
		reset, _ := c.Until(t, availability, "$reset")
		require.Contains(t, string(reset), `"reason":"diverged"`)
	}
	code, reason := dead.Ended(t)
	require.Equal(t, "4104 replaced", fmt.Sprint(code, " ", reason))
}

// Many come back at once with one pid: one is left.
func TestRecovery_Crowd(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	first := sioclient.Dial(t, i, sioclient.WebSocket)
	w := first.Join(t, availability, sioclient.Token(token))
	list := make([]*sioclient.Client, 12)
	text, err := json.Marshal(sioclient.Token(token, "pid", w.PID))
	require.NoError(t, err)
	for n := range list {
		list[n] = sioclient.Dial(t, i, sioclient.WebSocket)
	}
	for _, c := range list {
		c.Send(t, "0"+availability+","+string(text))
	}
	i.AwaitMetric(t, `tailroom_socketio_connects_total{recovery="recovered"}`, float64(len(list)))
	i.AwaitMetric(t, `tailroom_connections{role="web",transport="socketio"}`, 1)
	i.AwaitMetric(t, `tailroom_engineio_connections{transport="websocket",version="4"}`, 1)
}

// What the log does not have any more is not recovered: a new pid, a reset, and then what there is.
func TestRecovery_BelowTheFloor(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	execute := func(sql string) {
		_, err := pgtest.Pool(t, dsn).Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	execute("UPDATE tailroom.log SET partition_size = 5")
	first := apptest.Start(t, dsn)
	token := apptest.Token(t, access.Web, "c1", "b1")
	c := sioclient.Dial(t, first, sioclient.WebSocket)
	w := c.Join(t, availability, sioclient.Token(token))
	for n := range 8 {
		alert(t, first, "branch:b1", fmt.Sprint(n))
	}
	c.Close()
	first.Stop()
	execute(`BEGIN; ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1; DROP TABLE tailroom.events_1;
		DELETE FROM tailroom.partitions WHERE first = 1; UPDATE tailroom.log SET floor = 5; COMMIT`)
	i := apptest.Start(t, dsn)
	for range 2 {
		c = sioclient.Dial(t, i, sioclient.WebSocket)
		theirs := c.Join(t, availability, sioclient.Token(token, "pid", w.PID, "offset", "p1-2"))
		require.NotEqual(t, w.SID, theirs.SID)
		require.NotEqual(t, w.PID, theirs.PID)
		reset, before := c.Until(t, availability, "$reset")
		require.Empty(t, before)
		require.JSONEq(t, `{"reason":"expired","oldest":"1-5","resume":"1-5","snapshot":"/v1/state"}`, string(reset))
		offset, before := c.Until(t, availability, "$o")
		require.Empty(t, before)
		require.Equal(t, "1-5", sioclient.Offset(t, offset), "whoever comes back with it is not reset again")
		messages, _ := heard(t, c, 8)
		require.Equal(t, []string{"5", "6", "7"}, messages)
		c.Close()
	}
	require.Equal(t, 2.0, i.Metric(t, `tailroom_socketio_connects_total{recovery="reset"}`))
}

// In a namespace of that setting, each event ends with its offset; what the server says itself
// does not touch it, but for bookmarks.
func TestRecovery_Trailing(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_SOCKETIO_TRAILING=/orders,/availability", "TAILROOM_HEARTBEAT=300ms")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	w := c.Join(t, availability, sioclient.Token(token))
	c.Until(t, availability, "$live")
	c.Join(t, "/printing-ws", sioclient.Token(token))
	c.Until(t, "/printing-ws", "$live")
	at := alert(t, i, "branch:b1", "1")
	alert(t, i, "branch:b1", "2")
	next := func() sioclient.Packet { // but for the bookmark of the namespace in marker mode
		for {
			p, err := c.Next(t)
			require.NoError(t, err)
			if !strings.HasPrefix(p.Raw, `2/printing-ws,["$o",`) {
				return p
			}
		}
	}
	for n := range int64(2) {
		p := next()
		require.Equal(t, fmt.Sprintf(`2/availability,["newAlert",{"message":"%d"},"p1-%d"]`, n+1, at+n), p.Raw)
	}
	i.Publish(t, apptest.Token(t, access.Service, "c1"), `{"namespace":"/printing-ws","type":"printer:test","data":{"printerId":"p","branchId":"b1"}}`)
	heard, offset := false, ""
	for !heard || offset != fmt.Sprintf("1-%d", at+2) { // a bookmark
		p := next()
		if p.Namespace == "/printing-ws" {
			heard = true
			require.NotContains(t, p.Raw, `"p1-`, "the other mode")
			require.Contains(t, p.Raw, "printer:test")
			continue
		}
		require.Contains(t, p.Raw, `["$o",`)
		offset = strings.TrimSuffix(strings.TrimPrefix(p.Raw, `2/availability,["$o","p`), `"]`)
	}
	c.Close()
	c = sioclient.Dial(t, i, sioclient.WebSocket)
	require.Equal(t, w, c.Join(t, availability, sioclient.Token(token, "pid", w.PID, "offset", fmt.Sprintf("p1-%d", at))))
	p := next()
	require.Contains(t, p.Raw, `"2"`)
	require.Contains(t, p.Raw, fmt.Sprintf(`,"p1-%d"]`, at+1))
}
