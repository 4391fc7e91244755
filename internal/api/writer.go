package api

import (
	"bufio"
	"net"
	"net/http"
	"sync"
	"time"
)

// writeSlice is how much is written under one deadline, in bytes: TLS and HTTP/2
// cannot go on where one that passed has left them.
const writeSlice = 16 << 10

// writer gives the client so much time for each slice of an answer, and for what the
// server still holds of it when the handler is done. Between writes there is no
// deadline but a handler's own, which no write outlives: over HTTP/2 one that passes
// ends the stream, also when nothing is being written.
type writer struct {
	http.ResponseWriter
	conn        *http.ResponseController // of that
	within      time.Duration
	multiplexed bool // HTTP/2
	hijacked    bool

	mu      sync.Mutex
	writing bool
	last    time.Time // the handler's own deadline
}

// Unwrap is for http.ResponseController.
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *writer) Write(p []byte) (written int, err error) {
	for {
		if err := w.begin(); err != nil {
			return written, err
		}
		n, err := w.ResponseWriter.Write(p[written:min(len(p), written+writeSlice)])
		if written += n; err != nil || written == len(p) {
			w.rest()
			return written, err
		}
	}
}

// FlushError is what http.ResponseController calls.
func (w *writer) FlushError() error {
	if err := w.begin(); err != nil {
		return err
	}
	defer w.rest()
	return w.conn.Flush()
}

// Flush makes writer an http.Flusher.
func (w *writer) Flush() { _ = w.FlushError() }

// Hijack makes writer an http.Hijacker: the connection's deadlines are not ours any more.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := w.conn.Hijack()
	w.hijacked = w.hijacked || err == nil
	return conn, rw, err
}

// SetWriteDeadline sets the handler's own deadline. Any goroutine may call it before
// the handler returns.
func (w *writer) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = t
	return w.set()
}

// begin is called before a write, and when the handler is done.
func (w *writer) begin() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = true
	return w.set()
}

func (w *writer) rest() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = false
	if w.multiplexed {
		_ = w.set() // a stream that has ended fails the next write
	}
}

// set is for who holds mu.
func (w *writer) set() error {
	deadline := w.last
	if soon := time.Now().Add(w.within); w.writing && (deadline.IsZero() || soon.Before(deadline)) {
		deadline = soon
	}
	return w.conn.SetWriteDeadline(deadline)
}
