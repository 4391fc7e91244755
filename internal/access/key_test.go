package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func publicPEM(t testing.TB, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	require.NoError(t, err)
	return block("PUBLIC KEY", der)
}

func certificate(t testing.TB, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, NotAfter: testNow.Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	return block("CERTIFICATE", der)
}

func TestPublicKeysOfAFile(t *testing.T) {
	t.Parallel()
	signers := []signer{
		newSigner(t, "", "RS256"), newSigner(t, "r2", "RS256"), newSigner(t, "", "RS256"),
		newSigner(t, "e1", "ES256"), newSigner(t, "", "ES256"), newSigner(t, "d1", "EdDSA"),
	}
	rsaKey, ok := signers[1].key.Public().(*rsa.PublicKey)
	require.True(t, ok)
	path := filepath.Join(t.TempDir(), "keys.pem")
	require.NoError(t, os.WriteFile(path, []byte(strings.Join([]string{
		"the keys of today, and those of tomorrow\n",
		publicPEM(t, signers[0].key.Public()), block("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(rsaKey)), certificate(t, signers[2].key),
		publicPEM(t, signers[3].key.Public()), certificate(t, signers[4].key), publicPEM(t, signers[5].key.Public()),
	}, "\n")), 0o600))
	keys, err := LoadPublicKeys(path)
	require.NoError(t, err)
	v := NewVerifier(VerifierConfig{Public: keys, Now: func() time.Time { return testNow }})
	for i, s := range signers {
		g, err := v.Verify(s.token(t, nil))
		require.NoError(t, err, "%d %s", i, s.method.Alg())
		require.Equal(t, "9", g.Subject)
		_, err = v.Verify(newSigner(t, s.id, s.method.Alg()).token(t, nil))
		requireProblem(t, err, problem.Unauthenticated, "the signature does not match")
	}
}

func TestPublicKeyFileIsRefused(t *testing.T) {
	t.Parallel()
	key := newSigner(t, "", "ES256").key
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	other, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(other)
	require.NoError(t, err)
	good := publicPEM(t, key.Public())
	for name, test := range map[string]struct{ text, want string }{
		"empty":                 {"", "there is no public key in it"},
		"no PEM":                {"ssh-ed25519 AAAA", "there is no public key in it"},
		"a private key":         {block("PRIVATE KEY", pkcs8), "PEM block 1: it is a private key"},
		"an EC private key":     {block("EC PRIVATE KEY", sec1), "-pubout"},
		"an RSA private key":    {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small)), "it is a private key"},
		"an encrypted one":      {block("ENCRYPTED PRIVATE KEY", pkcs8), "it is a private key"},
		"a pair":                {good + block("PRIVATE KEY", pkcs8), "PEM block 2: it is a private key"},
		"1024 bits":             {publicPEM(t, small.Public()), "RSA key of 1024 bits: want at least 2048"},
		"P-384":                 {good + publicPEM(t, other.Public()), "PEM block 2: it is an EC key of the curve P-384: want P-256"},
		"parameters":            {block("EC PARAMETERS", []byte{1}), `"EC PARAMETERS" is no public key`},
		"garbage":               {block("PUBLIC KEY", []byte("garbage")), "PEM block 1: asn1"},
		"a garbled certificate": {block("CERTIFICATE", []byte("garbage")), "PEM block 1: x509"},
		"cut off":               {good + good[:80], "1 of its 2 PEM blocks are cut off or garbled"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "keys.pem")
			require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
			keys, err := LoadPublicKeys(path)
			require.ErrorContains(t, err, "JWT_PUBLIC_KEY_FILE: "+path+": ")
			require.ErrorContains(t, err, test.want)
			require.Empty(t, keys)
			require.NotContains(t, err.Error(), base64.StdEncoding.EncodeToString(pkcs8)[:20])
		})
	}
	_, err = LoadPublicKeys("/does/not/exist")
	require.ErrorContains(t, err, "JWT_PUBLIC_KEY_FILE: open /does/not/exist")
}

