package access

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

var (
	testSecret = []byte("a secret of more than thirty-two bytes")
	testNow    = time.Unix(1_800_000_000, 0)
)

func testVerifier() *Verifier {
	return NewVerifier(VerifierConfig{Secrets: [][]byte{testSecret}, Now: func() time.Time { return testNow }})
}

// with returns valid claims with these in addition, or in their place; a nil
// value leaves the claim out.
func with(changes jwt.MapClaims) jwt.MapClaims {
	c := jwt.MapClaims{"sub": "9", "companyId": "c1", "exp": testNow.Add(time.Hour).Unix()}
	maps.Copy(c, changes)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func sign(t testing.TB, method jwt.SigningMethod, key any, c jwt.MapClaims) string {
	t.Helper()
	token, err := jwt.NewWithClaims(method, c).SignedString(key)
	require.NoError(t, err)
	return token
}

func signed(t testing.TB, changes jwt.MapClaims) string {
	t.Helper()
	return sign(t, jwt.SigningMethodHS256, testSecret, with(changes))
}

func requireProblem(t *testing.T, err error, code problem.Code, detail string) {
	t.Helper()
	var p *problem.Error
	require.ErrorAs(t, err, &p)
	require.Equal(t, code, p.Code)
	require.Contains(t, p.Detail, detail)
}

func TestVerifyGrants(t *testing.T) {
	t.Parallel()
	hour := testNow.Add(time.Hour)
	company := Grant{Subject: "9", Role: Web, Tenant: "c1", AllBranches: true, Expires: hour}
	branches := func(ids ...string) Grant {
		g := company
		g.AllBranches, g.Branches = false, append([]string{}, ids...)
		return g
	}
	but := func(change func(*Grant)) Grant {
		g := company
		change(&g)
		return g
	}
	numeric := branches("7")
	numeric.Tenant = "1"
	until := func(t time.Time) Grant {
		return but(func(g *Grant) { g.Expires = t })
	}
	for name, test := range map[string]struct {
		claims jwt.MapClaims
		want   Grant
	}{
		"company-wide":        {nil, company},
		"null branch claims":  {jwt.MapClaims{"branchId": json.RawMessage("null"), "branchIds": json.RawMessage("null")}, company},
		"one branch":          {jwt.MapClaims{"branchId": "b7"}, branches("b7")},
		"numeric ids":         {jwt.MapClaims{"sub": 9, "companyId": 1, "branchId": 7}, numeric},
		"a number over 2^53":  {jwt.MapClaims{"companyId": int64(9007199254740993)}, but(func(g *Grant) { g.Tenant = "9007199254740993" })},
		"several branches":    {jwt.MapClaims{"branchIds": []any{"b7", 8}}, branches("b7", "8")},
		"both branch claims":  {jwt.MapClaims{"branchId": "b7", "branchIds": []string{"b7", "b8"}}, branches("b7", "b8")},
		"no branch":           {jwt.MapClaims{"branchIds": []string{}}, branches()},
		"underscores are ids": {jwt.MapClaims{"branchId": "branch_7"}, branches("branch_7")},
		"an own role":         {jwt.MapClaims{"userRole": "desktop_app"}, but(func(g *Grant) { g.Role = DesktopApp })},
		"a role of others":    {jwt.MapClaims{"userRole": "owner"}, company},
		"a token id":          {jwt.MapClaims{"jti": "j1"}, but(func(g *Grant) { g.TokenID = "j1" })},
		"a bound admin":       {jwt.MapClaims{"userRole": "admin"}, but(func(g *Grant) { g.Role = Admin })},
		"within the leeway":   {jwt.MapClaims{"exp": testNow.Add(-29 * time.Second).Unix()}, until(testNow.Add(time.Second))},
		"expiring now":        {jwt.MapClaims{"exp": testNow.Unix()}, until(testNow.Add(leeway))},
		"a fractional expiry": {jwt.MapClaims{"exp": 1_800_000_001.5}, until(testNow.Add(1500 * time.Millisecond))},
		"clocks apart":        {jwt.MapClaims{"nbf": testNow.Unix() + 30, "iat": testNow.Unix() + 30}, but(func(g *Grant) { g.IssuedAt = time.Unix(testNow.Unix()+30, 0) })},
		"unread claims":       {jwt.MapClaims{"aud": "x", "iss": "y", "CompanyID": "c2", "z": []any{1}}, company},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := testVerifier().Verify(signed(t, test.claims))
			require.NoError(t, err)
			require.True(t, test.want.Expires.Equal(got.Expires), got.Expires)
			got.Expires = test.want.Expires
			require.Equal(t, test.want, got)
		})
	}
}

