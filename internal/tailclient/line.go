package tailclient

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// line is the connection under a WebSocket. The server sends something every
// heartbeat, a ping if nothing else, so once the heartbeat is known a read that
// waits for much longer fails. Only reads count: a caller who is busy does not
// make the line look dead.
type line struct {
	net.Conn
	patience atomic.Int64 // a time.Duration; 0 is for ever
}

func (l *line) Read(p []byte) (int, error) {
	if patience := time.Duration(l.patience.Load()); patience > 0 {
		if err := l.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return 0, err
		}
	}
	return l.Conn.Read(p)
}

// newClient returns an HTTP client for one connection, and that connection
// once it is dialled.
func newClient() (*http.Client, *atomic.Pointer[line]) {
	dialled := new(atomic.Pointer[line])
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			l := &line{Conn: conn}
			dialled.Store(l)
			return l, nil
		},
	}
	return &http.Client{Transport: transport}, dialled
}
