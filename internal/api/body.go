package api

import (
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

// bounded gives every request so much time for its body, whether anybody reads
// it or not: net/http reads what a handler left. So much time the client has for each
// piece of the answer, too. A connection that is one too many is closed after its
// request, and so is one of many, unless others share it (HTTP/2).
func (a *api) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit.Over(r) || r.ProtoMajor == 1 && limit.Crowded(r) {
			w.Header().Set("Connection", "close")
		}
		out := &writer{ResponseWriter: w, conn: http.NewResponseController(w), within: a.WriteTime, multiplexed: r.ProtoMajor > 1}
		out.rest() // from the deadline that the server has set
		if r.Body != http.NoBody {
			b := &body{ReadCloser: r.Body, conn: out.conn, within: a.BodyTime}
			b.expect()
			bounded := *r // the server asks its own about a body that is left
			bounded.Body = b
			r = &bounded
		}
		next.ServeHTTP(out, r)
		if !out.hijacked {
			_ = out.begin()
		}
	})
}

// expectMore gives what comes next of a request's body its time anew.
func expectMore(r *http.Request) {
	if b, ok := r.Body.(*body); ok {
		b.expect()
	}
}

// body has a deadline until it has come to its end. From there on the server
// reads, without one, to see whether the client is still there.
type body struct {
	io.ReadCloser
	conn   *http.ResponseController
	within time.Duration
	ended  bool
}

func (b *body) expect() {
	if !b.ended {
		// Where the connection knows no deadlines, the client's patience ends it.
		_ = b.conn.SetReadDeadline(time.Now().Add(b.within))
	}
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.ended = b.ended || errors.Is(err, io.EOF)
	return n, err
}

// broken says why a body did not come to its end.
func (a *api) broken(err error) *problem.Error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		a.Limits.Hit(limit.BodyTimeout)
		return problem.New(problem.RequestTimeout, "the body, or a line of it, did not come in time")
	}
	return problem.New(problem.InvalidJSON, "the body ended early")
}

// plain refuses a body that is compressed: how large it is could only be told by
// inflating it.
func plain(r *http.Request) error {
	coding := r.Header.Get("Content-Encoding")
	if coding == "" || strings.EqualFold(coding, "identity") {
		return nil
	}
	return problem.New(problem.UnsupportedMedia, "bodies are taken as they are, not compressed: send no Content-Encoding").
		With("allowed", []string{"identity"})
}
