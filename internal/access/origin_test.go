package access

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func from(method, origin string) *http.Request {
	r := httptest.NewRequest(method, "http://tail.example/v1/events", nil)
	if origin != "" {
		r.Header.Set("Origin", origin)
	}
	return r
}

func TestOriginsAllowed(t *testing.T) {
	t.Parallel()
	const list = "https://A.example, http://b.example:8080,https://c.example:443,null,file://,capacitor://localhost,http://[::1]:3000"
	for name, test := range map[string]struct {
		list, origin string
		want         bool
	}{
		"no origin":            {"", "", true},
		"same host":            {"", "http://tail.example", true},
		"same host behind TLS": {"", "https://Tail.example", true},
		"same host own port":   {"", "https://tail.example:443", true},
		"same host other port": {"", "http://tail.example:8080", false},
		"same host of an app":  {"", "capacitor://tail.example", false},
		"a subdomain":          {"", "http://x.tail.example", false},
		"listed":               {list, "https://a.example", true},
		"listed in capitals":   {list, "HTTPS://A.EXAMPLE", true},
		"listed with port":     {list, "http://b.example:8080", true},
		"listed as own port":   {list, "https://c.example", true},
		"null":                 {list, "null", true},
		"a file":               {list, "file://", true},
		"an app":               {list, "capacitor://localhost", true},
		"IPv6":                 {list, "http://[::1]:3000", true},
		"another scheme":       {list, "http://a.example", false},
		"another port":         {list, "https://a.example:8443", false},
		"without its port":     {list, "http://b.example", false},
		"a longer name":        {list, "https://a.example.evil.example", false},
		"a path":               {list, "https://a.example/", false},
		"a user":               {list, "https://a.example@evil.example", false},
		"null not listed":      {"", "null", false},
		"a file not listed":    {"", "file://", false},
		"a star is no origin":  {list, "*", false},
		"nonsense":             {list, "%%", false},
		"all":                  {"*", "https://evil.example", true},
		"all, even null":       {"https://a.example,*", "null", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, err := ParseOrigins(test.list)
			require.NoError(t, err)
			require.Equal(t, test.want, o.Allowed(from("GET", test.origin)))
		})
	}
	require.False(t, Origins{}.Allowed(from("GET", "https://a.example")))
}

func TestSameHostWithPort(t *testing.T) {
	t.Parallel()
	r := from("GET", "http://localhost:3001")
	r.Host = "localhost:3001"
	require.True(t, Origins{}.Allowed(r))
	r.Host = "localhost"
	require.False(t, Origins{}.Allowed(r))
	r.Host = ""
	require.False(t, Origins{}.Allowed(r))
}

func TestParseOriginsNamesTheBadEntry(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"https://a.example/", "https://a.example/app", "a.example", "localhost:3000", "//a.example", "https://",
		"https://*.example", "https://u@a.example", "https://a.example?x", "https://a.example#x", "https://:80",
		"https://a.example:", "http://a b", "http://a:port",
	} {
		_, err := ParseOrigins("https://ok.example," + entry)
		require.ErrorContains(t, err, `"`+entry+`" is not an origin`)
	}
}

func TestMiddleware(t *testing.T) {
	t.Parallel()
	origins, err := ParseOrigins("https://a.example")
	require.NoError(t, err)
	handler := origins.Middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusTeapot)
	}))
	for name, test := range map[string]struct {
		method, origin, preflight string
		status                    int
		allow                     string
	}{
		"no page":           {"GET", "", "", http.StatusTeapot, ""},
		"allowed":           {"POST", "https://a.example", "", http.StatusTeapot, "https://a.example"},
		"same origin":       {"POST", "http://tail.example", "", http.StatusTeapot, "http://tail.example"},
		"foreign":           {"GET", "https://b.example", "", http.StatusForbidden, ""},
		"preflight":         {"OPTIONS", "https://a.example", "POST", http.StatusNoContent, "https://a.example"},
		"foreign preflight": {"OPTIONS", "https://b.example", "POST", http.StatusForbidden, ""},
		"plain OPTIONS":     {"OPTIONS", "https://a.example", "", http.StatusTeapot, "https://a.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := from(test.method, test.origin)
			if test.preflight != "" {
				r.Header.Set("Access-Control-Request-Method", test.preflight)
				r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			h := w.Result().Header
			require.Equal(t, test.status, w.Code)
			require.Equal(t, "Origin", h.Get("Vary"))
			require.Equal(t, test.allow, h.Get("Access-Control-Allow-Origin"))
			if test.allow != "" {
				require.Equal(t, "true", h.Get("Access-Control-Allow-Credentials"))
				require.Equal(t, "Retry-After", h.Get("Access-Control-Expose-Headers"))
			}
			if test.status == http.StatusNoContent {
				require.Equal(t, "GET, POST, DELETE", h.Get("Access-Control-Allow-Methods"))
				require.Equal(t, "authorization,content-type", h.Get("Access-Control-Allow-Headers"))
				require.Equal(t, "7200", h.Get("Access-Control-Max-Age"))
			}
			if test.status == http.StatusForbidden {
				require.Contains(t, w.Body.String(), `"code":"forbidden"`)
			}
		})
	}
}
