package limit

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// dialTimeout is how long another instance may take to accept a connection.
const dialTimeout = 2 * time.Second

var errFull = errors.New("this instance has as many connections as it may have")

// Dial connects to another instance. That is an open file, too: it counts as a
// client's connection does, and there is none when there are as many as there may be.
func (l *Listener) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if l.open.Add(1) > l.most {
		l.open.Add(-1)
		l.limits.Hit(Connections)
		return nil, errFull
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		l.open.Add(-1)
		return nil, err
	}
	return &outgoing{Conn: conn, listener: l}, nil
}

// outgoing is a connection that Dial has made.
type outgoing struct {
	net.Conn
	listener *Listener
	closed   sync.Once
}

// Close counts the connection out.
func (c *outgoing) Close() error {
	c.closed.Do(func() { c.listener.open.Add(-1) })
	return c.Conn.Close()
}
