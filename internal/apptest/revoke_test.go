package apptest_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

const orders = `[{"namespace":"/orders"}]`

// soon is how long a revocation may take to be in force on every instance.
const soon = time.Second

// tokenOf mints a token of a subject that was issued some time ago.
func tokenOf(t *testing.T, subject string, age time.Duration, company string, branches ...string) string {
	t.Helper()
	token, err := access.Mint([]byte(apptest.Secret), access.Claims{
		Subject: subject, CompanyID: company, BranchIDs: branches, UserRole: "web",
		IssuedAt: time.Now().Add(-age), Expires: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	return token
}

// operate gives an administrator's order, which must be carried out.
func operate(t *testing.T, i *apptest.Instance, path, company, body string) apptest.Answer {
	t.Helper()
	answer := i.Do(t, http.MethodPost, path, apptest.Token(t, access.Admin, company), body)
	require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	return answer
}

// refused reports how a token fares on every route and transport: it must be the
// same everywhere.
func refused(t *testing.T, i *apptest.Instance, token string) bool {
	t.Helper()
	newOrder := `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`
	answers := map[string]apptest.Answer{
		"catalog": i.Get(t, "/v1/catalog", token), "history": i.Get(t, "/v1/events", token),
		"event": i.Get(t, "/v1/events/018f0000-0000-7000-8000-000000000000", token), "stream": {},
		"publish": i.Post(t, token, newOrder), "lines": i.PostLines(t, token, newOrder),
		"revocations": i.Do(t, http.MethodPost, "/v1/revocations", token, `{}`),
	}
	dead := answers["catalog"].Status == http.StatusUnauthorized
	if dead {
		answers["stream"] = i.Get(t, "/v1/stream", token)
		for route, answer := range answers {
			require.Equal(t, http.StatusUnauthorized, answer.Status, route)
			require.Equal(t, "token_revoked", answer.Code(), route)
		}
	}
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": token, "subscribe": json.RawMessage(orders)})
	if first := s.Next(t); dead {
		require.Equal(t, "error", first.Type)
		require.Equal(t, "token_revoked", first.Code)
		require.Equal(t, websocket.CloseError{Code: 4101, Reason: "token_revoked"}, s.Closed(t))
	} else {
		require.Equal(t, "welcome", first.Type)
	}
	return dead
}

// A revocation ends every session that it means and refuses every new one, on all
// instances, over all transports, within a second. Nobody else notices.
func TestRevoke_WithinASecond(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	instances := []*apptest.Instance{apptest.Start(t, dsn), apptest.Start(t, dsn)}
	old, other := tokenOf(t, "mallory", time.Minute, "c1", "b1"), tokenOf(t, "alice", time.Minute, "c1", "b1")
	elsewhere := tokenOf(t, "mallory", time.Minute, "c2", "b1")
	type client struct {
		socket *apptest.Socket
		stream *apptest.Stream
	}
	connect := func(i *apptest.Instance, token string) client {
		socket, _ := i.Hello(t, token, "", orders)
		socket.Until(t, "live")
		stream := i.Stream(t, token, "namespace=/orders")
		for event := ""; event != "tailroom.live"; {
			b, err := stream.Next(t)
			require.NoError(t, err)
			event = b.Event
		}
		return client{socket, stream}
	}
	var meant, others []client
	for _, i := range instances {
		meant = append(meant, connect(i, old))
		others = append(others, connect(i, other), connect(i, elsewhere))
		require.False(t, refused(t, i, old))
	}
	begun := time.Now()
	answer := operate(t, instances[0], "/v1/revocations", "c1", `{"subject":"mallory","reason":"a lost phone"}`)
	for _, c := range meant {
		said := c.socket.Until(t, "goaway") // behind the publishes above
		goaway := said[len(said)-1]
		require.Equal(t, []string{"goaway", "token_revoked"}, []string{goaway.Type, goaway.Reason})
		require.Equal(t, websocket.CloseError{Code: 4101, Reason: "token_revoked"}, c.socket.Closed(t))
		b, err := c.stream.Next(t)
		for err == nil && b.Event != "tailroom.goaway" {
			b, err = c.stream.Next(t)
		}
		require.NoError(t, err)
		require.JSONEq(t, `{"reason":"token_revoked","delayMs":0}`, b.Data)
		_, err = c.stream.Next(t)
		require.Error(t, err)
	}
	for _, i := range instances {
		require.Equal(t, "token_revoked", i.Get(t, "/v1/catalog", old).Code())
	}
	require.Less(t, time.Since(begun), soon)
	for _, i := range instances {
		require.True(t, refused(t, i, old))
		require.False(t, refused(t, i, other))
		require.False(t, refused(t, i, elsewhere))
		awaitMetric(t, i, `tailroom_sessions_closed_total{reason="token_revoked"}`, 2)
		require.EqualValues(t, 1, i.Metric(t, "tailroom_revocations"))
		require.Greater(t, i.Metric(t, "tailroom_revoked_total"), 7.0)
	}
	service := apptest.Token(t, access.Service, "c1")
	next := instances[1].Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"9","branchId":"b1"}}`)[0]
	for _, c := range []client{others[0], others[2]} {
		for last := ""; last != next.ID; {
			for _, e := range c.socket.Next(t).Decoded(t) {
				last = e.ID
			}
		}
	}

	// The answer is what was stored, and the cursor of the event that tells of it.
	require.Equal(t, []string{"mallory", "c1", "a lost phone", "user:test-admin"},
		[]string{answer.Field("subject"), answer.Field("companyId"), answer.Field("reason"), answer.Field("actor")})
	before, err := time.Parse(time.RFC3339, answer.Field("before"))
	require.NoError(t, err)
	require.WithinDuration(t, begun, before, 10*time.Second)

	// Who starts later knows it before it serves.
	late := apptest.Start(t, dsn)
	require.True(t, refused(t, late, old))
	require.False(t, refused(t, late, other))
}

// Another instance learns of a revocation from the log, not by looking every second.
func TestRevoke_IsSignalled(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	var took []time.Duration
	for n := range 10 {
		token := tokenOf(t, fmt.Sprint("mallory-", n), time.Minute, "c1")
		require.Equal(t, http.StatusOK, cluster[1].Get(t, "/v1/catalog", token).Status)
		operate(t, cluster[0], "/v1/revocations", "c1", fmt.Sprintf(`{"subject":"mallory-%d"}`, n))
		require.Equal(t, http.StatusUnauthorized, cluster[0].Get(t, "/v1/catalog", token).Status, "at once where it was ordered")
		begun := time.Now()
		apptest.Eventually(t, func() bool { return cluster[1].Get(t, "/v1/catalog", token).Status == http.StatusUnauthorized },
			apptest.Patience, time.Millisecond)
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	t.Logf("in force on the other instance after %v", took)
	require.Less(t, took[len(took)/2], 300*time.Millisecond)
}

// Tokens that could outlive the memory of their revocation are refused, if the
// operator has said how long they live.
func TestTokenLifetime(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_TOKEN_LIFETIME=1h")[0]
	require.Equal(t, http.StatusOK, i.Get(t, "/v1/catalog", apptest.TokenUntil(t, time.Now().Add(58*time.Minute), access.Web, "c1")).Status)
	answer := i.Get(t, "/v1/catalog", apptest.TokenUntil(t, time.Now().Add(time.Hour+time.Minute), access.Web, "c1"))
	require.Equal(t, "unauthenticated", answer.Code())
	require.Contains(t, answer.Field("detail"), "at most 1h0m0s")
}

// A session that was renewed is under its new token; one that was not ends.
func TestRevoke_AfterARenewal(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	old, fresh := tokenOf(t, "mallory", time.Minute, "c1"), tokenOf(t, "mallory", 0, "c1")
	renewed, _ := i.Hello(t, old, "", orders)
	stale, _ := i.Hello(t, old, "", orders)
	renewed.Until(t, "live")
	renewed.SendJSON(t, map[string]any{"type": "auth", "ref": 1, "token": fresh})
	require.True(t, renewed.Next(t).OK)

	halfAMinuteAgo := time.Now().Add(-30 * time.Second).UTC().Format(time.RFC3339)
	operate(t, i, "/v1/revocations", "c1", `{"subject":"mallory","before":"`+halfAMinuteAgo+`"}`)
	require.Equal(t, websocket.CloseError{Code: 4101, Reason: "token_revoked"}, stale.Closed(t))
	require.False(t, refused(t, i, fresh))
	require.True(t, refused(t, i, old))

	// The old token does not come back by renewal, and the session lives on.
	renewed.SendJSON(t, map[string]any{"type": "auth", "ref": 2, "token": old})
	for {
		m := renewed.Next(t)
		if m.Type == "reply" {
			require.Equal(t, "token_revoked", m.Code)
			break
		}
	}
	next := i.Publish(t, apptest.Token(t, access.Service, "c1"), `{"namespace":"/orders","type":"newOrder","data":{"orderId":"9","branchId":"b1"}}`)[0]
	for last := ""; last != next.ID; {
		for _, e := range renewed.Next(t).Decoded(t) {
			last = e.ID
		}
	}

	// One token is dead whenever it was issued, and only that one.
	operate(t, i, "/v1/revocations", "*", `{"tokenId":"`+tokenID(t, fresh)+`"}`)
	require.Equal(t, websocket.CloseError{Code: 4101, Reason: "token_revoked"}, renewed.Closed(t))
	require.True(t, refused(t, i, fresh))
	require.False(t, refused(t, i, tokenOf(t, "mallory", 0, "c1")))
}

func tokenID(t *testing.T, token string) string {
	t.Helper()
	grant, err := access.NewVerifier(access.VerifierConfig{Secrets: [][]byte{[]byte(apptest.Secret)}}).Verify(token)
	require.NoError(t, err)
	return grant.TokenID
}

// An instance that cannot reach the database cannot know. As soon as it is back it
// does, and its sessions end.
func TestRevoke_WhileAnInstanceIsAway(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*pgproxy.Proxy, bool){
		"refused": (*pgproxy.Proxy).Refuse, "unheard": (*pgproxy.Proxy).Blackhole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			proxy := pgproxy.Start(t, dsn)
			near, far := apptest.Start(t, dsn), apptest.Start(t, proxy.DSN())
			token := tokenOf(t, "mallory", time.Minute, "c1")
			socket, _ := far.Hello(t, token, "", orders)
			socket.Until(t, "live")
			stream := far.Stream(t, token, "")

			cut(proxy, true)
			operate(t, near, "/v1/revocations", "c1", `{"subject":"mallory"}`)
			require.True(t, refused(t, near, token))
			require.Equal(t, http.StatusOK, far.Get(t, "/v1/catalog", token).Status, "it cannot know")
			cut(proxy, false)
			begun := time.Now()
			require.Equal(t, websocket.CloseError{Code: 4101, Reason: "token_revoked"}, socket.Closed(t))
			for {
				if _, err := stream.Next(t); err != nil {
					break
				}
			}
			t.Logf("in force %s after it was back", time.Since(begun))
			require.True(t, refused(t, far, token))
		})
	}
}

// A client that takes nothing cannot be told that its session is over. All the same
// it publishes nothing any more.
func TestRevoke_AClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=15s")[0]
	token, service := tokenOf(t, "mallory", time.Minute, "c1"), apptest.Token(t, access.Service, "c1")
	socket, _ := i.Hello(t, token, "", `[{"namespace":"/availability"}]`)
	socket.Until(t, "live")
	var text strings.Builder
	for text.Len() < 150_000 {
		text.WriteString(rand.Text()) // which cannot be compressed much
	}
	var last apptest.Receipt
	const events = 40 // more than all buffers on the way hold
	for range events {
		last = i.Publish(t, service, `{"namespace":"/availability","type":"availabilityUpdate","data":{"branchId":"b1","productId":"p1","available":true,"note":"`+
			text.String()+`"}}`)[0]
	}
	i.Reach(t, last.Position)
	delivered := -1.0
	apptest.Eventually(t, func() bool {
		before := delivered
		delivered = i.Metric(t, `tailroom_delivered_events_total{transport="websocket"}`)
		return delivered == before
	}, apptest.Patience, 300*time.Millisecond, "the session is stuck")
	require.Less(t, delivered, float64(events))
	operate(t, i, "/v1/revocations", "c1", `{"subject":"mallory"}`)
	require.True(t, refused(t, i, token))
	require.Zero(t, i.Metric(t, `tailroom_sessions_closed_total{reason="token_revoked"}`), "it should be stuck by now")
	socket.SendJSON(t, map[string]any{"type": "publish", "ref": 1, "events": []json.RawMessage{
		json.RawMessage(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`),
	}})
	apptest.Eventually(t, func() bool {
		return i.Metric(t, `tailroom_received_messages_total{transport="websocket"}`) >= 3 // hellos of refused, and this
	}, apptest.Patience, 10*time.Millisecond)
	apptest.Eventually(t, func() bool { return i.Metric(t, `tailroom_sessions_closed_total{reason="slow"}`) == 1 },
		apptest.Patience, 10*time.Millisecond)
	require.Empty(t, i.Lines(t, "/v1/events?namespace=/orders&stream=order:1", service))
}

// An operator ends one session, or all of a subject, on every instance; those that
// come afterwards are none of his business.
func TestDisconnect(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	token := tokenOf(t, "bob", time.Minute, "c1")
	one, welcome := cluster[1].Hello(t, token, "", orders)
	two, _ := cluster[1].Hello(t, token, "", orders)
	three, _ := cluster[0].Hello(t, token, "", orders)
	stranger, _ := cluster[1].Hello(t, tokenOf(t, "bob", time.Minute, "c2"), "", orders)
	for _, s := range []*apptest.Socket{one, two, three, stranger} {
		s.Until(t, "live")
	}
	end := websocket.CloseError{Code: 4105, Reason: "disconnected"}
	operate(t, cluster[0], "/v1/disconnections", "c2", `{"session":"`+welcome.Session+`"}`) // another company's
	operate(t, cluster[0], "/v1/disconnections", "c1", `{"session":"`+welcome.Session+`","reason":"noisy"}`)
	goaway := one.Next(t)
	require.Equal(t, []string{"goaway", "disconnected"}, []string{goaway.Type, goaway.Reason})
	require.Equal(t, end, one.Closed(t))
	two.SendJSON(t, map[string]any{"type": "ping"})
	require.Equal(t, "pong", two.Next(t).Type)

	answer := operate(t, cluster[1], "/v1/disconnections", "c1", `{"subject":"bob"}`)
	require.Equal(t, end, two.Closed(t))
	require.Equal(t, end, three.Closed(t))
	back, _ := cluster[0].Hello(t, token, answer.Field("cursor"), orders)
	back.Until(t, "live")
	for _, s := range []*apptest.Socket{back, stranger} {
		s.SendJSON(t, map[string]any{"type": "ping"})
		require.Equal(t, "pong", s.Next(t).Type)
	}
	require.EqualValues(t, 2, cluster[1].Metric(t, `tailroom_sessions_closed_total{reason="disconnected"}`))
}

// A renewed token's rooms are those of the very next event, also where a room was
// subscribed to by name.
func TestRenewal_ChangesRoomsAtOnce(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	order := func(branch string) string {
		return i.Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"`+branch+`"}}`)[0].ID
	}
	all, _ := i.Hello(t, tokenOf(t, "carol", 0, "c1", "b1", "b2"), "", orders)
	named, _ := i.Hello(t, tokenOf(t, "carol", 0, "c1", "b1", "b2"), "", `[{"namespace":"/orders","rooms":["branch:b1","branch:b2"]}]`)
	for _, s := range []*apptest.Socket{all, named} {
		s.Until(t, "live")
		for _, wrong := range []struct{ token, code string }{
			{tokenOf(t, "dave", 0, "c1", "b1"), "forbidden"},
			{tokenOf(t, "carol", 0, "c2", "b1"), "forbidden"},
			{apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"), "token_expired"},
			{"nonsense", "unauthenticated"},
		} {
			s.SendJSON(t, map[string]any{"type": "auth", "ref": 1, "token": wrong.token})
			require.Equal(t, wrong.code, s.Next(t).Code)
		}
	}
	order("b1")
	second := order("b2")
	for _, s := range []*apptest.Socket{all, named} {
		require.Equal(t, second, s.Collect(t, 2)[1].ID, "what was refused has changed nothing")
		s.SendJSON(t, map[string]any{"type": "auth", "ref": 2, "token": tokenOf(t, "carol", 0, "c1", "b2", "b3")})
		require.True(t, s.Next(t).OK)
	}
	order("b1")
	kept, added := order("b2"), order("b3")
	require.Equal(t, kept, named.Collect(t, 1)[0].ID, "b1 by name is over, b3 was not asked for")
	heard := all.Collect(t, 2)
	require.Equal(t, []string{kept, added}, []string{heard[0].ID, heard[1].ID})
}

// A role map or a catalogue that is changed counts from the next start on, for the
// tokens that are out there already.
func TestRestart_WithOtherRights(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	catalogue := func(namespaces string) string {
		path := filepath.Join(t.TempDir(), "catalogue.yaml")
		require.NoError(t, os.WriteFile(path, []byte("namespaces:\n"+namespaces), 0o600))
		return "CATALOG_FILE=" + path
	}
	const kept = "  /kept: {events: {note: {publish: [web], rooms: [\"company:{companyId}\"]}}}\n"
	const gone = "  /gone: {events: {note: {publish: [web], rooms: [\"company:{companyId}\"]}}}\n"
	token, err := access.Mint([]byte(apptest.Secret), access.Claims{
		Subject: "erin", CompanyID: "c1", UserRole: "auditor", IssuedAt: time.Now(), Expires: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	note := `{"namespace":"/kept","type":"note","data":{}}`

	before := apptest.Start(t, dsn, catalogue(kept+gone), "ROLE_MAP=auditor=web,*=web")
	before.Publish(t, token, note)
	socket, _ := before.Hello(t, token, "earliest", `[{"namespace":"/kept"},{"namespace":"/gone"}]`)
	cursor := socket.Collect(t, 1)[0].Cursor
	require.Equal(t, http.StatusForbidden, before.Do(t, http.MethodPost, "/v1/revocations", token, `{"subject":"x"}`).Status)
	before.Stop()

	after := apptest.Start(t, dsn, catalogue(kept), "ROLE_MAP=auditor=analyst,*=web")
	refusal := after.Dial(t)
	refusal.SendJSON(t, map[string]any{"type": "hello", "token": token, "cursor": cursor, "subscribe": json.RawMessage(`[{"namespace":"/kept"},{"namespace":"/gone"}]`)})
	m := refusal.Next(t)
	require.Equal(t, "unknown_namespace", m.Code, string(m.Raw))
	require.Equal(t, "unknown_namespace", after.Get(t, "/v1/stream?namespace=/gone", token).Code())
	require.Equal(t, "unknown_namespace", after.Get(t, "/v1/events?namespace=/gone", token).Code())
	answer := after.Post(t, token, note)
	require.Equal(t, http.StatusForbidden, answer.Status, "an analyst publishes nothing")
	back, _ := after.Hello(t, token, cursor, `[{"namespace":"/kept"}]`)
	back.Until(t, "live")
	after.Stop()

	administers := apptest.Start(t, dsn, catalogue(kept), "ROLE_MAP=auditor=admin,*=web")
	operated := administers.Do(t, http.MethodPost, "/v1/revocations", token, `{"subject":"x"}`)
	require.Equal(t, http.StatusCreated, operated.Status)
}
