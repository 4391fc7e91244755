package access

import (
	"encoding/base64"
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
