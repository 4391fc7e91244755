package access

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

// ticketing returns a verifier whose cluster's keys come from a secret.
func ticketing(secret string, change func(*VerifierConfig)) *Verifier {
	c := VerifierConfig{
		Secrets: [][]byte{testSecret}, Tickets: NewCluster([]byte(secret), nil).Keys(Tickets), Now: func() time.Time { return testNow },
	}
	if change != nil {
		change(&c)
	}
	return NewVerifier(c)
}

const clusterSecret = "the cluster's secret, which is long enough"

func TestTicketsGrantWhatTheirTokensDo(t *testing.T) {
	t.Parallel()
	for name, changes := range map[string]jwt.MapClaims{
		"company-wide":    nil,
		"branches":        {"branchId": "b7", "branchIds": []any{8, "b9"}},
		"no branch":       {"branchIds": []string{}},
		"numbers":         {"sub": 9, "companyId": int64(9007199254740993), "branchId": 7},
		"platform-wide":   {"companyId": "*", "userRole": "analyst"},
		"all claims":      {"jti": "j1", "iat": testNow.Add(-time.Hour).Unix(), "nbf": testNow.Unix(), "userRole": "owner", "aud": []string{"a", "b"}, "iss": "i"},
		"parts of second": {"exp": 1_800_000_001.123, "iat": 1_799_999_999.457},
		"in the leeway":   {"exp": testNow.Add(-leeway + time.Second).Unix()},
		"unread claims":   {"email": "a@b.example", "scope": strings.Repeat("x", 10_000)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := ticketing(clusterSecret, func(c *VerifierConfig) { c.Roles = RoleMap{"owner": Admin} })
			token := signed(t, changes)
			want, err := v.Verify(token)
			require.NoError(t, err)
			ticket, grant, err := v.Ticket(token)
			require.NoError(t, err)
			require.Equal(t, want, grant)
			got, err := v.VerifyTicket(ticket)
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NotContains(t, ticket, token[strings.IndexByte(token, '.'):])

			// A ticket's claims are read as a token's, with nothing added or lost.
			fromToken, _, err := v.believe(token, v.tokens, "")
			require.NoError(t, err)
			fromTicket, _, err := v.believe(ticket, v.tickets, ticketType)
			require.NoError(t, err)
			require.Equal(t, fromToken, fromTicket)
		})
	}
}

// TestTicketsAreJudgedAnew has a ticket meet a server that was configured anew
// in the meantime.
func TestTicketsAreJudgedAnew(t *testing.T) {
	t.Parallel()
	ticket, _, err := ticketing(clusterSecret, nil).Ticket(signed(t, jwt.MapClaims{"userRole": "owner", "iss": "i", "aud": "a"}))
	require.NoError(t, err)
	later := func(d time.Duration) func(*VerifierConfig) {
		return func(c *VerifierConfig) { c.Now = func() time.Time { return testNow.Add(d) } }
	}
	v := ticketing(clusterSecret, func(c *VerifierConfig) { c.Roles = RoleMap{"owner": Analyst} })
	g, err := v.VerifyTicket(ticket)
	require.NoError(t, err)
	require.Equal(t, Analyst, g.Role)
	for name, test := range map[string]struct {
		change func(*VerifierConfig)
		code   problem.Code
	}{
		"another issuer":   {func(c *VerifierConfig) { c.Issuer = "other" }, problem.Unauthenticated},
		"another audience": {func(c *VerifierConfig) { c.Audience = "other" }, problem.Unauthenticated},
		"the same":         {func(c *VerifierConfig) { c.Issuer, c.Audience = "i", "a" }, ""},
		"before the end":   {later(time.Hour), ""},
		"after the end":    {later(time.Hour + leeway), problem.TokenExpired},
		"without a key":    {func(c *VerifierConfig) { c.Tickets = nil }, problem.Unauthenticated},
		"a new secret": {func(c *VerifierConfig) {
			c.Tickets = NewCluster([]byte("the newer secret, which is long enough"), []byte(clusterSecret)).Keys(Tickets)
		}, ""},
		"two secrets on": {func(c *VerifierConfig) {
			c.Tickets = NewCluster([]byte("the newest secret, which is long enough"), []byte("the newer secret, which is long enough")).Keys(Tickets)
		}, problem.Unauthenticated},
		"another purpose": {func(c *VerifierConfig) {
			c.Tickets = NewCluster([]byte(clusterSecret), nil).Keys("other")
		}, problem.Unauthenticated},
	} {
		_, err := ticketing(clusterSecret, test.change).VerifyTicket(ticket)
		if test.code == "" {
			require.NoError(t, err, name)
			continue
		}
		requireProblem(t, err, test.code, "")
	}
}

