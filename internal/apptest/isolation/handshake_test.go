package isolation_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// What old clients say of themselves beside their token takes away, and never
// gives.
func TestHandshake_OnlyNarrows(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	company, one := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "7")
	several, platform := apptest.Token(t, access.Web, "c1", "7", "8"), apptest.Token(t, access.Admin, "*")
	named := apptest.Token(t, access.Web, "c1", "branch_7")
	for name, test := range map[string]struct {
		token, said string
		rooms       []string
		code        string
		close       websocket.StatusCode
	}{
		"nothing":                      {company, ``, []string{"company:c1"}, "", 0},
		"nothing, in words":            {company, `,"companyId":null,"branchId":null,"userRole":null`, []string{"company:c1"}, "", 0},
		"a branch":                     {company, `,"companyId":"c1","branchId":"7"`, []string{"branch:7", "company:c1"}, "", 0},
		"a number":                     {company, `,"branchId":7`, []string{"branch:7", "company:c1"}, "", 0},
		"the old form":                 {company, `,"branchId":"branch_7"`, []string{"branch:7", "company:c1"}, "", 0},
		"the room":                     {company, `,"branchId":"branch:7"`, []string{"branch:7", "company:c1"}, "", 0},
		"one of several":               {several, `,"branchId":"8"`, []string{"branch:8", "company:c1"}, "", 0},
		"the only one":                 {one, `,"branchId":"7"`, []string{"branch:7", "company:c1"}, "", 0},
		"a branch of that very name":   {named, `,"branchId":"branch_7"`, []string{"branch:branch_7", "company:c1"}, "", 0},
		"one of the platform":          {platform, `,"companyId":"c2","branchId":"7"`, []string{"branch:7", "company:c2"}, "", 0},
		"one of a numbered company":    {platform, `,"companyId":42,"branchId":7`, []string{"branch:7", "company:42"}, "", 0},
		"another branch":               {one, `,"branchId":"8"`, nil, "forbidden", 4102},
		"another branch, as an admin":  {one, `,"branchId":"8","userRole":"admin"`, nil, "forbidden", 4102},
		"another company":              {company, `,"companyId":"c2"`, nil, "forbidden", 4102},
		"another company, as an admin": {company, `,"companyId":"c2","userRole":"admin"`, nil, "forbidden", 4102},
		"every company":                {company, `,"companyId":"*","userRole":"admin"`, nil, "forbidden", 4102},
		"a branch of no company":       {platform, `,"branchId":"7"`, nil, "invalid_parameter", 4103},
		"a branch of no form":          {company, `,"branchId":"7/8"`, nil, "invalid_parameter", 4103},
		"branches":                     {company, `,"branchId":["7"]`, nil, "invalid_message", 4103},
		"a fraction":                   {company, `,"branchId":7.5`, nil, "invalid_message", 4103},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := i.Dial(t)
			s.Send(t, `{"type":"hello","token":"`+test.token+`","subscribe":[{"namespace":"/orders"}]`+test.said+`}`)
			m := s.Next(t)
			require.Equal(t, test.code, m.Code, string(m.Raw))
			if test.code != "" {
				require.Equal(t, test.close, s.Closed(t).Code)
				return
			}
			require.Equal(t, test.rooms, m.Rooms["/orders"])
		})
	}
}

// A narrowed session hears, addresses and joins no more than its branch, and
// its role is the token's, whatever it says; also when its token is renewed.
func TestHandshake_Narrowed(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	web := func(branches any) string {
		claims := jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix(), "companyId": "c1", "userRole": "web"}
		if branches != nil {
			claims["branchIds"] = branches
		}
		return mint(t, jwt.SigningMethodHS256, []byte(apptest.Secret), claims)
	}
	s := i.Dial(t)
	s.Send(t, `{"type":"hello","token":"`+web(nil)+`","companyId":"c1","branchId":"branch_1","userRole":"admin","subscribe":[{"namespace":"/orders"}]}`)
	s.Until(t, "live")
	ask := func(message map[string]any) apptest.Message {
		s.SendJSON(t, message)
		for {
			if m := s.Next(t); m.Type == "reply" {
				return m
			}
		}
	}
	check := func() {
		t.Helper()
		receipts := i.Publish(t, service, "["+order("2", "2", "-")+","+order("1", "1", "-")+"]")
		require.Equal(t, receipts[1].ID, s.Collect(t, 1)[0].ID)
		publish := func(event string) string {
			return ask(map[string]any{"type": "publish", "ref": 1, "events": []json.RawMessage{json.RawMessage(event)}}).Code
		}
		require.Equal(t, "forbidden", publish(order("2", "2", "-")), "another branch")
		require.Equal(t, "forbidden", publish(`{"namespace":"/availability","type":"newAlert","data":{"message":"-"}}`), "an admin's")
		require.Equal(t, "forbidden", ask(map[string]any{"type": "subscribe", "ref": 1, "subscribe": []any{
			map[string]any{"namespace": "/orders", "rooms": []string{"branch:2"}},
		}}).Code)
	}
	check()
	renew := func(token string) apptest.Message {
		return ask(map[string]any{"type": "auth", "ref": 1, "token": token})
	}
	m := renew(web(nil))
	require.True(t, m.OK, string(m.Raw))
	require.Equal(t, []string{"branch:1", "company:c1"}, m.Rooms["/orders"])
	check()
	require.Equal(t, "forbidden", renew(web([]string{"2"})).Code, "without the branch there is nothing left")
	check()
	require.True(t, renew(web([]string{"1", "2"})).OK)
	check()
}

// A token for every company publishes for the one that its hello named, and for no
// other: the branches it was narrowed to are that one's.
func TestHandshake_KeepsItsCompany(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	platform := apptest.Token(t, access.Admin, "*")
	publish := func(s *apptest.Socket, company string) apptest.Message {
		s.Send(t, `{"type":"publish","ref":1,"events":[{"namespace":"/orders","type":"newOrder","companyId":`+company+
			`,"data":{"orderId":"1","branchId":"7"}}]}`)
		return s.Next(t)
	}
	for _, branch := range []string{`null`, `"7"`} {
		s := i.Dial(t)
		s.Send(t, `{"type":"hello","token":"`+platform+`","companyId":"c1","branchId":`+branch+`,"subscribe":[]}`)
		s.Until(t, "live")
		refused := publish(s, `"c2"`)
		require.Equal(t, "forbidden", refused.Code)
		require.Contains(t, string(refused.Raw), `"allowed":["c1"]`)
		require.True(t, publish(s, `"c1"`).OK)
		require.True(t, publish(s, `null`).OK)
		s.SendJSON(t, map[string]any{"type": "auth", "ref": 2, "token": platform})
		require.True(t, s.Next(t).OK)
		require.Equal(t, "forbidden", publish(s, `"c2"`).Code, "renewed")
	}
	s := i.Dial(t)
	s.Send(t, `{"type":"hello","token":"`+platform+`","subscribe":[]}`)
	s.Until(t, "live")
	for _, company := range []string{`"c1"`, `"c2"`} {
		require.True(t, publish(s, company).OK, "who has named none names it with each")
	}
	require.Len(t, i.Lines(t, "/v1/events?companyId=c1", platform), 5)
	require.Len(t, i.Lines(t, "/v1/events?companyId=c2", platform), 1)
}
