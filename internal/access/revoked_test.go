package access

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

// issued is the grant of a token of company c1 that was issued some seconds after
// testNow.
func issued(seconds float64) Grant {
	return Grant{
		Subject: "9", TokenID: "j1", Tenant: "c1", AllBranches: true,
		IssuedAt: testNow.Add(time.Duration(seconds * float64(time.Second))),
	}
}

func TestRevocations(t *testing.T) {
	t.Parallel()
	undated, unnamed, elsewhere := issued(0), issued(0), issued(0)
	undated.IssuedAt, unnamed.TokenID, elsewhere.Tenant = time.Time{}, "", "c2"
	everywhere := issued(0)
	everywhere.PlatformWide, everywhere.Tenant = true, ""
	named, err := everywhere.Name("c1")
	require.NoError(t, err)
	at := func(seconds float64) time.Time { return issued(seconds).IssuedAt }
	all, one := Revocation{Tenant: "c1", Subject: "9"}, Revocation{Tenant: "c1", TokenID: "j1"}
	before := func(r Revocation, seconds float64) Revocation {
		r.Before = at(seconds)
		return r
	}
	for name, test := range map[string]struct {
		list  []Revocation
		grant Grant
		dead  bool
	}{
		"nothing is revoked":            {nil, issued(0), false},
		"a subject":                     {[]Revocation{all}, issued(0), true},
		"issued before":                 {[]Revocation{before(all, 1)}, issued(0), true},
		"of the same second":            {[]Revocation{before(all, 0.5)}, issued(0), true},
		"at that moment":                {[]Revocation{before(all, 0)}, issued(0), false},
		"issued later":                  {[]Revocation{before(all, 1)}, issued(1.5), false},
		"issued nobody knows when":      {[]Revocation{before(all, -1e9)}, undated, true},
		"another subject":               {[]Revocation{{Tenant: "c1", Subject: "8"}}, issued(0), false},
		"another company":               {[]Revocation{all, one}, elsewhere, false},
		"every company":                 {[]Revocation{{Subject: "9"}}, elsewhere, true},
		"a token":                       {[]Revocation{one}, issued(1e6), true},
		"a token, before":               {[]Revocation{before(one, 1)}, issued(2), false},
		"another token":                 {[]Revocation{{Tenant: "c1", TokenID: "j2"}}, issued(0), false},
		"a token without an id":         {[]Revocation{one, {TokenID: "j1"}}, unnamed, false},
		"a token of any company":        {[]Revocation{{TokenID: "j1"}}, elsewhere, true},
		"for all companies":             {[]Revocation{{Subject: "9"}}, everywhere, true},
		"for all, having named one":     {[]Revocation{{Subject: "9"}}, named, true},
		"for all, by one company":       {[]Revocation{all, one}, everywhere, false},
		"for all, by the one named":     {[]Revocation{all, one}, named, false},
		"the later of two":              {[]Revocation{before(all, 5), before(all, 1)}, issued(3), true},
		"the later of two, turned":      {[]Revocation{before(all, 1), before(all, 5)}, issued(3), true},
		"whenever, and before":          {[]Revocation{one, before(one, 1)}, issued(3), true},
		"before, and whenever":          {[]Revocation{before(one, 1), one}, issued(3), true},
		"the subject is no token's id":  {[]Revocation{{Tenant: "c1", TokenID: "9"}}, issued(0), false},
		"the token's id is no subject":  {[]Revocation{{Tenant: "c1", Subject: "j1"}}, issued(0), false},
		"one of a hundred of a company": {append(hundred(), before(all, 1)), issued(0), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var added, replaced Revocations
			for _, r := range test.list {
				added.Add(r)
			}
			replaced.Add(Revocation{Tenant: "c1", Subject: "9"}, Revocation{TokenID: "j1"})
			replaced.Replace(test.list)
			require.Equal(t, test.dead, added.Cover(test.grant))
			require.Equal(t, test.dead, replaced.Cover(test.grant), "nothing of before is left")
			require.Equal(t, added.Len(), replaced.Len())
			covered := false
			for _, r := range test.list {
				covered = covered || r.Covers(test.grant)
			}
			require.Equal(t, test.dead, covered, "one by one")
		})
	}
}

func hundred() []Revocation {
	list := make([]Revocation, 100)
	for i := range list {
		list[i] = Revocation{Tenant: "c1", Subject: fmt.Sprint("x", i)}
	}
	return list
}

func TestRevocations_Concurrently(t *testing.T) {
	t.Parallel()
	var s Revocations
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if rand.IntN(10) == 0 {
					s.Replace(hundred())
				}
				s.Add(Revocation{Tenant: "c1", Subject: "9"})
				s.Cover(issued(0))
			}
		})
	}
	all.Wait()
	require.True(t, s.Cover(issued(0)))
	require.GreaterOrEqual(t, s.Len(), 1)
}

func TestVerifyRevoked(t *testing.T) {
	t.Parallel()
	var s Revocations
	v := NewVerifier(VerifierConfig{Secrets: [][]byte{testSecret}, Revoked: s.Cover, Now: func() time.Time { return testNow }})
	token := signed(t, jwt.MapClaims{"iat": testNow.Unix(), "jti": "j1"})
	_, err := v.Verify(token)
	require.NoError(t, err)
	s.Add(Revocation{Tenant: "c1", Subject: "9", Before: testNow.Add(time.Second)})
	g, err := v.Verify(token)
	requireProblem(t, err, problem.TokenRevoked, "the token was revoked")
	require.Zero(t, g)
	_, err = v.Verify(signed(t, jwt.MapClaims{"iat": testNow.Unix() + 1}))
	require.NoError(t, err)

	// What is wrong with a token besides is said first.
	_, err = v.Verify(signed(t, jwt.MapClaims{"exp": testNow.Add(-time.Hour).Unix()}))
	requireProblem(t, err, problem.TokenExpired, "")
}

func TestVerifyLifetime(t *testing.T) {
	t.Parallel()
	v := NewVerifier(VerifierConfig{Secrets: [][]byte{testSecret}, Lifetime: time.Hour, Now: func() time.Time { return testNow }})
	for name, test := range map[string]struct {
		iat    any // seconds from now; nil is none
		exp    int64
		detail string // "" is granted
	}{
		"an hour":                 {0, 3600, ""},
		"the rest of an hour":     {-3599, 1, ""},
		"more than an hour":       {0, 3601, "at most 1h0m0s"},
		"more, though less to go": {-3600, 60, "the token lives too long (from iat to exp)"},
		"since nobody knows when": {nil, 60, "the token does not say when it was issued (iat)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := jwt.MapClaims{"exp": testNow.Unix() + test.exp}
			if iat, ok := test.iat.(int); ok {
				c["iat"] = testNow.Unix() + int64(iat)
			}
			_, err := v.Verify(signed(t, c))
			if test.detail == "" {
				require.NoError(t, err)
				return
			}
			requireProblem(t, err, problem.Unauthenticated, test.detail)
		})
	}
}