func TestTicketsAreNoTokens(t *testing.T) {
	t.Parallel()
	v := ticketing(clusterSecret, nil)
	token := signed(t, nil)
	ticket, _, err := v.Ticket(token)
	require.NoError(t, err)
	_, err = v.Verify(ticket)
	requireProblem(t, err, problem.Unauthenticated, "the signature does not match")
	_, err = v.VerifyTicket(token)
	requireProblem(t, err, problem.Unauthenticated, "the signature does not match")
	_, _, err = v.Ticket(ticket)
	requireProblem(t, err, problem.Unauthenticated, "the signature does not match")

	// Even where somebody has made the keys the same.
	same := ticketing(clusterSecret, func(c *VerifierConfig) { c.Secrets = c.Tickets })
	_, err = same.Verify(ticket)
	requireProblem(t, err, problem.Unauthenticated, "a ticket is no token")
	_, err = same.VerifyTicket(sign(t, jwt.SigningMethodHS256, same.tickets.secrets[0].key, with(nil)))
	requireProblem(t, err, problem.Unauthenticated, "a ticket is no token")
}

func TestTicketIsRefused(t *testing.T) {
	t.Parallel()
	branches := make([]string, 200)
	for i := range branches {
		branches[i] = fmt.Sprintf("0192a0c4-7f3e-7000-8000-%012d", i)
	}
	_, _, err := ticketing(clusterSecret, nil).Ticket(signed(t, jwt.MapClaims{"branchIds": branches}))
	requireProblem(t, err, problem.TooLarge, "do not fit in a cookie")
	_, _, err = ticketing("", nil).Ticket(signed(t, nil))
	requireProblem(t, err, problem.Unavailable, "CLUSTER_SECRET")
	_, _, err = ticketing(clusterSecret, nil).Ticket(signed(t, jwt.MapClaims{"exp": 1}))
	requireProblem(t, err, problem.TokenExpired, "")
}

func TestClusterKeys(t *testing.T) {
	t.Parallel()
	text, older := []byte(clusterSecret), []byte("the secret of before, which is long enough")
	lists := map[string][][]byte{
		"secret":       NewCluster(text, nil).Keys(Tickets),
		"both":         NewCluster(text, older).Keys(Tickets),
		"token secret": NewCluster(nil, nil, text, older).Keys(Tickets),
		"purpose":      NewCluster(text, older).Keys("other"),
		"tokens too":   NewCluster(text, nil, text, older).Keys(Tickets),
	}
	require.Len(t, lists["secret"], 1)
	require.Len(t, lists["both"], 2)
	require.Equal(t, lists["secret"][0], lists["both"][0])
	require.Equal(t, lists["secret"], lists["tokens too"])
	seen := map[string]bool{string(text): true, string(older): true}
	for _, name := range []string{"both", "token secret", "purpose"} {
		for _, key := range lists[name] {
			require.False(t, seen[string(key)], name)
			seen[string(key)] = true
			require.False(t, WeakSecret(key))
		}
	}
	require.Empty(t, NewCluster(nil, nil).Keys(Tickets))
	require.Empty(t, NewCluster(nil, nil, nil, []byte("weak")).Keys(Tickets))
	require.Empty(t, Cluster{}.Keys(Tickets))
}