func TestVerifyRefusesClaims(t *testing.T) {
	t.Parallel()
	at := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	for name, test := range map[string]struct {
		claims jwt.MapClaims
		code   problem.Code
		detail string
	}{
		"expired":              {jwt.MapClaims{"exp": at(-leeway)}, problem.TokenExpired, "has expired"},
		"without exp":          {jwt.MapClaims{"exp": nil}, problem.Unauthenticated, "the claim exp is missing"},
		"exp of text":          {jwt.MapClaims{"exp": "tomorrow"}, problem.Unauthenticated, "the claim exp is not a time"},
		"exp in milliseconds":  {jwt.MapClaims{"exp": at(time.Hour) * 1000}, problem.Unauthenticated, "the claim exp is not a time"},
		"exp beyond floats":    {jwt.MapClaims{"exp": 1e300}, problem.Unauthenticated, "the claim exp is not a time"},
		"not yet valid":        {jwt.MapClaims{"nbf": at(leeway + time.Second)}, problem.Unauthenticated, "(nbf)"},
		"issued in the future": {jwt.MapClaims{"iat": at(leeway + time.Second)}, problem.Unauthenticated, "(iat)"},
		"without sub":          {jwt.MapClaims{"sub": nil}, problem.Unauthenticated, "the claim sub is missing"},
		"empty sub":            {jwt.MapClaims{"sub": ""}, problem.Unauthenticated, "the claim sub is not"},
		"sub with NUL":         {jwt.MapClaims{"sub": "a\x00b"}, problem.Unauthenticated, "the claim sub is not"},
		"sub of a list":        {jwt.MapClaims{"sub": []string{"a"}}, problem.Unauthenticated, "the claim sub is not"},
		"empty jti":            {jwt.MapClaims{"jti": ""}, problem.Unauthenticated, "the claim jti is not"},
		"without company":      {jwt.MapClaims{"companyId": nil}, problem.Unauthenticated, "the claim companyId is missing"},
		"empty company":        {jwt.MapClaims{"companyId": ""}, problem.Unauthenticated, "the claim companyId is not"},
		"company of a room":    {jwt.MapClaims{"companyId": "company:1"}, problem.Unauthenticated, "the claim companyId is not"},
		"fractional company":   {jwt.MapClaims{"companyId": 1.5}, problem.Unauthenticated, "the claim companyId is not"},
		"company of truth":     {jwt.MapClaims{"companyId": true}, problem.Unauthenticated, "the claim companyId is not"},
		"every branch":         {jwt.MapClaims{"branchId": "*"}, problem.Unauthenticated, "the claim branchId has"},
		"empty branch":         {jwt.MapClaims{"branchId": ""}, problem.Unauthenticated, "the claim branchId has"},
		"branch of a room":     {jwt.MapClaims{"branchIds": []string{"branch:8"}}, problem.Unauthenticated, "the claim branchIds has"},
		"null among branches":  {jwt.MapClaims{"branchIds": []any{nil}}, problem.Unauthenticated, "the claim branchIds has"},
		"branches of an":       {jwt.MapClaims{"branchIds": jwt.MapClaims{}}, problem.Unauthenticated, "the claim branchIds has"},
		"role of a number":     {jwt.MapClaims{"userRole": 1}, problem.Unauthenticated, "the claim userRole is not"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := testVerifier().Verify(signed(t, test.claims))
			requireProblem(t, err, test.code, test.detail)
			require.Zero(t, g)
		})
	}
}

func TestVerifyRefusesSignatures(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	good := signed(t, nil)
	forged := sign(t, jwt.SigningMethodHS256, []byte("another secret of over 32 bytes ..."), with(nil))
	critical := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
	critical.Header["crit"] = []string{"b64"}
	extended, err := critical.SignedString(testSecret)
	require.NoError(t, err)

	for name, test := range map[string]struct{ token, detail string }{
		"empty":             {"", "not a JWT"},
		"no token":          {"a.b.c", "not a JWT"},
		"four parts":        {good + ".x", "not a JWT"},
		"forged":            {forged, "the signature does not match"},
		"cut off":           {good[:len(good)-4], "the signature does not match"},
		"without signature": {good[:len(good)-43], "the signature does not match"},
		"alg none":          {sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, with(nil)), "HS256"},
		"HS512":             {sign(t, jwt.SigningMethodHS512, testSecret, with(nil)), "HS256"},
		"RS256":             {sign(t, jwt.SigningMethodRS256, rsaKey, with(nil)), "HS256"},
		"unknown algorithm": {"eyJhbGciOiJYIn0.e30.", "HS256"},
		"no algorithm":      {"e30.e30.", "HS256"},
		"crit":              {extended, "header extensions"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := testVerifier().Verify(test.token)
			requireProblem(t, err, problem.Unauthenticated, test.detail)
			require.Zero(t, g)
		})
	}
}

