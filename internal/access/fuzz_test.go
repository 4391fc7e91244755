package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// FuzzVerifyForged holds that nothing is granted to what the key did not
// sign: of all inputs only those that begin with the signed text pass.
func FuzzVerifyForged(f *testing.F) {
	good := signed(f, nil)
	text := good[:strings.LastIndexByte(good, '.')+1]
	f.Add(good)
	f.Add(text)
	f.Add(good[:len(good)-1])
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, with(nil)))
	f.Add(sign(f, jwt.SigningMethodHS512, testSecret, with(nil)))
	f.Add("eyJhbGciOiJIUzI1NiJ9.bnVsbA.")
	v := testVerifier()
	f.Fuzz(func(t *testing.T, token string) {
		g, err := v.Verify(token)
		if err != nil {
			require.Zero(t, g)
			return
		}
		require.True(t, strings.HasPrefix(token, text), token)
	})
}

// FuzzVerifySigned holds that whatever an issuer signs gives a whole grant or
// none.
func FuzzVerifySigned(f *testing.F) {
	f.Add([]byte(`{"sub":"9","companyId":"c1","exp":1800003600,"branchIds":["b7",8],"userRole":"owner","jti":"j"}`))
	f.Add([]byte(`{"sub":9,"companyId":"*","exp":1800003600.5,"branchId":null,"userRole":"admin","aud":["a"],"iss":"i"}`))
	f.Add([]byte(`{"sub":"9","companyId":1e3,"exp":1e999,"nbf":-1,"iat":0,"branchId":{}}`))
	f.Add([]byte(`null`))
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`))
	v := testVerifier()
	f.Fuzz(func(t *testing.T, payload []byte) {
		text := header + "." + base64.RawURLEncoding.EncodeToString(payload)
		signature, err := jwt.SigningMethodHS256.Sign(text, testSecret)
		require.NoError(t, err)
		g, err := v.Verify(text + "." + base64.RawURLEncoding.EncodeToString(signature))
		if err != nil {
			require.Zero(t, g)
			return
		}
		require.NotEmpty(t, g.Subject)
		require.Contains(t, Roles, g.Role)
		require.True(t, g.Expires.After(testNow))
		require.Equal(t, g.PlatformWide, g.Tenant == "")
		require.True(t, g.PlatformWide || event.ValidRoomID(g.Tenant))
		require.Equal(t, g.AllBranches, g.Branches == nil)
		for _, branch := range g.Branches {
			require.True(t, event.ValidRoomID(branch), branch)
		}
	})
}

// FuzzTicketForged holds the same of tickets as FuzzVerifyForged of tokens.
func FuzzTicketForged(f *testing.F) {
	v := ticketing(clusterSecret, nil)
	good, _, err := v.Ticket(signed(f, nil))
	require.NoError(f, err)
	text := good[:strings.LastIndexByte(good, '.')+1]
	f.Add(good)
	f.Add(text)
	f.Add(signed(f, nil))
	f.Add(sign(f, jwt.SigningMethodHS256, v.tickets.secrets[0].key, with(nil)))
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, with(nil)))
	f.Fuzz(func(t *testing.T, ticket string) {
		g, err := v.VerifyTicket(ticket)
		if err != nil {
			require.Zero(t, g)
			return
		}
		require.True(t, strings.HasPrefix(ticket, text), ticket)
	})
}

// FuzzTicketClaims holds that a ticket says what its token says, whatever an
// issuer has put into that.
func FuzzTicketClaims(f *testing.F) {
	f.Add([]byte(`{"sub":"9","companyId":"c1","exp":1800003600,"branchIds":["b7",8],"userRole":"owner","jti":"j","iat":1700000000.001}`))
	f.Add([]byte(`{"sub":9,"companyId":"*","exp":1800003600.5,"branchId":null,"userRole":"admin","aud":["a"],"iss":"i","nbf":0}`))
	f.Add([]byte(`{"sub":"9","companyId":7,"exp":253402300799,"branchIds":[],"aud":"a"}`))
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256"}`))
	v := ticketing(clusterSecret, nil)
	f.Fuzz(func(t *testing.T, payload []byte) {
		text := header + "." + base64.RawURLEncoding.EncodeToString(payload)
		signature, err := jwt.SigningMethodHS256.Sign(text, testSecret)
		require.NoError(t, err)
		token := text + "." + base64.RawURLEncoding.EncodeToString(signature)
		ticket, grant, err := v.Ticket(token)
		if err != nil {
			require.Zero(t, grant)
			return
		}
		require.LessOrEqual(t, len(ticket), maxCookie)
		want, _, err := v.believe(token, v.tokens, "")
		require.NoError(t, err)
		got, again, err := v.believe(ticket, v.tickets, ticketType)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, grant, again)
	})
}

