package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// cookie is the one that an answer sets.
func cookie(t *testing.T, a apptest.Answer) *http.Cookie {
	t.Helper()
	cookies := (&http.Response{Header: a.Header}).Cookies()
	require.Len(t, cookies, 1)
	return cookies[0]
}

func TestTicket_OpensTheStreamOfEveryInstance(t *testing.T) {
	t.Parallel()
	instances := apptest.Cluster(t, 2)
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	token := apptest.TokenUntil(t, expires, access.Web, "c1", "b1")
	answer := instances[0].Do(t, http.MethodPost, "/v1/tickets", token, "")
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	var said struct {
		ExpiresAt time.Time `json:"expiresAt"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &said))
	require.True(t, expires.Equal(said.ExpiresAt))
	c := cookie(t, answer)
	require.Equal(t, "tailroom_ticket", c.Name)
	require.True(t, c.HttpOnly)
	require.False(t, c.Secure)
	require.Equal(t, "/v1/stream", c.Path)
	require.Equal(t, http.SameSiteLaxMode, c.SameSite)
	require.InDelta(t, time.Until(expires).Seconds(), c.MaxAge, 5)
	require.NotContains(t, string(answer.Body), c.Value)

	for _, i := range instances {
		s := i.Stream(t, "", "namespace=/availability", "Cookie", c.Name+"="+c.Value)
		for {
			b, err := s.Next(t)
			require.NoError(t, err)
			if b.Event == "tailroom.live" {
				break
			}
		}
		// What the token does not cover, the ticket does not either.
		refused := i.Do(t, http.MethodGet, "/v1/stream?room=branch:b2", "", "", "Cookie", c.Name+"="+c.Value)
		require.Equal(t, "forbidden", refused.Code())
	}
}

func TestTicket_OpensNothingElse(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	answer := i.Do(t, http.MethodPost, "/v1/tickets", apptest.Token(t, access.Admin, "c1"), "")
	c := cookie(t, answer)
	for _, route := range []string{
		"GET /v1/events", "POST /v1/events", "GET /v1/events/0192a0c4-7f3e-7000-8000-000000000000", "GET /v1/catalog", "POST /v1/tickets",
	} {
		method, path, _ := strings.Cut(route, " ")
		for _, headers := range [][]string{{"Cookie", c.Name + "=" + c.Value}, {"Authorization", "Bearer " + c.Value}, {"Authorization", "Bearer " + c.Value, "Cookie", c.Name + "=" + c.Value}} {
			headers = append(headers, "Content-Type", "application/json")
			refused := i.Do(t, method, path, "", "{}", headers...)
			require.Equal(t, http.StatusUnauthorized, refused.Status, route)
			require.Equal(t, "unauthenticated", refused.Code(), route)
			require.Empty(t, refused.Header.Get("Set-Cookie"))
		}
	}
	// A ticket is no token for a WebSocket's hello either.
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": c.Value, "subscribe": []any{}})
	require.EqualValues(t, 4100, s.Closed(t).Code)
}

func TestTicket_IsRefused(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "CORS_ORIGINS=https://app.example")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	for name, test := range map[string]struct {
		method, token string
		headers       []string
		status        int
	}{
		"no token":         {"POST", "", nil, 401},
		"an expired token": {"POST", apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"), nil, 401},
		"a foreign page":   {"POST", token, []string{"Origin", "https://evil.example"}, 403},
		"its farewell":     {"DELETE", "", []string{"Origin", "https://evil.example"}, 403},
		"another method":   {"GET", token, nil, 405},
	} {
		answer := i.Do(t, test.method, "/v1/tickets", test.token, "", test.headers...)
		require.Equal(t, test.status, answer.Status, name)
		require.Empty(t, answer.Header.Get("Set-Cookie"), name)
	}
	answer := i.Do(t, http.MethodPost, "/v1/tickets", token, "", "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusOK, answer.Status)
	require.Equal(t, "true", answer.Header.Get("Access-Control-Allow-Credentials"))
	require.Equal(t, "https://app.example", answer.Header.Get("Access-Control-Allow-Origin"))
	c := cookie(t, answer)
	require.Equal(t, http.SameSiteNoneMode, c.SameSite)
	require.True(t, c.Secure)
	refused := i.Do(t, http.MethodGet, "/v1/stream", "", "", "Cookie", c.Name+"="+c.Value, "Origin", "https://evil.example")
	require.Equal(t, http.StatusForbidden, refused.Status)

	preflight := i.Do(t, http.MethodOptions, "/v1/tickets", "", "",
		"Origin", "https://app.example", "Access-Control-Request-Method", "DELETE")
	require.Equal(t, http.StatusNoContent, preflight.Status)
	require.Contains(t, preflight.Header.Get("Access-Control-Allow-Methods"), "DELETE")
	dropped := i.Do(t, http.MethodDelete, "/v1/tickets", "", "", "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site")
	require.Equal(t, http.StatusNoContent, dropped.Status)
	gone := cookie(t, dropped)
	require.Negative(t, gone.MaxAge)
	require.Empty(t, gone.Value)
	require.Equal(t, []any{c.Name, c.Path, c.SameSite, c.Secure, c.Partitioned}, []any{gone.Name, gone.Path, gone.SameSite, gone.Secure, gone.Partitioned})
}

// TestTicket_EndsWithTheSecret has instances whose JWT_SECRET is another by now,
// and the same CLUSTER_SECRET.
func TestTicket_EndsWithTheSecret(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	start := func(environ ...string) *apptest.Instance {
		return apptest.Start(t, dsn, append(environ, "CLUSTER_SECRET=of the cluster, and long enough for it")...)
	}
	const newer = "JWT_SECRET=the secret of after the leak, long enough"
	c := cookie(t, start().Do(t, http.MethodPost, "/v1/tickets", apptest.Token(t, access.Web, "c1"), ""))
	start(newer, "TAILROOM_JWT_SECRET_PREVIOUS="+apptest.Secret).Stream(t, "", "", "Cookie", c.Name+"="+c.Value)
	refused := start(newer).Do(t, http.MethodGet, "/v1/stream", "", "", "Cookie", c.Name+"="+c.Value)
	require.Equal(t, http.StatusUnauthorized, refused.Status, string(refused.Body))
	require.Equal(t, "unauthenticated", refused.Code())
}

// TestSecrets_Rotated has instances before, in and after a rotation of both
// secrets, and of the one from which the other is derived.
func TestSecrets_Rotated(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	const older, newer = "the secret of instances before they change", "the secret of instances when they have changed"
	start := func(secret, previous, cluster, clusterPrevious string) *apptest.Instance {
		return apptest.Start(t, dsn, "JWT_SECRET="+secret, "TAILROOM_JWT_SECRET_PREVIOUS="+previous,
			"CLUSTER_SECRET="+cluster, "TAILROOM_CLUSTER_SECRET_PREVIOUS="+clusterPrevious)
	}
	token, err := access.Mint([]byte(older), access.Claims{Subject: "9", CompanyID: "c1", Expires: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	for name, test := range map[string]struct{ before, in, after *apptest.Instance }{
		"both":    {start(older, "", older, ""), start(newer, older, newer, older), start(newer, "", newer, "")},
		"derived": {start(older, "", "", ""), start(newer, older, "", ""), start(newer, "", "", "")},
	} {
		c := cookie(t, test.before.Do(t, http.MethodPost, "/v1/tickets", token, ""))
		for _, good := range []*apptest.Instance{test.before, test.in} {
			require.Equal(t, http.StatusOK, good.Get(t, "/v1/events", token).Status, name)
			good.Stream(t, "", "", "Cookie", c.Name+"="+c.Value).Close()
		}
		requireProblem(t, test.after.Get(t, "/v1/events", token), 401, "unauthenticated", name)
		requireProblem(t, test.after.Do(t, http.MethodGet, "/v1/stream", "", "", "Cookie", c.Name+"="+c.Value), 401, "unauthenticated", name)
	}
}

// TestKeys_OfAnIssuer has an instance without any JWT_SECRET, whose issuer is
// away at first.
func TestKeys_OfAnIssuer(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1"}}})
	require.NoError(t, err)
	var there atomic.Bool
	issuer := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !there.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write(set)
	}))
	t.Cleanup(issuer.Close)
	i := apptest.Cluster(t, 1, "JWT_SECRET=", "TAILROOM_JWT_SECRET_PREVIOUS=", "JWKS_URL="+issuer.URL)[0]
	signed := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"sub": "9", "companyId": "c1", "exp": time.Now().Add(time.Hour).Unix(),
	})
	signed.Header["kid"] = "k1"
	token, err := signed.SignedString(key)
	require.NoError(t, err)

	answer := i.Get(t, "/v1/events", token)
	require.Equal(t, http.StatusServiceUnavailable, answer.Status, string(answer.Body))
	require.Equal(t, "unavailable", answer.Code())
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
	require.Equal(t, http.StatusOK, i.Get(t, "/readyz", "").Status)
	require.Zero(t, i.Metric(t, "tailroom_jwks_loaded_timestamp_seconds"))
	require.Positive(t, i.Metric(t, `tailroom_jwks_refreshes_total{result="failed"}`))
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": token, "subscribe": []any{}})
	require.EqualValues(t, 1013, s.Closed(t).Code) // so that clients come back

	// By itself, without a token that asks for it.
	there.Store(true)
	require.Eventually(t, func() bool {
		return i.Metric(t, "tailroom_jwks_loaded_timestamp_seconds") > 0
	}, apptest.Patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, i.Get(t, "/v1/events", token).Status)
	require.Equal(t, http.StatusUnauthorized, i.Get(t, "/v1/events", apptest.Token(t, access.Web, "c1")).Status)
	c := cookie(t, i.Do(t, http.MethodPost, "/v1/tickets", token, ""))
	require.NotEmpty(t, i.Stream(t, "", "", "Cookie", c.Name+"="+c.Value))
}
