package ws_test

import (
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

// sign makes a token of any claims.
func sign(t testing.TB, method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, claims).SignedString(key)
	require.NoError(t, err)
	return token
}

func TestHello_IsWelcomed(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "INSTANCE_ID=one", "TAILROOM_HEARTBEAT=7s")[0]
	i.Publish(t, apptest.Token(t, access.Service, "c1"), `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b7"}}`)
	sessions := map[string]bool{}
	for token, rooms := range map[string]map[string][]string{
		apptest.Token(t, access.Web, "c1"):                   {"/orders": {"company:c1"}, "/availability": {"branch:b9"}},
		apptest.Token(t, access.DesktopApp, "c1", "b9", "x"): {"/orders": {"branch:b9", "branch:x", "company:c1"}, "/availability": {"branch:b9"}},
	} {
		// What is not known is ignored, so that clients may say more one day.
		s := i.Dial(t)
		s.Send(t, `{"type":"hello","token":"`+token+`","futureField":{"a":[1]},"client":{"name":"test","version":"1","x":null},
			"subscribe":[{"namespace":"/orders","y":1},{"namespace":"/availability","rooms":["branch_b9"],"snapshot":false}]}`)
		m := s.Next(t)
		require.Equal(t, "welcome", m.Type, string(m.Raw))
		require.Equal(t, "one", m.Instance)
		require.Equal(t, int64(1), m.Epoch)
		require.Equal(t, "1-1", m.Cursor)
		require.Equal(t, int64(7000), m.HeartbeatMS)
		require.Equal(t, rooms, m.Rooms)
		require.NotEmpty(t, m.Session)
		require.False(t, sessions[m.Session])
		sessions[m.Session] = true
		require.Equal(t, "live", s.Next(t).Type)
	}
}

func TestHello_ThatIsNone(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=300KiB")[0]
	token := apptest.Token(t, access.Web, "c1", "b7")
	hour := time.Now().Add(time.Hour).Unix()
	claims := jwt.MapClaims{"sub": "u", "exp": hour, "companyId": "c1", "userRole": "web"}
	hello := func(token, rest string) string {
		return `{"type":"hello","ref":"r","token":"` + token + `","subscribe":[{"namespace":"/orders"}]` + rest + `}`
	}
	for name, test := range map[string]struct {
		message string
		code    string
		close   websocket.StatusCode
		reason  string
	}{
		"another message first": {`{"type":"ping","ref":"r"}`, "invalid_message", 4103, "invalid_message"},
		"a publish first":       {`{"type":"publish","ref":"r","events":[{}]}`, "invalid_message", 4103, "invalid_message"},
		"unknown type":          {`{"type":"helo","ref":"r"}`, "invalid_message", 4103, "invalid_message"},
		"no type":               {`{"token":"` + token + `"}`, "invalid_message", 4103, "invalid_message"},
		"no object":             {`["hello"]`, "invalid_message", 4103, "invalid_message"},
		"null":                  {`null`, "invalid_message", 4103, "invalid_message"},
		"no JSON":               {`{"type":"hello"`, "invalid_json", 4103, "invalid_message"},
		"empty":                 {``, "invalid_json", 4103, "invalid_message"},
		"no UTF-8":              {"{\"type\":\"hello\",\"ref\":\"\xff\"}", "invalid_json", 4103, "invalid_message"},
		"too large":             {hello(token, `,"x":"`+strings.Repeat("x", 300<<10)+`"`), "too_large", 1009, "too_large"},
		"no token":              {`{"type":"hello","ref":"r"}`, "unauthenticated", 4100, "unauthenticated"},
		"token of a wrong type": {`{"type":"hello","ref":"r","token":7}`, "invalid_message", 4103, "invalid_message"},
		"garbage for a token":   {hello("a.b.c", ""), "unauthenticated", 4100, "unauthenticated"},
		"no token, no list":     {`{"type":"hello","ref":"r","token":"a.b.c","subscribe":{}}`, "unauthenticated", 4100, "unauthenticated"},
		"no token, a consumer":  {hello("a.b.c", `,"consumer":"c"`), "unauthenticated", 4100, "unauthenticated"},
		"a web consumer":        {hello(token, `,"consumer":"c"`), "forbidden", 4102, "forbidden"},
		"a consumer of a list":  {hello(token, `,"consumer":["c"]`), "invalid_message", 4103, "invalid_message"},
		"another secret": {
			hello(sign(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 40)), claims), ""), "unauthenticated", 4100, "unauthenticated",
		},
		"no algorithm": {
			hello(sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, claims), ""), "unauthenticated", 4100, "unauthenticated",
		},
		"not valid yet": {
			hello(sign(t, jwt.SigningMethodHS256, []byte(apptest.Secret), jwt.MapClaims{
				"sub": "u", "exp": hour, "nbf": hour - 60, "companyId": "c1",
			}), ""), "unauthenticated", 4100, "unauthenticated",
		},
		"expired": {
			hello(apptest.TokenUntil(t, time.Now().Add(-time.Minute), access.Web, "c1"), ""), "token_expired", 4002, "token_expired",
		},
		"another company":   {hello(token, `,"companyId":"c2"`), "forbidden", 4102, "forbidden"},
		"web for all":       {hello(apptest.Token(t, access.Web, "*"), ""), "forbidden", 4102, "forbidden"},
		"service for which": {hello(apptest.Token(t, access.Service, "*"), ""), "invalid_parameter", 4103, "invalid_message"},
		"another branch": {
			`{"type":"hello","ref":"r","token":"` + token + `","subscribe":[{"namespace":"/orders","rooms":["branch:b7","branch:b8"]}]}`,
			"forbidden", 4102, "forbidden",
		},
		"no such kind of room": {
			`{"type":"hello","ref":"r","token":"` + token + `","subscribe":[{"namespace":"/orders","rooms":["user:1"]}]}`,
			"invalid_room", 4103, "invalid_message",
		},
		"no such namespace": {
			`{"type":"hello","ref":"r","token":"` + token + `","subscribe":[{"namespace":"/order"}]}`,
			"unknown_namespace", 4103, "invalid_message",
		},
		"no list":               {`{"type":"hello","ref":"r","token":"` + token + `","subscribe":{"namespace":"/orders"}}`, "invalid_message", 4103, "invalid_message"},
		"bad cursor":            {hello(token, `,"cursor":"1-x"`), "invalid_cursor", 4106, "cursor_invalid"},
		"a number for a cursor": {hello(token, `,"cursor":5`), "invalid_message", 4103, "invalid_message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := i.Dial(t)
			s.Send(t, test.message)
			m := s.Next(t)
			require.Equal(t, "error", m.Type, string(m.Raw))
			require.Equal(t, test.code, m.Code, string(m.Raw))
			require.NotEmpty(t, m.Message)
			if strings.Contains(test.message, `"ref":"r"`) && test.code != "too_large" { // what was not read has no ref
				require.Equal(t, `"r"`, string(m.Ref), string(m.Raw))
			}
			require.Equal(t, websocket.CloseError{Code: test.close, Reason: test.reason}, s.Closed(t))
		})
	}
}

