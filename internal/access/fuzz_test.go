package access

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

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
