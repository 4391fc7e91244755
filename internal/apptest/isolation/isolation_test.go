// Package isolation_test holds that nothing of one company, namespace or branch
// reaches another, and that nobody is believed without cause.
package isolation_test

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
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestMain(m *testing.M) { apptest.Main(m) }

const everything = `[{"namespace":"/orders"},{"namespace":"/availability"},{"namespace":"/printing-ws"}]`

// classified is in whatever the other side publishes and in nothing that is
// asked: it must be in nothing that is answered.
const classified = "classified"

// order is a newOrder of a branch.
func order(id, branch, note string) string {
	return fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":%q,"branchId":%q,"note":%q}}`, id, branch, note)
}

// mint makes a token of any claims, signed with any key.
func mint(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

// hears joins everything from the beginning of the log, over WebSocket, as an event
// stream, and as a Socket.IO client, and reads all up to an event. It returns the bytes that
// came and the positions of the events.
func hears(t testing.TB, i *apptest.Instance, token, company string, last int64) (raw string, heard []int64) {
	t.Helper()
	i.Reach(t, last)
	var b strings.Builder
	s := i.Dial(t)
	hello := map[string]any{"type": "hello", "token": token, "cursor": "earliest", "subscribe": json.RawMessage(everything)}
	query := "cursor=earliest"
	if company != "" {
		hello["companyId"] = company
		query += "&companyId=" + company
	}
	s.SendJSON(t, hello)
	for len(heard) == 0 || heard[len(heard)-1] < last {
		m := s.Next(t)
		require.NotEqual(t, "error", m.Type, string(m.Raw))
		b.Write(m.Raw)
		for _, e := range m.Decoded(t) {
			heard = append(heard, e.Position)
		}
	}
	var streamed []int64
	stream := i.Stream(t, token, query)
	for len(streamed) < len(heard) {
		block, err := stream.Next(t)
		require.NoError(t, err)
		b.WriteString(block.Raw)
		if block.Data != "" && !strings.HasPrefix(block.Event, "tailroom.") {
			var e apptest.Event
			require.NoError(t, json.Unmarshal([]byte(block.Data), &e))
			streamed = append(streamed, e.Position)
		}
	}
	require.Equal(t, heard, streamed)
	events, _, _ := i.History(t, token, "limit=1000&"+query[len("cursor=earliest"):])
	var listed []int64
	for _, e := range events {
		listed = append(listed, e.Position)
	}
	require.Equal(t, heard, listed)
	for _, transport := range []string{sioclient.WebSocket, sioclient.Polling} {
		text, events := hearsSocketIO(t, i, transport, token, company)
		b.WriteString(text)
		require.Equal(t, len(heard), events, transport)
	}
	return b.String(), heard
}

// Company A does what it can think of to learn something of company B, whose
// names it knows.
func TestIsolation_OfCompanies(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	// One instance replays out of its window, the other out of the log.
	warm := apptest.Start(t, dsn)
	cold := apptest.Start(t, dsn, "TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=64KiB")
	a, b := apptest.Token(t, access.Service, "alpha"), mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), jwt.MapClaims{
		"sub": classified, "exp": time.Now().Add(time.Hour).Unix(), "companyId": "bravo", "userRole": "service",
	})
	live := map[string]*apptest.Socket{}
	for name, token := range map[string]string{
		"company": apptest.Token(t, access.Web, "alpha"), "branch": apptest.Token(t, access.Web, "alpha", "b1"), "service": a,
		"analyst": apptest.Token(t, access.Analyst, "alpha"), "admin": apptest.Token(t, access.Admin, "alpha"),
	} {
		live[name], _ = warm.Hello(t, token, "", everything)
		live[name].Until(t, "live")
	}

	// The same branches, streams and even ids in both companies.
	const id = "0192f0c4-0000-7000-8000-00000000000b"
	secret := warm.Publish(t, b, "["+strings.Replace(order("1", "b1", classified), `"type"`, `"id":"`+id+`","correlationId":"call","type"`, 1)+
		`,{"namespace":"/availability","type":"newAlert","data":{"message":"`+classified+`"}}]`)
	for range 100 { // pushes what came before out of the small window
		cold.Publish(t, b, order("2", "b1", classified+strings.Repeat(".", 600)))
	}
	mine := warm.Publish(t, a, "["+strings.Replace(order("1", "b1", "mine"), `"type"`, `"id":"`+id+`","expectedVersion":0,"type"`, 1)+","+
		order("1", "b1", "mine")+`,{"namespace":"/availability","type":"newAlert","data":{"message":"mine"}}]`)
	require.False(t, mine[0].Duplicate, "the other's id is not ours")
	require.Equal(t, []int64{1, 2}, []int64{*mine[0].Version, *mine[1].Version}, "nor is his stream")
	last := mine[2].Position

	for name, s := range live {
		var heard []int64
		for len(heard) < 3 {
			m := s.Next(t)
			require.NotContains(t, string(m.Raw), classified, name)
			require.NotContains(t, string(m.Raw), "bravo", name)
			for _, e := range m.Decoded(t) {
				heard = append(heard, e.Position)
			}
		}
		require.Equal(t, []int64{last - 2, last - 1, last}, heard, name)
	}
	for _, i := range []*apptest.Instance{warm, cold} {
		for _, token := range []string{a, apptest.Token(t, access.Web, "alpha"), apptest.Token(t, access.Web, "alpha", "b1"), apptest.Token(t, access.Admin, "alpha")} {
			raw, heard := hears(t, i, token, "", last)
			require.Equal(t, []int64{last - 2, last - 1, last}, heard)
			require.NotContains(t, raw, classified)
			require.NotContains(t, raw, "bravo")
		}
	}

	// Asked for by name it is refused, or is not there, and nothing is told.
	theirs := secret[0].ID
	for _, token := range []string{a, apptest.Token(t, access.Web, "alpha", "b1"), apptest.Token(t, access.Analyst, "alpha"), apptest.Token(t, access.Admin, "alpha")} {
		for path, status := range map[string]int{
			"/v1/events?companyId=bravo":                        403,
			"/v1/events?room=company:bravo":                     403,
			"/v1/events?room=company_bravo":                     403,
			"/v1/events?stream=order:2":                         200,
			"/v1/events?correlationId=call":                     200,
			"/v1/events?correlationId=" + theirs:                200,
			"/v1/events?after=" + secret[0].Cursor + "&limit=9": 200,
			"/v1/events?order=desc&limit=1000":                  200,
			"/v1/events/" + secret[1].ID:                        404,
			"/v1/events/" + id:                                  200, // ours
			"/v1/events/" + id + "?companyId=bravo":             403,
			"/v1/stream?companyId=bravo":                        403,
			"/v1/stream?room=company:bravo":                     403,
			"/v1/events?companyId=*":                            403,
		} {
			answer := warm.Get(t, path, token)
			require.Equal(t, status, answer.Status, path)
			require.NotContains(t, string(answer.Body), classified, path)
			require.NotContains(t, string(answer.Body), "bravo", path)
		}
	}
	for body, code := range map[string]string{
		strings.Replace(order("1", "b1", "x"), `"type"`, `"companyId":"bravo","type"`, 1):             "forbidden",
		strings.Replace(order("1", "b1", "x"), `"type"`, `"rooms":["company:bravo"],"type"`, 1):       "forbidden",
		strings.Replace(order("2", "b1", "x"), `"type"`, `"expectedVersion":100,"type"`, 1):           "version_conflict", // his has 100
		strings.Replace(order("1", "b1", "x"), `"type"`, `"id":"`+secret[0].ID+`","type"`, 1):         "id_reused",        // ours
		"[" + strings.Replace(order("1", "b1", "x"), `"type"`, `"companyId":"bravo","type"`, 1) + "]": "forbidden",
	} {
		answer := warm.Post(t, a, body)
		require.Equal(t, code, answer.Code(), "%s: %s", body, answer.Body)
		require.NotContains(t, string(answer.Body), classified)
		require.NotContains(t, string(answer.Body), "bravo")
		if code == "version_conflict" {
			require.Contains(t, string(answer.Body), `"currentVersion":0`)
		}
	}
	// Nothing of ours got there, either.
	for _, line := range warm.Lines(t, "/v1/events?limit=1000", b) {
		require.Contains(t, line, `"companyId":"bravo"`)
		require.Contains(t, line, classified)
	}
}

