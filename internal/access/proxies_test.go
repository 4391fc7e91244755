package access

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestProxies_Client(t *testing.T) {
	t.Parallel()
	p, err := ParseProxies("10.0.0.0/8, 192.0.2.9,2001:db8:1::/48")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		peer      string
		forwarded []string
		want      string
	}{
		"no proxy":                        {"203.0.113.7:1", nil, "203.0.113.7"},
		"a stranger says who he is":       {"203.0.113.7:1", []string{"198.51.100.1"}, "203.0.113.7"},
		"a stranger says he is a proxy":   {"203.0.113.7:1", []string{"10.0.0.1"}, "203.0.113.7"},
		"a proxy":                         {"10.1.2.3:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"a single address":                {"192.0.2.9:1", []string{"198.51.100.1"}, "198.51.100.1"},
		"its neighbour":                   {"192.0.2.10:1", []string{"198.51.100.1"}, "192.0.2.10"},
		"a client that made one up":       {"10.1.2.3:1", []string{"1.1.1.1, 198.51.100.1"}, "198.51.100.1"},
		"in a header of its own":          {"10.1.2.3:1", []string{"1.1.1.1", "198.51.100.1"}, "198.51.100.1"},
		"two proxies":                     {"10.1.2.3:1", []string{"198.51.100.1, 10.0.0.1"}, "198.51.100.1"},
		"made up behind two proxies":      {"10.1.2.3:1", []string{"10.0.0.7,198.51.100.1, 10.0.0.1"}, "198.51.100.1"},
		"only proxies":                    {"10.1.2.3:1", []string{"10.0.0.7, 10.0.0.1"}, "10.0.0.7"},
		"a proxy that says nothing":       {"10.1.2.3:1", nil, "10.1.2.3"},
		"nothing between the commas":      {"10.1.2.3:1", []string{"198.51.100.1,,"}, "10.1.2.3"},
		"a name":                          {"10.1.2.3:1", []string{"198.51.100.1, unknown"}, "10.1.2.3"},
		"a name before a proxy":           {"10.1.2.3:1", []string{"198.51.100.1, _hidden, 10.0.0.1"}, "10.0.0.1"},
		"with a port":                     {"10.1.2.3:1", []string{"198.51.100.1:4711"}, "198.51.100.1"},
		"IPv6":                            {"[2001:db8:1::1]:1", []string{"2001:db8:2::7"}, "2001:db8:2::7"},
		"IPv6 in brackets":                {"[2001:db8:1::1]:1", []string{"[2001:db8:2::7]"}, "2001:db8:2::7"},
		"IPv6 with a port":                {"[2001:db8:1::1]:1", []string{"[2001:db8:2::7]:80"}, "2001:db8:2::7"},
		"an IPv4 proxy over an IPv6 port": {"[::ffff:10.1.2.3]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1"},
		"a zone":                          {"[fe80::1%eth0]:1", nil, "fe80::1"},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"Forwarded": {"for=9.9.9.9"}, "X-Real-Ip": {"9.9.9.9"}}}
		r.Header["X-Forwarded-For"] = test.forwarded
		require.Equal(t, test.want, p.Client(r).String(), name)
	}
	require.False(t, p.Client(&http.Request{RemoteAddr: "@"}).IsValid())
}

func TestProxies_Secure(t *testing.T) {
	t.Parallel()
	p, err := ParseProxies("10.0.0.0/8")
	require.NoError(t, err)
	for name, test := range map[string]struct {
		peer  string
		proto []string
		tls   bool
		want  bool
	}{
		"TLS to us":              {"203.0.113.7:1", nil, true, true},
		"no TLS":                 {"203.0.113.7:1", nil, false, false},
		"a stranger's word":      {"203.0.113.7:1", []string{"https"}, false, false},
		"a proxy's":              {"10.0.0.1:1", []string{"https"}, false, true},
		"a proxy's, in capitals": {"10.0.0.1:1", []string{"HTTPS"}, false, true},
		"a proxy's no":           {"10.0.0.1:1", []string{"http"}, false, false},
		"made up by the client":  {"10.0.0.1:1", []string{"https, http"}, false, false},
		"of two headers":         {"10.0.0.1:1", []string{"http", "https"}, false, true},
		"TLS between us":         {"10.0.0.1:1", []string{"http"}, true, true},
	} {
		r := &http.Request{RemoteAddr: test.peer, Header: http.Header{"X-Forwarded-Proto": test.proto}}
		if test.tls {
			r.TLS = &tls.ConnectionState{}
		}
		require.Equal(t, test.want, p.Secure(r), name)
	}
}

func TestProxies_Parse(t *testing.T) {
	t.Parallel()
	p, err := ParseProxies(" 10.1.2.3/8,::1 , 192.0.2.9,, ::ffff:192.0.2.1")
	require.NoError(t, err)
	require.Equal(t, "10.0.0.0/8,::1/128,192.0.2.9/32,192.0.2.1/32", p.String())
	again, err := ParseProxies(p.String())
	require.NoError(t, err)
	require.Equal(t, p, again)
	for _, wrong := range []string{"proxy.example", "10.0.0.0/33", "10.0.0", "*", "10.0.0.1:80", "::ffff:10.0.0.0/104"} {
		_, err := ParseProxies("10.0.0.1," + wrong)
		require.ErrorContains(t, err, `"`+wrong+`" is neither an address nor a network`)
	}
	none, err := ParseProxies("")
	require.NoError(t, err)
	require.Empty(t, none.String())
}
