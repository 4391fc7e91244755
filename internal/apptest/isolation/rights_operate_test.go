package isolation_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Whose tokens each may revoke, whose sessions he may end, and whom he sees
// connected: those of a company, or of all.
const operates = `
company          forbidden  forbidden  forbidden  forbidden  c1
own-named        forbidden  forbidden  forbidden  forbidden  c1
foreign-named    forbidden  forbidden  forbidden  forbidden  forbidden
branch           forbidden  forbidden  forbidden  forbidden  forbidden
branches         forbidden  forbidden  forbidden  forbidden  forbidden
no-branch        forbidden  forbidden  forbidden  forbidden  forbidden
platform         forbidden  forbidden  forbidden  forbidden  *
platform-c1      forbidden  forbidden  forbidden  forbidden  c1
platform-c2      forbidden  forbidden  forbidden  forbidden  c2
platform-branch  forbidden  forbidden  forbidden  forbidden  forbidden
`

// What the log tells of itself, in its order: the redaction of A, and a revocation
// for c2 and one for everybody.
var tellings = []string{"R", "S", "T"}

// Who reads which of it: operators of the whole company, or of all.
const readsSystem = `
company          unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  R
own-named        unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  R
foreign-named    forbidden          forbidden          forbidden          forbidden          forbidden
branch           unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
branches         unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
no-branch        unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
platform         forbidden          forbidden          invalid_parameter  unknown_namespace  RST
platform-c1      forbidden          forbidden          unknown_namespace  unknown_namespace  R
platform-c2      forbidden          forbidden          unknown_namespace  unknown_namespace  S
platform-branch  forbidden          forbidden          unknown_namespace  unknown_namespace  unknown_namespace
`

// Who follows it: nobody, and it is there for nobody.
const followsSystem = `
company          unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
own-named        unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
foreign-named    forbidden          forbidden          forbidden          forbidden          forbidden
branch           unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
branches         unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
no-branch        unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace  unknown_namespace
platform         forbidden          forbidden          invalid_parameter  unknown_namespace  unknown_namespace
platform-c1      forbidden          forbidden          unknown_namespace  unknown_namespace  unknown_namespace
platform-c2      forbidden          forbidden          unknown_namespace  unknown_namespace  unknown_namespace
platform-branch  forbidden          forbidden          unknown_namespace  unknown_namespace  unknown_namespace
`

// nobody is whom the orders mean, so that no order strikes who is asked next.
const nobody = "nobody"

// testTickets exchanges each token for a ticket, and returns the cookies of those
// who got one, by holder.
func testTickets(t testing.TB, i *apptest.Instance, list []holder) map[string]string {
	t.Helper()
	want, cookies := cells(t, believed), map[string]string{}
	for _, h := range list {
		answer := i.Do(t, http.MethodPost, "/v1/tickets", h.token, "")
		require.Equal(t, yes(want[h.shape][h.column]), answer.Status == http.StatusOK, "ticket: %s", h)
		require.Equal(t, yes(want[h.shape][h.column]), i.Get(t, "/v1/catalog", h.token).Status == http.StatusOK, "catalogue: %s", h)
		if answer.Status != http.StatusOK {
			require.Equal(t, "forbidden", answer.Code(), h)
			continue
		}
		cookie, err := http.ParseSetCookie(answer.Header.Get("Set-Cookie"))
		require.NoError(t, err)
		cookies[h.String()] = cookie.Name + "=" + cookie.Value
	}
	return cookies
}

// tell lets the log tell of itself, and returns the letters by the events' ids.
func tell(t testing.TB, i *apptest.Instance, dsn string, list []holder) map[string]string {
	t.Helper()
	_, err := pgtest.Pool(t, dsn).Exec(t.Context(), "SELECT tailroom.redact(1, 'a test', 'test')")
	require.NoError(t, err)
	for _, company := range []string{"c2", "*"} {
		answer := i.Do(t, http.MethodPost, "/v1/revocations", of(t, company, "admin", list), `{"subject":"`+nobody+`"}`)
		require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
	}
	events, _, _ := i.History(t, of(t, "*", "admin", list), "namespace=/system")
	require.Len(t, events, len(tellings))
	ids := map[string]string{}
	for n, e := range events {
		ids[e.ID] = tellings[n]
	}
	return ids
}