// Streams of one name in two namespaces are two, and so are their versions.
func TestIsolation_OfNamespaces(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	s, _ := i.Hello(t, apptest.Token(t, access.Web, "c1"), "", `[{"namespace":"/printing-ws"}]`)
	s.Until(t, "live")
	printer := `{"namespace":"/printing-ws","type":"printerStatusUpdate","stream":"order:1","expectedVersion":0,"data":{"printerId":"1","branchId":"b1","status":"on"}}`
	receipts := i.Publish(t, service, "["+order("1", "b1", classified)+","+order("1", "b1", classified)+","+printer+"]")
	require.Equal(t, []int64{1, 2, 1}, []int64{*receipts[0].Version, *receipts[1].Version, *receipts[2].Version})
	for {
		m := s.Next(t)
		require.NotContains(t, string(m.Raw), classified)
		if len(m.Events) > 0 {
			require.Equal(t, int64(3), m.Decoded(t)[0].Position)
			break
		}
	}
	require.Len(t, i.Lines(t, "/v1/events?namespace=/printing-ws&stream=order:1", service), 1)
	require.Len(t, i.Lines(t, "/v1/events?namespace=/orders&stream=order:1", service), 2)
}

// Who hears and reads what, by the branches of the token.
func TestIsolation_OfBranches(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	none := mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), jwt.MapClaims{
		"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "companyId": "c1", "userRole": "web", "branchIds": []string{},
	})
	single := mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), jwt.MapClaims{
		"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "companyId": "c1", "userRole": "web", "branchId": "1", "branchIds": []any{2},
	})
	readers := []struct {
		name, token, company string
		want                 []int64
	}{
		{"a branch", apptest.Token(t, access.Web, "c1", "1"), "", []int64{1, 4, 5, 7}},
		{"another", apptest.Token(t, access.DesktopApp, "c1", "2"), "", []int64{2, 4, 5, 7}},
		{"two branches", apptest.Token(t, access.Web, "c1", "1", "2"), "", []int64{1, 2, 4, 5, 7}},
		{"both claims", single, "", []int64{1, 2, 4, 5, 7}},
		{"a branch without events", apptest.Token(t, access.Web, "c1", "9"), "", []int64{5, 7}},
		{"no branches", none, "", []int64{5, 7}},
		{"the company", apptest.Token(t, access.Web, "c1"), "", []int64{1, 2, 3, 4, 5, 7}},
		{"a branch's service", apptest.Token(t, access.Service, "c1", "3"), "", []int64{3, 5, 7}},
		{"another company", apptest.Token(t, access.Web, "c2"), "", []int64{6, 8}},
		{"all companies", apptest.Token(t, access.Analyst, "*"), "", []int64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"operators", apptest.Token(t, access.Admin, "*"), "", []int64{1, 2, 3, 4, 5, 6, 7, 8}},
		{"operators of one", apptest.Token(t, access.Admin, "*"), "c2", []int64{6, 8}},
		{"the platform's service", apptest.Token(t, access.Service, "*"), "c1", []int64{1, 2, 3, 4, 5, 7}},
	}
	live := make([]*apptest.Socket, len(readers))
	for n, r := range readers {
		live[n] = i.Dial(t)
		live[n].SendJSON(t, map[string]any{"type": "hello", "token": r.token, "companyId": r.company, "subscribe": json.RawMessage(everything)})
		live[n].Until(t, "live")
	}
	i.Publish(t, service, "["+strings.Join([]string{
		order("1", "1", "one"), order("2", "2", "two"), order("3", "3", "three"),
		`{"namespace":"/availability","type":"newAlert","rooms":["branch:2","branch:1"],"data":{"message":"both"}}`,
		`{"namespace":"/availability","type":"newAlert","data":{"message":"all"}}`,
	}, ",")+"]")
	i.Publish(t, apptest.Token(t, access.Service, "c2"), order("1", "1", "other"))
	i.Publish(t, service, `{"namespace":"/availability","type":"newAlert","data":{"message":"the end"}}`)
	i.Publish(t, apptest.Token(t, access.Service, "c2"), `{"namespace":"/availability","type":"newAlert","data":{"message":"the end"}}`)

	for n, r := range readers {
		last := r.want[len(r.want)-1]
		var heard []int64
		for !slices.Contains(heard, last) {
			for _, e := range live[n].Next(t).Decoded(t) {
				heard = append(heard, e.Position)
			}
		}
		require.Equal(t, r.want, heard, r.name)
		_, heard = hears(t, i, r.token, r.company, last)
		require.Equal(t, r.want, heard, r.name)
		for position := int64(1); position <= 8; position++ {
			all, _, _ := i.History(t, apptest.Token(t, access.Admin, "*"), fmt.Sprintf("after=1-%d&limit=1", position-1))
			answer := i.Get(t, "/v1/events/"+all[0].ID+"?companyId="+r.company, r.token)
			if slices.Contains(r.want, position) {
				require.Equal(t, http.StatusOK, answer.Status, "%s: %d", r.name, position)
			} else {
				require.Equal(t, http.StatusNotFound, answer.Status, "%s: %d", r.name, position)
			}
		}
	}
	// A user of branch 1 who asks for branch 3 by every name it has.
	token := apptest.Token(t, access.Web, "c1", "1")
	for path, status := range map[string]int{
		"/v1/events?room=branch:3": 403, "/v1/events?room=branch_3": 403, "/v1/events?room=company:c1&room=branch:3": 403, "/v1/events?stream=order:3": 200,
		"/v1/events?type=newOrder&limit=1000": 200, "/v1/stream?room=branch:3": 403,
	} {
		answer := i.Get(t, path, token)
		require.Equal(t, status, answer.Status, path)
		require.NotContains(t, string(answer.Body), "three", path)
	}
	require.Equal(t, "forbidden", i.Post(t, token, order("1", "3", "x")).Code())
}

