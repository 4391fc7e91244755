package access

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// anyOrigin in a list of origins stands for all of them.
const anyOrigin = "*"

// Origins is the one rule, for HTTP and for WebSockets, about which web pages
// may call: those of the server's own host and those that are listed. What
// sends no Origin is no page, and is allowed. The zero Origins lists none.
type Origins struct {
	listed map[string]bool
}

// ParseOrigins reads a comma-separated list of origins: scheme://host, with a
// port if it is not the scheme's; the null and file:// that pages from a disk
// send; or * for all. Its errors name the entry that is wrong.
func ParseOrigins(list string) (Origins, error) {
	o := Origins{listed: map[string]bool{}}
	for _, entry := range splitList(list) {
		origin, ok := canonicalOrigin(entry)
		if !ok {
			return Origins{}, fmt.Errorf(
				"%q is not an origin: want scheme://host[:port] without a path, null, file:// or *", entry)
		}
		o.listed[origin] = true
	}
	return o, nil
}

// Allowed reports whether the page that sent r may call.
func (o Origins) Allowed(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || o.listed[anyOrigin] {
		return true
	}
	canonical, ok := canonicalOrigin(origin)
	return ok && (o.listed[canonical] || sameHost(canonical, r.Host))
}

// String returns what ParseOrigins reads, sorted.
func (o Origins) String() string {
	return strings.Join(slices.Sorted(maps.Keys(o.listed)), ",")
}

// canonicalOrigin returns the one spelling of an origin: lower case, without
// the scheme's own port. ok is false if s is none.
func canonicalOrigin(s string) (origin string, ok bool) {
	if s == anyOrigin || s == "null" || s == "file://" {
		return s, true
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme == "" || u.Hostname() == "" ||
		strings.HasSuffix(u.Host, ":") || strings.Contains(u.Host, anyOrigin) ||
		!strings.EqualFold(u.Scheme+"://"+u.Host, s) { // such as a user or a path
		return "", false
	}
	return u.Scheme + "://" + withoutPort(u.Scheme, u.Host), true
}

// sameHost reports whether a page of this canonical origin was served by the
// host that it now calls. The scheme is the page's word only: behind a proxy
// that ends TLS, the server does not know its own.
func sameHost(origin, host string) bool {
	scheme, page, _ := strings.Cut(origin, "://")
	return (scheme == "http" || scheme == "https") && page == withoutPort(scheme, host)
}

// withoutPort returns a host in lower case, without the port that the scheme
// implies.
func withoutPort(scheme, host string) string {
	host = strings.ToLower(host)
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}