// TestVerifyWithRS256HeaderAndSecret is the confusion of algorithms: a token
// that names RS256 and is signed with the HMAC of the shared secret.
func TestVerifyWithRS256HeaderAndSecret(t *testing.T) {
	t.Parallel()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
	token.Header["alg"] = "RS256"
	text, err := token.SignedString(testSecret)
	require.NoError(t, err)
	_, err = testVerifier().Verify(text)
	requireProblem(t, err, problem.Unauthenticated, "the token's algorithm is not accepted")
}

func TestVerifyWithWeakSecret(t *testing.T) {
	t.Parallel()
	for _, secret := range [][]byte{nil, {}, testSecret[:31]} {
		v := NewVerifier(VerifierConfig{Secrets: [][]byte{secret}})
		_, err := v.Verify(sign(t, jwt.SigningMethodHS256, secret, with(nil)))
		requireProblem(t, err, problem.Unauthenticated, "the server has no key")
	}
}

func TestVerifyIssuerAndAudience(t *testing.T) {
	t.Parallel()
	v := NewVerifier(VerifierConfig{
		Secrets: [][]byte{testSecret}, Issuer: "platform", Audience: "realtime", Now: func() time.Time { return testNow },
	})
	for name, test := range map[string]struct {
		claims jwt.MapClaims
		detail string // "" is granted
	}{
		"both":             {jwt.MapClaims{"iss": "platform", "aud": "realtime"}, ""},
		"among others":     {jwt.MapClaims{"iss": "platform", "aud": []string{"x", "realtime"}}, ""},
		"another issuer":   {jwt.MapClaims{"iss": "x", "aud": "realtime"}, "another issuer"},
		"no issuer":        {jwt.MapClaims{"aud": "realtime"}, "another issuer"},
		"another audience": {jwt.MapClaims{"iss": "platform", "aud": "x"}, "another audience"},
		"no audience":      {jwt.MapClaims{"iss": "platform", "aud": []string{}}, "another audience"},
		"no list":          {jwt.MapClaims{"iss": "platform", "aud": []int{1}}, "the claim aud"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := v.Verify(signed(t, test.claims))
			if test.detail == "" {
				require.NoError(t, err)
				return
			}
			requireProblem(t, err, problem.Unauthenticated, test.detail)
		})
	}
}

func TestPlatformWideTokens(t *testing.T) {
	t.Parallel()
	for role, allowed := range map[Role]bool{
		Web: false, DesktopApp: false, Service: true, Analyst: true, Admin: true, "": false, "owner": false,
	} {
		g, err := testVerifier().Verify(signed(t, jwt.MapClaims{"companyId": "*", "userRole": string(role)}))
		if !allowed {
			requireProblem(t, err, problem.Forbidden, "service, analyst and admin")
			continue
		}
		require.NoError(t, err)
		require.True(t, g.PlatformWide)
		require.Empty(t, g.Tenant)
	}
}

func TestMintedTokensVerify(t *testing.T) {
	t.Parallel()
	c := Claims{
		Subject: "9", CompanyID: "c1", BranchIDs: []string{"b7"}, UserRole: "owner", Issuer: "i", Audience: "a",
		IssuedAt: testNow, Expires: testNow.Add(time.Hour),
	}
	one, err := Mint(testSecret, c)
	require.NoError(t, err)
	two, err := Mint(testSecret, c)
	require.NoError(t, err)
	v := NewVerifier(VerifierConfig{
		Secrets: [][]byte{testSecret}, Issuer: "i", Audience: "a", Roles: RoleMap{"owner": Admin}, Now: func() time.Time { return testNow },
	})
	g, err := v.Verify(one)
	require.NoError(t, err)
	require.Equal(t, Grant{
		Subject: "9", TokenID: g.TokenID, Role: Admin, Tenant: "c1", Branches: []string{"b7"}, IssuedAt: g.IssuedAt, Expires: g.Expires,
	}, g)
	require.True(t, c.IssuedAt.Equal(g.IssuedAt))
	require.True(t, c.Expires.Equal(g.Expires))
	other, err := v.Verify(two)
	require.NoError(t, err)
	require.NotEqual(t, g.TokenID, other.TokenID)

	_, err = Mint(testSecret[:31], c)
	require.Error(t, err)
}

func TestBearerToken(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Bearer a.b.c": "a.b.c", "bearer  a.b.c ": "a.b.c", "BEARER a": "a",
		"": "", "Bearer": "", "Bearer ": "", "Basic a": "", "a.b.c": "",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", header)
		got, err := BearerToken(r)
		require.Equal(t, want, got, header)
		if want == "" {
			requireProblem(t, err, problem.Unauthenticated, "Authorization")
		}
	}
}
