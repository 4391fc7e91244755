package access

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// ticketType is the typ of a ticket's header. Its key is another than any
	// token's; the type holds even if somebody gives both the same.
	ticketType = "tailroom-ticket+jwt"
	// ticketKey is the field of its header that names the key of its token.
	ticketKey    = "key"
	ticketCookie = "tailroom_ticket"
	ticketPath   = "/v1/stream"
	// maxCookie is how long a cookie's name and value may be together: browsers
	// drop what is longer without a word.
	maxCookie = 4096
)

// Ticket exchanges a token for a ticket: the same claims and the name of the
// key that has signed them, signed by the cluster. It is good for as long and
// for the same, as long as nothing else would refuse the token.
func (v *Verifier) Ticket(token string) (ticket string, grant Grant, err error) {
	parsed, err := v.tokens.open(token)
	if err != nil {
		return "", Grant{}, err
	}
	c, grant, err := v.weigh(parsed, "")
	if err != nil {
		return "", Grant{}, err
	}
	signer, err := v.tokens.signer(parsed)
	if err != nil {
		return "", Grant{}, err
	}
	if len(v.tickets.secrets) == 0 {
		return "", Grant{}, problem.New(problem.Unavailable, "this server has no key to sign tickets with: CLUSTER_SECRET")
	}
	signed := jwt.NewWithClaims(jwt.SigningMethodHS256, c.raw())
	signed.Header["typ"], signed.Header[ticketKey] = ticketType, signer
	if ticket, err = signed.SignedString(v.tickets.secrets[0].key); err != nil {
		return "", Grant{}, err
	}
	if len(ticketCookie)+len(ticket) > maxCookie {
		return "", Grant{}, problem.New(problem.TooLarge,
			"the token's claims do not fit in a cookie: use the WebSocket, or an event source that sends headers").
			With("limit", maxCookie)
	}
	return ticket, grant, nil
}

// VerifyTicket returns what the ticket allows, as Verify does for its token:
// the key that has signed that must be believed still.
func (v *Verifier) VerifyTicket(ticket string) (Grant, error) {
	_, grant, err := v.believe(ticket, v.tickets, ticketType)
	return grant, err
}

// StreamGrant is what a request for the stream may: by its token or, without
// an Authorization header, by the ticket in its cookie.
func (v *Verifier) StreamGrant(r *http.Request) (Grant, error) {
	cookies := r.CookiesNamed(ticketCookie)
	if len(cookies) == 0 || r.Header.Get("Authorization") != "" {
		token, err := BearerToken(r)
		if err != nil {
			return Grant{}, err
		}
		return v.Verify(token)
	}
	// A page of a sibling domain can set a cookie for the domain above, and the
	// order in which the two come says nothing.
	if len(cookies) > 1 {
		return Grant{}, refuse("there is more than one cookie " + ticketCookie + ", of which this server has set one at most: " +
			"remove those of the domain above, or send Authorization: Bearer and the token")
	}
	// A foreign page that asks for the stream as if it were an image: browsers
	// then send the cookie and no origin.
	if r.Header.Get("Origin") == "" && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return Grant{}, problem.New(problem.Forbidden, "the page that asks does not say which it is")
	}
	return v.VerifyTicket(cookies[0].Value)
}

// TicketCookie is the cookie that holds a ticket until it expires. secure says
// whether the client came by TLS.
func TicketCookie(r *http.Request, ticket string, secure bool, ttl time.Duration) *http.Cookie {
	c := ticketCookieFor(r, secure) //nolint:gosec // it sets the attributes
	c.Value = ticket
	c.MaxAge = max(1, int(ttl.Seconds()))
	return c
}

// NoTicketCookie is the cookie that takes a ticket away.
func NoTicketCookie(r *http.Request, secure bool) *http.Cookie {
	c := ticketCookieFor(r, secure) //nolint:gosec // it sets the attributes
	c.MaxAge = -1
	return c
}

// ticketCookieFor has the attributes that the page of r needs to get its
// cookie sent. A page of another site needs SameSite=None, which browsers take
// with Secure only; and it gets a cookie of its own, which pages of further
// sites do not send (Partitioned).
func ticketCookieFor(r *http.Request, secure bool) *http.Cookie {
	c := &http.Cookie{Name: ticketCookie, Path: ticketPath, HttpOnly: true, Secure: secure, SameSite: http.SameSiteLaxMode}
	if !sameSite(r) {
		c.SameSite, c.Secure, c.Partitioned = http.SameSiteNoneMode, true, true
	}
	return c
}

// sameSite reports whether the page that sent r belongs to the site it calls.
// Browsers say so to whom they trust: those reached by TLS, or on their own
// machine. For the others hosts are compared, since sites have no ports.
func sameSite(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site != "cross-site"
	}
	origin := r.Header.Get("Origin")
	page, err := url.Parse(origin)
	called := url.URL{Host: r.Host}
	return origin == "" || (err == nil && strings.EqualFold(page.Hostname(), called.Hostname()))
}

// raw is what readClaims makes these claims of again.
func (c claims) raw() jwt.MapClaims {
	m := jwt.MapClaims{"sub": c.subject, "companyId": c.company}
	for name, text := range map[string]string{"jti": c.tokenID, "userRole": c.role, "iss": c.issuer} {
		if text != "" {
			m[name] = text
		}
	}
	for name, t := range map[string]time.Time{"iat": c.issuedAt, "nbf": c.notBefore, "exp": c.expires} {
		if !t.IsZero() {
			m[name] = float64(t.UnixMilli()) / 1000
		}
	}
	if c.branches != nil {
		m["branchIds"] = c.branches
	}
	if c.audience != nil {
		m["aud"] = c.audience
	}
	return m
}
