package leak

import (
	"io"
	"net"
	"net/http"
	"strings"
)

// longest is as long as any secret, or as a token's signature by an RSA key of
// 4096 bits and some more.
const longest = 1 << 10

// Transport shows a Finder all that a client is answered: headers, and bodies as
// they are read. The tokens that the client sends are known from then on, and so
// are the tickets that it gets.
type Transport struct {
	Finder *Finder
	Base   http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	t.Finder.Token(r.URL.String())
	for _, values := range r.Header {
		t.Finder.Token(strings.Join(values, " "))
	}
	response, err := t.Base.RoundTrip(r)
	if err != nil {
		return response, err
	}
	where := "the answer to " + r.Method + " " + r.URL.Path
	t.Finder.header(where, response.Header)
	if response.StatusCode != http.StatusSwitchingProtocols { // what comes then is no body
		response.Body = &body{response.Body, trail{finder: t.Finder, where: where}}
	}
	return response, nil
}

// CloseIdleConnections lets http.Client close those of Base.
func (t Transport) CloseIdleConnections() {
	if base, ok := t.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// header looks at an answer's header. A ticket is meant to be in the cookie that
// is made for it, and nowhere else.
func (f *Finder) header(where string, h http.Header) {
	for name, values := range h {
		for _, value := range values {
			if name == "Set-Cookie" && strings.HasPrefix(value, "tailroom_ticket=") {
				f.look(where+", "+name, []byte(value), aTicket)
				f.jwts(value, aTicket)
				continue
			}
			f.Look(where+", "+name, []byte(value))
		}
	}
}

type body struct {
	io.ReadCloser

	trail trail
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.trail.look(p[:n])
	return n, err
}

// Conn shows a Finder what is read from a connection, by one goroutine at a time.
// The tokens that are written are known from then on.
type Conn struct {
	net.Conn

	trail trail
}

// NewConn returns conn, watched.
func NewConn(f *Finder, conn net.Conn) *Conn {
	return &Conn{conn, trail{finder: f, where: "what came over a connection"}}
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.trail.look(p[:n])
	return n, err
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.trail.finder.Token(string(p))
	return c.Conn.Write(p)
}

// trail looks at what comes in pieces.
type trail struct {
	finder *Finder
	where  string
	end    []byte // of what came before: a secret may come in two
}

func (t *trail) look(piece []byte) {
	if len(piece) == 0 {
		return
	}
	text := append(t.end, piece...) //nolint:gocritic // t.end is set below
	t.finder.Look(t.where, text)
	t.end = append(t.end[:0], text[max(0, len(text)-longest):]...)
}
