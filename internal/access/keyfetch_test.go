package access

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

func TestKeySetRotates(t *testing.T) {
	t.Parallel()
	one, two, three := newSigner(t, "1", "RS256"), newSigner(t, "2", "ES256"), newSigner(t, "3", "EdDSA")
	issuer := startIssuer(t, one)
	set, v, _ := issuer.follow()

	// The first token loads the set, if Run has not yet.
	_, err := v.Verify(one.token(t, nil))
	require.NoError(t, err)
	require.EqualValues(t, 1, issuer.asked.Load())

	// Overlapping: a key that is new is asked for once, and the old one stays.
	issuer.publish(t, one, two)
	for range 3 {
		_, err = v.Verify(two.token(t, nil))
		require.NoError(t, err)
		_, err = v.Verify(one.token(t, nil))
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, issuer.asked.Load())

	// Without a kid, every key of the algorithm is tried.
	two.id = ""
	_, err = v.Verify(two.token(t, nil))
	require.NoError(t, err)

	// A key that is gone is good until the set is loaded anew, and no longer.
	issuer.publish(t, three)
	_, err = v.Verify(one.token(t, nil))
	require.NoError(t, err)
	require.NoError(t, set.refresh(t.Context()))
	_, err = v.Verify(one.token(t, nil))
	requireProblem(t, err, problem.Unauthenticated, "a key that is not known here (kid)")
	_, err = v.Verify(three.token(t, nil))
	require.NoError(t, err)

	// The kid of one key does not lead to another, not even of the same type.
	four := newSigner(t, "4", "EdDSA")
	issuer.publish(t, three, four)
	_, err = v.Verify(four.token(t, nil))
	require.NoError(t, err)
	four.id = "3"
	_, err = v.Verify(four.token(t, nil))
	requireProblem(t, err, problem.Unauthenticated, "the signature does not match")
	require.InDelta(t, testNow.Unix(), figures(t, issuer.metrics)["tailroom_jwks_loaded_timestamp_seconds"], 0)
}

func TestKeySetOfKeysWithoutNames(t *testing.T) {
	t.Parallel()
	nameless, named := newSigner(t, "", "ES256"), newSigner(t, "n", "ES256")
	issuer := startIssuer(t, nameless, named)
	_, v, _ := issuer.follow()
	for _, s := range []signer{nameless, named} {
		for _, kid := range []string{"", "n"} {
			s.id = kid
			_, err := v.Verify(s.token(t, nil))
			require.NoError(t, err)
		}
	}
	nameless.id = "another"
	_, err := v.Verify(nameless.token(t, nil))
	require.NoError(t, err)
	require.EqualValues(t, 1, issuer.asked.Load())
}

// TestKeySetIsAskedOnce has many tokens of a new key at the same time.
func TestKeySetIsAskedOnce(t *testing.T) {
	t.Parallel()
	old, fresh, forged := newSigner(t, "old", "ES256"), newSigner(t, "fresh", "ES256"), newSigner(t, "forged", "ES256")
	issuer := startIssuer(t, old)
	set, v, _ := issuer.follow()
	require.NoError(t, set.refresh(t.Context()))

	asked, goOn := make(chan struct{}), make(chan struct{})
	body := jwks(t, old.jwk(t, nil), fresh.jwk(t, nil))
	issuer.does(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-goOn
		_, _ = w.Write(body)
	})
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			_, err := v.Verify(fresh.token(t, nil))
			require.NoError(t, err)
		})
		if i == 0 {
			<-asked // the others come while the first one's question is out, or later
		}
	}
	issuer.says(body)
	close(goOn)
	all.Wait()
	require.EqualValues(t, 2, issuer.asked.Load())

	// Who forges may come as often as he likes.
	for range askBurst - 1 {
		_, err := v.Verify(forged.token(t, nil))
		requireProblem(t, err, problem.Unauthenticated, "not known here (kid)")
	}
	before := issuer.asked.Load()
	for range 50 {
		all.Go(func() {
			_, err := v.Verify(forged.token(t, nil))
			requireProblem(t, err, problem.Unavailable, "asked for too often")
			_, err = v.Verify(fresh.token(t, nil))
			require.NoError(t, err)
		})
	}
	all.Wait()
	require.Equal(t, before, issuer.asked.Load())
}