// TestKeyConfusion is every way to have a key believed for an algorithm that
// it is not for.
func TestKeyConfusion(t *testing.T) {
	t.Parallel()
	rs, es, ed := newSigner(t, "k", "RS256"), newSigner(t, "k", "ES256"), newSigner(t, "k", "EdDSA")
	pems := publicPEM(t, rs.key.Public()) + publicPEM(t, es.key.Public()) + publicPEM(t, ed.key.Public())
	keys, err := parsePublicKeys([]byte(pems))
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(rs.key.Public())
	require.NoError(t, err)
	jwk, err := json.Marshal(rs.jwk(t, nil))
	require.NoError(t, err)
	issuer := startIssuer(t, rs, es, ed)
	set, _, _ := issuer.follow()
	require.NoError(t, set.refresh(t.Context()))

	// forge names an algorithm and signs with the HMAC of what is public.
	forge := func(algorithm string, secret []byte) string {
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
		token.Header["alg"], token.Header["kid"] = algorithm, "k"
		text, err := token.SigningString()
		require.NoError(t, err)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	as := func(method jwt.SigningMethod, key any) string {
		token := jwt.NewWithClaims(method, with(nil))
		token.Header["kid"] = "k"
		text, err := token.SignedString(key)
		require.NoError(t, err)
		return text
	}
	attacker := newSigner(t, "k", "RS256")
	own := attacker.jwk(t, nil)

	tokens := map[string]string{
		"HMAC of the PEM file":          forge("HS256", []byte(pems)),
		"HMAC of the RSA key's PEM":     forge("HS256", []byte(publicPEM(t, rs.key.Public()))),
		"HMAC of the RSA key's DER":     forge("HS256", der),
		"HMAC of the JWK":               forge("HS256", jwk),
		"HMAC of the modulus":           forge("HS256", rs.key.Public().(*rsa.PublicKey).N.Bytes()),
		"HMAC with HS384":               forge("HS384", der),
		"HMAC that says RS256":          forge("RS256", der),
		"HMAC that says ES256":          forge("ES256", der),
		"HMAC that says EdDSA":          forge("EdDSA", der),
		"HMAC with the secret as RS256": forge("RS256", testSecret),
		"none":                          as(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"RS512 with the RSA key":        as(jwt.SigningMethodRS512, rs.key),
		"PS256 with the RSA key":        as(jwt.SigningMethodPS256, rs.key),
		"a key of the token's own":      attacker.token(t, nil),
		"a key in the header": func() string {
			token := jwt.NewWithClaims(jwt.SigningMethodRS256, with(nil))
			token.Header["jwk"], token.Header["jku"], token.Header["x5u"] = own, issuer.URL, issuer.URL
			text, err := token.SignedString(attacker.key)
			require.NoError(t, err)
			return text
		}(),
	}
	now := func() time.Time { return testNow }
	for name, v := range map[string]*Verifier{
		"public keys":            NewVerifier(VerifierConfig{Public: keys, Now: now}),
		"public keys and secret": NewVerifier(VerifierConfig{Public: keys, Secrets: [][]byte{testSecret}, Now: now}),
		"key set":                NewVerifier(VerifierConfig{KeySet: set, Now: now}),
		"all":                    NewVerifier(VerifierConfig{Public: keys, KeySet: set, Secrets: [][]byte{testSecret}, Now: now}),
		"secret":                 testVerifier(),
	} {
		for attack, token := range tokens {
			g, err := v.Verify(token)
			var p *problem.Error
			require.ErrorAs(t, err, &p, "%s: %s", name, attack)
			require.Equal(t, problem.Unauthenticated, p.Code, "%s: %s", name, attack)
			require.Zero(t, g)
		}
		_, err := v.Verify(signed(t, nil))
		require.Equal(t, strings.Contains(name, "secret") || name == "all", err == nil, name)
		for _, s := range []signer{rs, es, ed} {
			_, err := v.Verify(s.token(t, nil))
			require.Equal(t, name != "secret", err == nil, "%s %s", name, s.method.Alg())
		}
	}
}

// TestKeysOfOtherTypesAreNotTried has one key, and tokens of the algorithms
// that the others would be for.
func TestKeysOfOtherTypesAreNotTried(t *testing.T) {
	t.Parallel()
	signers := []signer{newSigner(t, "", "RS256"), newSigner(t, "", "ES256"), newSigner(t, "", "EdDSA")}
	for _, has := range signers {
		key, err := newPublicKey("", has.key.Public())
		require.NoError(t, err)
		v := NewVerifier(VerifierConfig{Public: []PublicKey{key}, Now: func() time.Time { return testNow }})
		for _, s := range signers {
			_, err := v.Verify(s.token(t, nil))
			if s.method == has.method {
				require.NoError(t, err)
				continue
			}
			requireProblem(t, err, problem.Unauthenticated, "the token's algorithm is not accepted: the keys here are for "+has.method.Alg())
		}
	}
}

func TestSecretsOverlap(t *testing.T) {
	t.Parallel()
	older := []byte("the secret of before, which is long enough")
	v := NewVerifier(VerifierConfig{
		Secrets: [][]byte{testSecret, older, testSecret[:31]}, Now: func() time.Time { return testNow },
	})
	for secret, accepted := range map[string]bool{
		string(testSecret): true, string(older): true, string(testSecret[:31]): false, "": false,
		"a third secret, which is long enough too": false,
	} {
		for _, kid := range []string{"", "2026"} {
			token := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
			if kid != "" {
				token.Header["kid"] = kid
			}
			text, err := token.SignedString([]byte(secret))
			require.NoError(t, err)
			_, err = v.Verify(text)
			if accepted {
				require.NoError(t, err)
				continue
			}
			requireProblem(t, err, problem.Unauthenticated, "the signature does not match")
		}
	}
}