// Tokens that are not to be believed, wherever one can be shown.
func TestTokens_NotToBeBelieved(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "JWT_AUDIENCE=tailroom", "JWT_ISSUER=https://issuer.example")[0]
	key := []byte(apptest.Secret)
	claims := func(change ...any) jwt.MapClaims {
		c := jwt.MapClaims{
			"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "companyId": "c1", "userRole": "service", "aud": "tailroom", "iss": "https://issuer.example",
		}
		for n := 0; n < len(change); n += 2 {
			c[change[n].(string)] = change[n+1]
			if change[n+1] == nil {
				delete(c, change[n].(string))
			}
		}
		return c
	}
	signed := func(change ...any) string { return mint(t, jwt.SigningMethodHS256, key, claims(change...)) }
	good := signed("aud", []string{"other", "tailroom"})
	parts := strings.Split(good, ".")
	platform := strings.Split(signed("companyId", "*"), ".")
	for name, test := range map[string]struct {
		token string
		code  string
	}{
		"another key":             {mint(t, jwt.SigningMethodHS256, []byte(strings.Repeat("k", 40)), claims()), "unauthenticated"},
		"an empty key":            {mint(t, jwt.SigningMethodHS256, []byte{}, claims()), "unauthenticated"},
		"another algorithm":       {mint(t, jwt.SigningMethodHS512, key, claims()), "unauthenticated"},
		"no algorithm":            {mint(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims()), "unauthenticated"},
		"no signature":            {parts[0] + "." + parts[1] + ".", "unauthenticated"},
		"exchanged claims":        {parts[0] + "." + platform[1] + "." + parts[2], "unauthenticated"},
		"expired":                 {signed("exp", time.Now().Add(-time.Minute).Unix()), "token_expired"},
		"for ever":                {signed("exp", nil), "unauthenticated"},
		"not yet":                 {signed("nbf", time.Now().Add(time.Hour).Unix()), "unauthenticated"},
		"from the future":         {signed("iat", time.Now().Add(time.Hour).Unix()), "unauthenticated"},
		"another audience":        {signed("aud", "billing"), "unauthenticated"},
		"no audience":             {signed("aud", nil), "unauthenticated"},
		"another issuer":          {signed("iss", "https://evil.example"), "unauthenticated"},
		"no subject":              {signed("sub", nil), "unauthenticated"},
		"no company":              {signed("companyId", nil), "unauthenticated"},
		"a company of no form":    {signed("companyId", "c1/../c2"), "unauthenticated"},
		"a web user for all":      {signed("companyId", "*", "userRole", "web"), "forbidden"},
		"an unknown role for all": {signed("companyId", "*", "userRole", "root"), "forbidden"},
	} {
		status := map[string]int{"unauthenticated": 401, "token_expired": 401, "forbidden": 403}[test.code]
		for path, method := range map[string]string{
			"/v1/events": http.MethodGet, "/v1/events?": http.MethodPost, "/v1/events/0192f0c4-0000-7000-8000-000000000001": http.MethodGet,
			"/v1/stream": http.MethodGet, "/v1/catalog": http.MethodGet,
		} {
			answer := i.Do(t, method, path, test.token, order("1", "b1", "x"))
			require.Equal(t, status, answer.Status, "%s: %s %s: %s", name, method, path, answer.Body)
			require.Equal(t, test.code, answer.Code(), "%s: %s %s", name, method, path)
			require.NotContains(t, string(answer.Body), test.token)
		}
		s := i.Dial(t)
		s.SendJSON(t, map[string]any{"type": "hello", "token": test.token, "subscribe": json.RawMessage(everything)})
		require.Equal(t, test.code, s.Next(t).Code, name)
		refused := sioclient.Dial(t, i, sioclient.WebSocket).Ask(t, "/orders", sioclient.Token(test.token))
		require.Equal(t, sioclient.ConnectError, refused.Kind, name)
		require.Contains(t, refused.Raw, `"code":"`+test.code+`"`, name)
		require.NotContains(t, refused.Raw, test.token)
		code := map[string]websocket.StatusCode{"unauthenticated": 4100, "token_expired": 4002, "forbidden": 4102}[test.code]
		require.Equal(t, code, s.Closed(t).Code, name)
	}
	for _, header := range []string{"", "Basic dTpw", "Bearer", "Bearer ", good, "bearer  x"} {
		answer := i.Do(t, http.MethodGet, "/v1/events", "", "", "Authorization", header)
		require.Equal(t, http.StatusUnauthorized, answer.Status, header)
	}
	for _, query := range []string{"token=", "access_token=", "jwt=", "authorization=Bearer%20"} {
		require.Equal(t, http.StatusUnauthorized, i.Get(t, "/v1/stream?"+query+good, "").Status, "tokens do not belong into addresses")
	}
	for _, auth := range []any{map[string]any{}, map[string]any{"access_token": good}} {
		refused := sioclient.Dial(t, i, sioclient.Polling).Ask(t, "/orders", auth)
		require.Contains(t, refused.Raw, `"code":"unauthenticated"`)
	}
	require.Equal(t, http.StatusOK, i.Get(t, "/v1/events", good).Status)
	require.Equal(t, http.StatusOK, i.Do(t, http.MethodGet, "/v1/events", "", "", "Authorization", "bearer "+good).Status)
}