func TestTicketCookies(t *testing.T) {
	t.Parallel()
	const lax, none = "SameSite=Lax", "Secure; SameSite=None; Partitioned"
	for name, test := range map[string]struct {
		origin, site string
		secure       bool
		want         string
	}{
		"no page":                    {"", "", false, lax},
		"same host":                  {"http://tailroom.example", "", false, lax},
		"another port":               {"http://TAILROOM.example:8080", "", false, lax},
		"same host by TLS":           {"https://tailroom.example", "", true, "Secure; " + lax},
		"another host":               {"https://app.example", "", false, none},
		"another host by TLS":        {"https://app.example", "", true, none},
		"the browser knows the site": {"https://app.tailroom.example", "same-site", true, "Secure; " + lax},
		"the same origin":            {"https://tailroom.example", "same-origin", true, "Secure; " + lax},
		"http to https is foreign":   {"http://tailroom.example", "cross-site", true, none},
		"a page of a file":           {"null", "cross-site", false, none},
		"a page of a file, unsaid":   {"null", "", false, none},
	} {
		r := httptest.NewRequest(http.MethodPost, "/v1/tickets", nil)
		r.Host = "tailroom.example"
		r.Header.Set("Origin", test.origin)
		r.Header.Set("Sec-Fetch-Site", test.site)
		got := TicketCookie(r, "ticket", test.secure, 90*time.Second)
		require.Equal(t, "tailroom_ticket=ticket; Path=/v1/stream; Max-Age=90; HttpOnly; "+test.want, got.String(), name)
		require.Equal(t, "tailroom_ticket=; Path=/v1/stream; Max-Age=0; HttpOnly; "+test.want, NoTicketCookie(r, test.secure).String(), name)
	}
}

func TestStreamGrant(t *testing.T) {
	t.Parallel()
	v := ticketing(clusterSecret, nil)
	token := signed(t, nil)
	ticket, grant, err := v.Ticket(token)
	require.NoError(t, err)
	planted := ticket + "; other=1; " + ticketCookie + "=" + ticket
	for name, test := range map[string]struct {
		authorization, cookie, origin, site string
		detail                              string // "" is granted
	}{
		"two tickets":                {"", planted, "", "", "more than one cookie tailroom_ticket"},
		"two tickets and a token":    {"Bearer " + token, planted, "", "", ""},
		"another cookie":             {"", ticket + "; tailroom_ticket2=x; Tailroom_ticket=x", "", "", ""},
		"a token":                    {"Bearer " + token, "", "", "", ""},
		"a ticket":                   {"", ticket, "", "", ""},
		"neither":                    {"", "", "", "", "there is no token"},
		"the token counts":           {"Bearer " + token, "x", "", "", ""},
		"also if it is bad":          {"Bearer x", ticket, "", "", "not a JWT"},
		"a token as a cookie":        {"", token, "", "", "does not match"},
		"a ticket as a token":        {"Bearer " + ticket, "", "", "", "does not match"},
		"garbage":                    {"", "x", "", "", "not a JWT"},
		"a page":                     {"", ticket, "https://app.example", "cross-site", ""},
		"a page of this server":      {"", ticket, "", "same-origin", ""},
		"an image of a foreign page": {"", ticket, "", "cross-site", "does not say which it is"},
	} {
		r := httptest.NewRequest(http.MethodGet, "/v1/stream", nil)
		for header, value := range map[string]string{
			"Authorization": test.authorization, "Origin": test.origin, "Sec-Fetch-Site": test.site,
		} {
			if value != "" {
				r.Header.Set(header, value)
			}
		}
		if test.cookie != "" {
			r.Header.Set("Cookie", ticketCookie+"="+test.cookie)
		}
		got, err := v.StreamGrant(r)
		if test.detail == "" {
			require.NoError(t, err, name)
			require.Equal(t, grant, got)
			continue
		}
		var p *problem.Error
		require.ErrorAs(t, err, &p, name)
		require.Contains(t, p.Detail, test.detail, name)
		require.Zero(t, got)
	}

	// Nor if they come in headers of their own, or one is worth nothing.
	for _, second := range []string{ticket, "", "x"} {
		r := httptest.NewRequest(http.MethodGet, "/v1/stream", nil)
		r.Header.Add("Cookie", ticketCookie+"="+ticket)
		r.Header.Add("Cookie", ticketCookie+"="+second)
		_, err := v.StreamGrant(r)
		requireProblem(t, err, problem.Unauthenticated, "more than one cookie")
	}
}
