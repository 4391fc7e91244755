package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// signer is a key pair of an issuer's.
type signer struct {
	id     string
	method jwt.SigningMethod
	key    crypto.Signer
}

func newSigner(t testing.TB, id, algorithm string) signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case "RS256":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case "ES256":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "EdDSA":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	require.NoError(t, err)
	return signer{id, jwt.GetSigningMethod(algorithm), key}
}

// token signs claims; "" as its kid leaves that out.
func (s signer) token(t testing.TB, changes jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(s.method, with(changes))
	if s.id != "" {
		token.Header["kid"] = s.id
	}
	text, err := token.SignedString(s.key)
	require.NoError(t, err)
	return text
}

// jwk is the signer's public key, with these members in addition, or in their
// place.
func (s signer) jwk(t testing.TB, members map[string]any) map[string]any {
	t.Helper()
	return jwkOf(t, jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id}, members)
}

func jwkOf(t testing.TB, key jose.JSONWebKey, members map[string]any) map[string]any {
	t.Helper()
	text, err := key.MarshalJSON()
	require.NoError(t, err)
	var jwk map[string]any
	require.NoError(t, json.Unmarshal(text, &jwk))
	maps.Copy(jwk, members)
	return jwk
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(map[string]any{"keys": keys})
	require.NoError(t, err)
	return text
}

// issuer serves a key set, or what a test lets it do instead.
type issuer struct {
	*httptest.Server
	asked  atomic.Int64
	answer atomic.Pointer[http.HandlerFunc]

	metrics *prometheus.Registry // of who follows
}

func startIssuer(t testing.TB, signers ...signer) *issuer {
	t.Helper()
	i := &issuer{}
	i.publish(t, signers...)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		(*i.answer.Load())(w, r)
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) does(answer http.HandlerFunc) { i.answer.Store(&answer) }

func (i *issuer) says(body []byte) {
	i.does(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
}

func (i *issuer) publish(t testing.TB, signers ...signer) {
	t.Helper()
	var keys []map[string]any
	for _, s := range signers {
		keys = append(keys, s.jwk(t, nil))
	}
	i.says(jwks(t, keys...))
}

// clock is a clock that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// follow returns a key set at the issuer, on a clock of its own, and a verifier
// that has nothing else.
func (i *issuer) follow() (*KeySet, *Verifier, *clock) {
	at := &clock{t: testNow}
	i.metrics = prometheus.NewRegistry()
	set := NewKeySet(KeySetConfig{URL: i.URL, Every: 5 * time.Minute, Metrics: i.metrics})
	set.now = at.now
	return set, NewVerifier(VerifierConfig{KeySet: set, Now: func() time.Time { return testNow }}), at
}

// figures are the metrics of a key set, by result or name.
func figures(t testing.TB, metrics *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := metrics.Gather()
	require.NoError(t, err)
	list := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 {
				list[family.GetName()] = m.GetGauge().GetValue()
				continue
			}
			list[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return list
}

func requireLoads(t testing.TB, i *issuer, ok, failed int) {
	t.Helper()
	got := figures(t, i.metrics)
	require.Equal(t, []float64{float64(ok), float64(failed)}, []float64{got["ok"], got["failed"]})
}
