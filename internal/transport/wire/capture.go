package wire

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"
)

// The library reads headers and writes control frames through these; its data
// frames do not exist. Small, because there is one of each for every socket.
const (
	readBuffer  = 256
	writeBuffer = 256 // a control frame has at most 127 bytes
)

// Capture is the ResponseWriter that the library upgrades: its Hijack leaves
// the connection with us as well.
type Capture struct {
	http.ResponseWriter
	WriteTimeout time.Duration             // for a peer to take a byte; over TLS, 16 KiB
	BodyTimeout  time.Duration             // for a message, from its first frame's header on
	Refuse       func(http.ResponseWriter) // answers a request that is no handshake
	Line         *Line                     // once it is upgraded
}

// WriteHeader refuses a request where the library does it in plain text.
func (c *Capture) WriteHeader(status int) {
	if status < http.StatusBadRequest {
		c.ResponseWriter.WriteHeader(status)
		return
	}
	c.Refuse(c.ResponseWriter)
}

// Write drops the library's own text, all that it writes before the hijack.
func (c *Capture) Write(p []byte) (int, error) { return len(p), nil }

// Hijack makes Capture an http.Hijacker.
func (c *Capture) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(c.ResponseWriter).Hijack()
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
	_, secure := conn.(*tls.Conn)
	c.Line = &Line{
		Conn: conn, early: bytes.NewReader(bytes.Clone(early)), timeout: c.WriteTimeout, patience: c.BodyTimeout, secure: secure,
	}
	return c.Line, bufio.NewReadWriter(bufio.NewReaderSize(c.Line, readBuffer), bufio.NewWriterSize(c.Line, writeBuffer)), nil
}