// TestKeySetSharesWhatItLoads has tokens that looked at the same set, and do
// not find their key in the next one either.
func TestKeySetSharesWhatItLoads(t *testing.T) {
	t.Parallel()
	issuer := startIssuer(t, newSigner(t, "1", "ES256"))
	set, _, _ := issuer.follow()
	require.NoError(t, set.refresh(t.Context()))
	_, seen := set.keys()
	var all sync.WaitGroup
	for range 3 * askBurst {
		all.Go(func() { require.NoError(t, set.renew(seen, func() bool { return false })) })
	}
	all.Wait()
	require.EqualValues(t, 2, issuer.asked.Load())
}

func TestKeySetIsAskedAgainAfterAPause(t *testing.T) {
	t.Parallel()
	issuer := startIssuer(t, newSigner(t, "1", "ES256"))
	_, v, at := issuer.follow()
	forged := newSigner(t, "2", "ES256")
	for range askBurst + 2 {
		_, _ = v.Verify(forged.token(t, nil))
	}
	require.EqualValues(t, askBurst, issuer.asked.Load())
	var p *problem.Error
	_, err := v.Verify(forged.token(t, nil))
	require.ErrorAs(t, err, &p)
	require.Equal(t, problem.Unavailable, p.Code)
	require.Equal(t, askPause, p.Retry)
	at.pass(askPause)
	_, err = v.Verify(forged.token(t, nil))
	requireProblem(t, err, problem.Unauthenticated, "not known here (kid)")
	require.EqualValues(t, askBurst+1, issuer.asked.Load())
}

