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
// it or not: net/http reads what a handler left. A connection that is one too many
// is closed after its request.
func (a *api) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if limit.Over(r) {
			w.Header().Set("Connection", "close")
		}
		if r.Body != http.NoBody {
			a.expect(w)
			r.Body = &body{ReadCloser: r.Body, to: w}
		}
		next.ServeHTTP(w, r)
	})
}

// expect bounds the wait for a body, or for the next line of it.
func (a *api) expect(w http.ResponseWriter) {
	// Where the connection knows no deadlines, the client's patience ends it.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(a.BodyTime))
}

// body takes the deadline away when it has come to its end: the server goes on
// reading, to see whether the client is still there.
type body struct {
	io.ReadCloser
	to http.ResponseWriter
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = http.NewResponseController(b.to).SetReadDeadline(time.Time{})
	}
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
