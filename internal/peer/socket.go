package peer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

// socketBuffer is for each direction of a WebSocket, in bytes: most messages are
// small, and there may be thousands of sockets.
const socketBuffer = 4 << 10

// errOver ends both directions of a WebSocket when one has come to its end: it has no
// use for the other.
var errOver = errors.New("the WebSocket is over")

// answer is the ResponseWriter of a request that is passed on.
type answer struct {
	http.ResponseWriter
	passing *passing
	timeout time.Duration
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack makes answer an http.Hijacker, for WebSockets.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Reader.Peek(rw.Reader.Buffered())
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	if err := conn.SetDeadline(time.Time{}); err != nil { // the server's own are over
		return nil, nil, errors.Join(err, conn.Close())
	}
	a.passing.socket.Store(true)
	context.AfterFunc(a.passing.life, func() { cut(conn) }) // who takes nothing would keep it open
	return &socket{Conn: conn, early: bytes.Clone(early), timeout: a.timeout}, rw, nil
}

// cut closes a connection without the goodbye of TLS, for which a client that takes
// nothing would be waited.
func cut(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	_ = conn.Close()
}

// socket is the client's side of a WebSocket that is passed on.
type socket struct {
	net.Conn
	early   []byte // what the client sent before the answer
	timeout time.Duration
}

// ReadFrom sends the client what the owner sends. A client that takes nothing would
// keep it for ever: the owner finds out only about its own side.
func (s *socket) ReadFrom(owner io.Reader) (int64, error) {
	return pump(owner, func(p []byte) (int, error) {
		if err := s.SetWriteDeadline(time.Now().Add(s.timeout)); err != nil {
			return 0, err
		}
		return s.Write(p)
	})
}

// WriteTo sends the owner what the client sends.
func (s *socket) WriteTo(owner io.Writer) (int64, error) {
	if _, err := owner.Write(s.early); err != nil {
		return 0, err
	}
	return pump(s.Conn, owner.Write)
}

// pump copies until an end, which is an error too.
func pump(from io.Reader, write func([]byte) (int, error)) (copied int64, err error) {
	buffer := make([]byte, socketBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			written, failed := write(buffer[:n])
			if copied += int64(written); failed != nil {
				return copied, failed
			}
		}
		if err != nil {
			return copied, errors.Join(errOver, err)
		}
	}
}