// TestKeySetSurvives holds the old keys against everything an issuer may
// answer instead of new ones.
func TestKeySetSurvives(t *testing.T) {
	t.Parallel()
	s, next := newSigner(t, "1", "ES256"), newSigner(t, "2", "ES256")
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	fresh := next.jwk(t, nil)
	with := func(members map[string]any) []byte { return jwks(t, next.jwk(t, members)) }
	oct := map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(testSecret), "kid": "2", "alg": "HS256"}
	redirected := startIssuer(t, next)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err = z.Write(append([]byte(`{"keys":[`), bytes.Repeat([]byte(" "), 64<<20)...))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	many := make([]map[string]any, maxKeys+1)
	for i := range many {
		many[i] = fresh
	}
	body := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	answer := func(status int, location string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(status)
			_, _ = w.Write(jwks(t, fresh))
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"a secret":                 {body(jwks(t, oct)), "it is a secret"},
		"a private key":            {body(jwks(t, jwkOf(t, jose.JSONWebKey{Key: next.key, KeyID: "2"}, nil))), "it is a private key"},
		"an RSA key of 1024 bits":  {body(jwks(t, jwkOf(t, jose.JSONWebKey{Key: small.Public(), KeyID: "2"}, nil))), "want at least 2048"},
		"P-384":                    {body(jwks(t, jwkOf(t, jose.JSONWebKey{Key: p384.Public(), KeyID: "2"}, nil))), "want P-256"},
		"off the curve":            {body(with(map[string]any{"y": fresh["x"]})), "curve"},
		"a key without its half":   {body(with(map[string]any{"y": ""})), "wrong length for y"},
		"for encryption":           {body(with(map[string]any{"use": "enc"})), `its use is "enc"`},
		"for other operations":     {body(with(map[string]any{"key_ops": []string{"encrypt"}})), "key_ops"},
		"another algorithm":        {body(with(map[string]any{"alg": "RS256"})), `its alg is "RS256"`},
		"an algorithm of secrets":  {body(with(map[string]any{"alg": "HS256"})), `its alg is "HS256"`},
		"a type of no key":         {body(with(map[string]any{"kty": "XYZ"})), "key 1"},
		"a key that is a number":   {body([]byte(`{"keys":[7]}`)), "key 1: it is no JWK"},
		"no keys":                  {body([]byte(`{"keys":[]}`)), "no key that can be used"},
		"another document":         {body([]byte(`{"jwks_uri":"x"}`)), "no key that can be used"},
		"garbage":                  {body([]byte("\x00\xff garbage")), "no JWK Set"},
		"a page":                   {body([]byte("<!DOCTYPE html>")), "no JWK Set"},
		"nothing":                  {body(nil), "no JWK Set"},
		"too many keys":            {body(jwks(t, many...)), "it has 101 keys"},
		"a huge answer":            {body(append(jwks(t, fresh), bytes.Repeat([]byte(" "), maxKeySet)...)), "larger than"},
		"a bomb":                   {gzipped(bomb.Bytes()), "larger than"},
		"500":                      {answer(500, ""), "500 Internal Server Error"},
		"404":                      {answer(404, ""), "404 Not Found"},
		"204":                      {answer(204, ""), "204 No Content"},
		"a redirect":               {answer(302, redirected.URL), "not followed"},
		"a redirect to plain http": {answer(307, "http://issuer.example/"), "not followed"},
		"a line that breaks":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
		"half an answer": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"keys":[`))
		}, "EOF"},
		"an answer that never ends": {stalls, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			issuer := startIssuer(t, s)
			set, v, _ := issuer.follow()
			require.NoError(t, set.refresh(t.Context()))
			const enough = 10 * time.Second
			set.timeout = enough
			if strings.Contains(name, "never ends") {
				set.timeout = time.Second // in which it is asked at least
			}
			issuer.does(test.answer)
			require.ErrorContains(t, set.refresh(t.Context()), test.want)
			_, err := v.Verify(s.token(t, nil))
			require.NoError(t, err)

			// What is unknown may be good: nobody can say so now.
			_, err = v.Verify(next.token(t, nil))
			requireProblem(t, err, problem.Unavailable, "cannot be loaded at present")
			requireLoads(t, issuer, 1, 2)
			require.EqualValues(t, 3, issuer.asked.Load())
			require.Zero(t, redirected.asked.Load())

			issuer.publish(t, next)
			set.timeout = enough
			_, err = v.Verify(next.token(t, nil))
			require.NoError(t, err)
		})
	}
}

func gzipped(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(body)
	}
}

// stalls sends a byte and then nothing, until the other side has enough of it.
func stalls(w http.ResponseWriter, r *http.Request) {
	_, _ = w.Write([]byte("{"))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

// TestKeySetPassesOverBadKeys has them beside a good one. A secret in the set
// verifies nothing, under no algorithm.
func TestKeySetPassesOverBadKeys(t *testing.T) {
	t.Parallel()
	good := newSigner(t, "good", "RS256")
	issuer := startIssuer(t)
	issuer.says(jwks(t,
		map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(testSecret), "kid": "oct"},
		newSigner(t, "enc", "RS256").jwk(t, map[string]any{"use": "enc"}),
		good.jwk(t, map[string]any{"use": "sig", "alg": "RS256", "key_ops": []string{"verify"}, "x-vendor": 1}),
		map[string]any{"kty": "RSA", "kid": "empty"},
	))
	set, v, _ := issuer.follow()
	_, err := v.Verify(good.token(t, nil))
	require.NoError(t, err)
	keys, _ := set.keys()
	require.Len(t, keys, 1)
	require.Len(t, set.ignored, 3)

	token := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
	token.Header["kid"] = "oct"
	text, err := token.SignedString(testSecret)
	require.NoError(t, err)
	_, err = v.Verify(text)
	requireProblem(t, err, problem.Unauthenticated, "the keys here are for RS256, ES256, EdDSA")
}

func TestKeySetOfAnIssuerThatIsAway(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "1", "ES256")
	issuer := startIssuer(t, s)
	issuer.does(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	set, v, _ := issuer.follow()
	var p *problem.Error
	for _, kid := range []string{"1", ""} {
		s.id = kid
		_, err := v.Verify(s.token(t, nil))
		require.ErrorAs(t, err, &p)
		require.Equal(t, problem.Unavailable, p.Code)
		require.NotZero(t, p.Retry)
	}
	// What no key would make good is refused at once.
	for _, token := range []string{"", "a.b.c", signed(t, nil)} {
		_, err := v.Verify(token)
		requireProblem(t, err, problem.Unauthenticated, "")
	}
	require.EqualValues(t, 2, issuer.asked.Load())

	// A secret and a key file do not wait for it.
	key, err := newPublicKey("", s.key.Public())
	require.NoError(t, err)
	both := NewVerifier(VerifierConfig{
		Secrets: [][]byte{testSecret}, Public: []PublicKey{key}, KeySet: set, Now: func() time.Time { return testNow },
	})
	for _, token := range []string{signed(t, nil), s.token(t, nil)} {
		_, err := both.Verify(token)
		require.NoError(t, err)
	}
	require.EqualValues(t, 2, issuer.asked.Load())

	issuer.says(jwks(t, s.jwk(t, map[string]any{"kid": "1"})))
	_, err = v.Verify(s.token(t, nil))
	require.NoError(t, err)
}

func TestKeySetRun(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t, "1", "ES256"), newSigner(t, "2", "ES256")
	issuer := startIssuer(t, one)
	set, v, _ := issuer.follow()
	pauses, ring := make(chan time.Duration), make(chan time.Time)
	set.after = func(d time.Duration) <-chan time.Time {
		pauses <- d
		return ring
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- set.Run(ctx) }()
	about := func(d time.Duration) {
		t.Helper()
		require.InDelta(t, d, <-pauses, float64(d)/10)
	}
	about(5 * time.Minute)
	require.EqualValues(t, 1, issuer.asked.Load())

	// What is new is there before a token asks for it.
	issuer.publish(t, one, two)
	ring <- testNow
	about(5 * time.Minute)
	_, err := v.Verify(two.token(t, nil))
	require.NoError(t, err)
	require.EqualValues(t, 2, issuer.asked.Load())

	issuer.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for _, pause := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
		ring <- testNow
		about(time.Duration(pause) * time.Second)
	}
	_, err = v.Verify(one.token(t, nil))
	require.NoError(t, err)

	issuer.publish(t, two)
	ring <- testNow
	about(5 * time.Minute)
	requireLoads(t, issuer, 3, 8)
	cancel()
	require.NoError(t, <-ended)
}

func TestKeySetPausesDiffer(t *testing.T) {
	t.Parallel()
	set, _, _ := startIssuer(t).follow()
	seen := map[time.Duration]bool{}
	for range 20 {
		seen[set.pause(0)] = true
	}
	require.Greater(t, len(seen), 1)
	set.every = 2 * time.Second
	require.InDelta(t, 2*time.Second, set.pause(9), float64(200*time.Millisecond))
}

func TestKeySetURL(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"https://issuer.example/jwks.json":   "",
		"https://issuer.example:8443/a?b=c":  "",
		"http://localhost:8080/jwks":         "",
		"http://127.0.0.1/jwks":              "",
		"http://[::1]:9/jwks":                "",
		"http://issuer.example/jwks":         "want https",
		"http://127.0.0.1.issuer.example/":   "want https",
		"http://localhost.issuer.example/":   "want https",
		"http://0.0.0.0/":                    "want https",
		"https://user:secret@issuer.example": "without a user",
		"ftp://issuer.example":               "want a URL such as",
		"issuer.example/jwks":                "want a URL such as",
		"https:///jwks":                      "want a URL such as",
		"file:///etc/keys":                   "want a URL such as",
		"":                                   "want a URL such as",
		"https://\x00":                       "want a URL such as",
	} {
		got, err := ParseKeySetURL(url)
		if want != "" {
			require.ErrorContains(t, err, want, url)
			require.NotContains(t, err.Error(), "secret")
			continue
		}
		require.NoError(t, err, url)
		require.Equal(t, url, got)
	}
}

func TestKeySetMetricsWithoutOne(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	require.Nil(t, NewKeySet(KeySetConfig{Metrics: registry}))
	require.Equal(t, map[string]float64{"ok": 0, "failed": 0, "tailroom_jwks_loaded_timestamp_seconds": 0}, figures(t, registry))
}
