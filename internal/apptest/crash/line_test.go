package crash_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/tailroom/tailroom/internal/apptest"
)

// What runs beside a round returns errors: only the test's own goroutine may fail
// it. A connection that breaks is no error here.

// errWrong is wrapped by what a server must never say or do.
var errWrong = errors.New("against the protocol")

// client keeps no connections: each request may go to another instance.
var client = newClient(0)

// newClient returns a client whose connections break when nothing is heard for a
// time; 0 is never.
func newClient(silence time.Duration) *http.Client {
	return &http.Client{Transport: apptest.Watch(&http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
			if err != nil || silence == 0 {
				return conn, err
			}
			return &line{conn, silence}, nil
		},
	})}
}

// line is a connection that breaks when nothing is heard.
type line struct {
	net.Conn

	silence time.Duration
}

func (l *line) Read(b []byte) (int, error) {
	if err := l.SetReadDeadline(time.Now().Add(l.silence)); err != nil {
		return 0, err
	}
	return l.Conn.Read(b)
}