// FuzzKeySet holds that whatever an issuer sends, each key that is taken is
// public, strong enough, and for the algorithm of its type.
func FuzzKeySet(f *testing.F) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		s := newSigner(f, "k", algorithm)
		f.Add(jwks(f, s.jwk(f, nil)))
		f.Add(jwks(f, s.jwk(f, map[string]any{"use": "enc"}), s.jwk(f, map[string]any{"alg": "HS256", "x5c": []string{"AA=="}})))
		f.Add(jwks(f, jwkOf(f, jose.JSONWebKey{Key: s.key}, nil)))
	}
	f.Add([]byte(`{"keys":[{"kty":"oct","k":"AA"},{"kty":"RSA","n":"AQAB","e":"AQAB"},null,7,{"kty":"OKP","crv":"Ed25519","x":""}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseKeySet(text)
		require.Equal(t, err == nil, len(keys) > 0)
		for _, k := range keys {
			switch key := k.key.(type) {
			case *rsa.PublicKey:
				require.Equal(t, "RS256", k.algorithm)
				require.GreaterOrEqual(t, key.N.BitLen(), minRSA)
			case *ecdsa.PublicKey:
				require.Equal(t, "ES256", k.algorithm)
				_, err := key.Bytes() // an error if it is no point of the curve
				require.NoError(t, err)
			case ed25519.PublicKey:
				require.Equal(t, "EdDSA", k.algorithm)
				require.Len(t, key, ed25519.PublicKeySize)
			default:
				require.Fail(t, "a key of another type", "%T", key)
			}
			// It may not fit any signature, but it must not break the verification.
			forged := &jwt.Token{Method: jwt.GetSigningMethod(k.algorithm)}
			require.Error(t, forged.Method.Verify("a.b", []byte(strings.Repeat("s", 64)), k.key))
		}
	})
}

// FuzzPublicKeyFile holds the same of PEM files.
func FuzzPublicKeyFile(f *testing.F) {
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		s := newSigner(f, "", algorithm)
		f.Add([]byte(publicPEM(f, s.key.Public())))
		f.Add([]byte(certificate(f, s.key)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parsePublicKeys(text)
		require.Equal(t, err == nil, len(keys) > 0)
		for _, k := range keys {
			require.Error(t, jwt.GetSigningMethod(k.algorithm).Verify("a.b", []byte(strings.Repeat("s", 64)), k.key))
		}
	})
}

// FuzzOrigins holds that a list lets through the origins that are in it, the
// server's own host, and nothing else, however they are written.
func FuzzOrigins(f *testing.F) {
	f.Add("https://app.example.com,http://localhost:5173", "https://app.example.com", "api.example.com")
	f.Add("https://app.example.com", "https://APP.example.com:443", "api.example.com")
	f.Add("https://app.example.com", "https://app.example.com.evil.com", "api.example.com")
	f.Add("file://,null", "null", "localhost:3001")
	f.Add("", "http://[::1]:80", "[::1]")
	f.Add("https://a@b", "https://a%2eb", "a.b")
	f.Fuzz(func(t *testing.T, list, origin, host string) {
		o, err := ParseOrigins(list)
		if err != nil {
			return
		}
		again, err := ParseOrigins(o.String())
		require.NoError(t, err)
		require.Equal(t, o, again)
		r := &http.Request{Host: host, Header: http.Header{"Origin": {origin}}}
		if !o.Allowed(r) || origin == "" || o.listed[anyOrigin] {
			return
		}
		// What is let through says the same as an entry or the host, letter by
		// letter, but for their case and the scheme's own port.
		plain := func(s string) string {
			return strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(s, ":443"), ":80"))
		}
		_, page, _ := strings.Cut(origin, "://")
		allowed := []string{plain(host)}
		for _, entry := range splitList(list) {
			if _, listed, ok := strings.Cut(entry, "://"); ok {
				allowed = append(allowed, plain(listed))
			} else {
				require.Equal(t, "null", entry)
				allowed = append(allowed, "") // it has no host
			}
		}
		require.Contains(t, allowed, plain(page))
	})
}

// FuzzNarrow holds that whatever a client says of itself takes away.
func FuzzNarrow(f *testing.F) {
	f.Add(`"7"`)
	f.Add(`7`)
	f.Add(`"branch_7"`)
	f.Add(`"branch:8"`)
	f.Add(`"branch_branch_7"`)
	f.Add(`7.5`)
	f.Add(`["7"]`)
	f.Fuzz(func(t *testing.T, text string) {
		var id ID
		if json.Unmarshal([]byte(text), &id) != nil || id == "" {
			return
		}
		for _, g := range []Grant{
			{Role: Web, Tenant: "c1", AllBranches: true}, {Role: Web, Tenant: "c1", Branches: []string{"7", "branch_7"}}, {Role: Web, Tenant: "c1"},
		} {
			narrowed, err := g.Narrow(id)
			if err != nil {
				require.Zero(t, narrowed)
				continue
			}
			require.False(t, narrowed.AllBranches)
			require.Len(t, narrowed.Branches, 1)
			for _, room := range narrowed.Rooms() {
				_, err := g.Room(room)
				require.NoError(t, err)
			}
			again, err := narrowed.Renewed(Grant{Role: Web, Tenant: "c1", AllBranches: true})
			require.NoError(t, err)
			require.Equal(t, narrowed, again, "a renewed token is narrowed in the same way")
		}
	})
}