func TestHello_InBinary(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	r := dialRaw(t, i)
	r.send(t, fin|opBinary, []byte(`{"type":"hello"}`))
	require.Equal(t, "invalid_message", r.message(t).Code)
	code, reason := r.closed(t)
	require.EqualValues(t, 4103, code)
	require.Equal(t, "invalid_message", reason)
}

func TestHello_Timeout(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	i := apptest.Cluster(t, 1, "TAILROOM_HELLO_TIMEOUT="+timeout.String())[0]
	token := apptest.Token(t, access.Web, "c1")
	since := time.Now()
	silent, talkative := i.Dial(t), dialRaw(t, i)
	inTime, _ := i.Hello(t, token, "", `[{"namespace":"/orders"}]`)
	// Half a hello is none, and pings do not count.
	talkative.send(t, opText, []byte(`{"type":"hello",`))
	talkative.send(t, fin|opPing, []byte("x"))
	require.Equal(t, websocket.CloseError{Code: 4003, Reason: "hello_timeout"}, silent.Closed(t))
	require.GreaterOrEqual(t, time.Since(since), timeout)
	code, reason := talkative.closed(t)
	require.EqualValues(t, 4003, code)
	require.Equal(t, "hello_timeout", reason)
	inTime.Send(t, `{"type":"ping"}`)
	inTime.Until(t, "pong")
}

func TestUpgrade_Refused(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	upgrade := []string{"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
	for name, headers := range map[string][]string{
		"a plain request":       nil,
		"another protocol":      {"Connection", "Upgrade", "Upgrade", "h2c"},
		"another subprotocol":   append([]string{"Sec-WebSocket-Protocol", "graphql-ws, mqtt"}, upgrade...),
		"another version":       append(slices.Clip(upgrade), "Sec-WebSocket-Version", "8"),
		"no key":                upgrade[:6],
		"a connection to close": append(slices.Clip(upgrade), "Connection", "close"),
	} {
		answer := i.Do(t, http.MethodGet, "/v1/ws", "", "", headers...)
		require.Equal(t, http.StatusBadRequest, answer.Status, name)
		require.Equal(t, "invalid_parameter", answer.Code(), "%s: %s", name, answer.Body)
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), name)
	}
}