// testSystem reads what the log tells of itself, and tries to follow it and to
// publish there.
func testSystem(t testing.TB, i *apptest.Instance, list []holder, told map[string]string) {
	t.Helper()
	want, follows := cells(t, readsSystem), cells(t, followsSystem)
	for _, h := range list {
		cell, code := want[h.shape][h.column], follows[h.shape][h.column]
		listed := i.Get(t, "/v1/events?namespace=/system&"+h.query(), h.token)
		if listed.Status == http.StatusOK {
			require.Equal(t, cell, lettersOf(t, told, listed.Body), "/system: %s", h)
		} else {
			require.Equal(t, cell, listed.Code(), "/system: %s", h)
		}
		requireByID(t, i, h, told, cell)

		require.Equal(t, code, i.Get(t, "/v1/stream?namespace=/system&"+h.query(), h.token).Code(), "event stream: %s", h)
		socket := i.Dial(t)
		first := hello(h)
		first["subscribe"] = json.RawMessage(`[{"namespace":"/system"}]`)
		socket.SendJSON(t, first)
		require.Equal(t, code, socket.Next(t).Code, "WebSocket: %s", h)
		require.NoError(t, socket.Conn.CloseNow())
		publishEverywhere(t, i, h, []publication{{
			event: map[string]any{"namespace": "/system", "type": "tokensRevoked", "data": map[string]any{}}, code: publishesSystem(h, code),
		}})
	}
}

// publishesSystem is the code that a publish to /system is refused with: the same
// as whoever follows it, but an event must be of a company whoever publishes it.
func publishesSystem(h holder, follows string) string {
	if !slices.Contains(access.Publishers(), access.Role(h.role)) {
		return "forbidden"
	}
	if h.shape == "platform" && follows == "unknown_namespace" {
		return "invalid_parameter"
	}
	return follows
}

// testConnections asks for each who is connected.
func testConnections(t testing.TB, i *apptest.Instance, list []holder) {
	t.Helper()
	for _, company := range []string{"c1", "c2"} {
		socket, _ := i.Hello(t, apptest.Token(t, access.Web, company), "", `[{"namespace":"/orders"}]`)
		socket.Until(t, "live")
	}
	want := cells(t, operates)
	for _, h := range list {
		cell := want[h.shape][h.column]
		answer := i.Get(t, "/v1/connections?limit=1000&"+h.query(), h.token)
		if cell == "forbidden" {
			require.Equal(t, cell, answer.Code(), "connections: %s", h)
			continue
		}
		var listed struct {
			ByRoom      map[string]int
			Connections []struct{ CompanyID string }
		}
		require.NoError(t, json.Unmarshal(answer.Body, &listed))
		companies := map[string]bool{}
		for _, c := range listed.Connections {
			companies[c.CompanyID] = true
		}
		for _, company := range []string{"c1", "c2"} {
			sees := cell == "*" || cell == company
			require.Equal(t, sees, companies[company], "connections of %s: %s", company, h)
			require.Equal(t, sees, listed.ByRoom["company:"+company] > 0, "connections of %s: %s", company, h)
		}
	}
}

// deed is what the log tells of an order.
type deed struct{ kind, company, actor string }

// testOperating gives both orders for each, and reads in the log which of them
// were carried out.
func testOperating(t testing.TB, i *apptest.Instance, list []holder) {
	t.Helper()
	want := cells(t, operates)
	platform := of(t, "*", "admin", list)
	_, before, _ := i.History(t, platform, "namespace=/system")
	var expected []deed
	for _, h := range list {
		body := map[string]any{"subject": nobody}
		if h.named != "" {
			body["companyId"] = h.named
		}
		text, err := json.Marshal(body)
		require.NoError(t, err)
		for _, order := range []struct{ path, kind string }{
			{"/v1/revocations", "tokensRevoked"}, {"/v1/disconnections", "sessionsDisconnected"},
		} {
			cell := want[h.shape][h.column]
			answer := i.Do(t, http.MethodPost, order.path, h.token, string(text))
			if cell == "forbidden" {
				require.Equal(t, http.StatusForbidden, answer.Status, "%s: %s", order.path, h)
				require.Equal(t, cell, answer.Code(), "%s: %s", order.path, h)
				continue
			}
			require.Equal(t, http.StatusCreated, answer.Status, "%s: %s: %s", order.path, h, answer.Body)
			expected = append(expected, deed{order.kind, cell, "user:" + h.shape + "-" + h.role})
		}
	}
	events, _, _ := i.History(t, platform, "namespace=/system&after="+before)
	var carriedOut []deed
	for _, e := range events {
		var data struct{ Subject, Actor string }
		require.NoError(t, json.Unmarshal(e.Data, &data))
		require.Equal(t, nobody, data.Subject)
		carriedOut = append(carriedOut, deed{e.Type, e.CompanyID, data.Actor})
	}
	require.Equal(t, expected, carriedOut)
}