// One rule for the pages that may call, whatever they call by.
func TestOrigins(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	listed := apptest.Start(t, dsn, "CORS_ORIGINS=https://app.example.com, http://localhost:5173,file://")
	unlisted, open := apptest.Start(t, dsn), apptest.Start(t, dsn, "CORS_ORIGINS=*")
	own := func(i *apptest.Instance) string { return i.URL }
	token := apptest.Token(t, access.Service, "c1")
	for n, test := range []struct {
		instance *apptest.Instance
		origin   string
		allowed  bool
	}{
		{listed, "https://app.example.com", true},
		{listed, "https://APP.example.com:443", true},
		{listed, "http://localhost:5173", true},
		{listed, "file://", true},
		{listed, own(listed), true},
		{listed, "", true},
		{listed, "http://app.example.com", false},
		{listed, "https://app.example.com:8443", false},
		{listed, "https://app.example.com.evil.com", false},
		{listed, "https://evil.com", false},
		{listed, "null", false},
		{listed, "http://localhost", false},
		{listed, "*", false},
		{listed, "https://app.example.com/path", false},
		{listed, own(unlisted), false},
		{unlisted, own(unlisted), true},
		{unlisted, "", true},
		{unlisted, "https://app.example.com", false},
		{unlisted, "null", false},
		{open, "https://anything.example", true},
		{open, "null", true},
		{open, "", true},
	} {
		headers := []string{}
		if test.origin != "" {
			headers = append(headers, "Origin", test.origin)
		}
		status := http.StatusForbidden
		if test.allowed {
			status = http.StatusOK
		}
		name := fmt.Sprintf("%d: %s", n, test.origin)
		for _, path := range []string{"/v1/events", "/healthz", "/v1/catalog"} {
			answer := test.instance.Do(t, http.MethodGet, path, token, "", headers...)
			require.Equal(t, status, answer.Status, name+" "+path)
			requireShared(t, answer.Header, test.origin, test.allowed, name)
		}
		preflight := append(slices.Clone(headers), "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "authorization,content-type")
		if test.origin != "" {
			answer := test.instance.Do(t, http.MethodOptions, "/v1/events", "", "", preflight...)
			requireShared(t, answer.Header, test.origin, test.allowed, name)
			if test.allowed {
				require.Equal(t, http.StatusNoContent, answer.Status, name)
				require.Equal(t, "authorization,content-type", answer.Header.Get("Access-Control-Allow-Headers"))
				require.Contains(t, answer.Header.Get("Access-Control-Allow-Methods"), "POST")
			} else {
				require.Equal(t, http.StatusForbidden, answer.Status, name)
			}
		}
		if !test.allowed {
			answer := test.instance.Do(t, http.MethodPost, "/v1/events", token, order("1", "b1", classified), headers...)
			require.Equal(t, "forbidden", answer.Code(), name)
			require.Equal(t, http.StatusForbidden, test.instance.Do(t, http.MethodGet, "/v1/stream", token, "", headers...).Status, name)
		} else {
			test.instance.Stream(t, token, "", headers...).Close()
		}
		upgrade(t, test.instance, "/v1/ws", test.origin, test.allowed)
		upgrade(t, test.instance, "/socket.io/?EIO=4&transport=websocket", test.origin, test.allowed)
		polls := test.instance.Do(t, http.MethodGet, "/socket.io/?EIO=4&transport=polling", "", "", headers...)
		require.Equal(t, status, polls.Status, name)
		requireShared(t, polls.Header, test.origin, test.allowed, name)
	}
	require.Empty(t, listed.Lines(t, "/v1/events", token), "a page that may not call has published")
}

// requireShared checks that an answer is for this page, or for none.
func requireShared(t testing.TB, h http.Header, origin string, allowed bool, name string) {
	t.Helper()
	require.Contains(t, h.Values("Vary"), "Origin", name)
	if allowed && origin != "" {
		require.Equal(t, origin, h.Get("Access-Control-Allow-Origin"), name)
		require.Equal(t, "true", h.Get("Access-Control-Allow-Credentials"), name)
	} else {
		require.Empty(t, h.Get("Access-Control-Allow-Origin"), name)
	}
}

func upgrade(t testing.TB, i *apptest.Instance, path, origin string, allowed bool) {
	t.Helper()
	header := http.Header{}
	if origin != "" {
		header.Set("Origin", origin)
	}
	conn, response, err := websocket.Dial(t.Context(), "ws"+strings.TrimPrefix(i.URL, "http")+path, &websocket.DialOptions{
		HTTPClient: apptest.Client, HTTPHeader: header, Subprotocols: []string{"tailroom.v1"},
	})
	if allowed {
		require.NoError(t, err, origin)
		require.NoError(t, conn.CloseNow())
		return
	}
	require.Error(t, err, origin)
	require.Equal(t, http.StatusForbidden, response.StatusCode, origin)
}
