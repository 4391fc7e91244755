package limit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// spare is how many connections over the limit are heard, so that they can
	// be told. What comes beyond them is closed at once.
	spare = 64
	// otherFiles is what a process has open besides connections: its database's,
	// which come on top, the listener, and whatever reads a file now and then.
	otherFiles = 100
	// mostConnections is the largest limit that is ever worked out.
	mostConnections = 1_000_000
)

// MaxConnections is how many connections the process can have by its limit of
// open files, when so many go to the database.
func MaxConnections(database int) (int, error) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return 0, fmt.Errorf("the limit of open files: %w", err)
	}
	most := int(min(files.Cur, math.MaxInt32)) - otherFiles - spare - database
	return min(max(most, spare), mostConnections), nil
}

// Listener counts the connections that are open. From three quarters of the limit
// on, each that comes ends one that waits for a request, and no address gets more
// than half of what the others leave: who says nothing keeps nobody out, and nobody
// takes all.
type Listener struct {
	*net.TCPListener
	limits *Limits
	most   int64
	proxy  func(netip.Addr) bool
	open   atomic.Int64
	peers  peers
}

// Listen counts the connections of a listener, of which there may be so many. Those
// of a proxy are many clients', not one address's.
func (l *Limits) Listen(listener *net.TCPListener, most int, proxy func(netip.Addr) bool) *Listener {
	counted := &Listener{
		TCPListener: listener, limits: l, most: int64(most), proxy: proxy, peers: peers{known: map[netip.Addr]*peer{}},
	}
	f := promauto.With(l.config.Metrics)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailroom_open_connections", Help: "Network connections that are open, of clients and to other instances, whatever they do.",
	}, func() float64 { return float64(counted.open.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailroom_open_connections_limit", Help: "How many there may be.",
	}, func() float64 { return float64(most) })
	return counted
}

// Accept makes Listener a net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		tcp, err := l.AcceptTCP()
		if err != nil {
			return nil, err
		}
		if c := l.admit(tcp); c != nil {
			return c, nil
		}
	}
}

// admit counts a connection in, or closes it.
func (l *Listener) admit(tcp *net.TCPConn) *Conn {
	c := &Conn{TCPConn: tcp, listener: l}
	address := tcp.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("") //nolint:forcetypeassert // of a TCPConn
	l.peers.enter(c, network(address), l.proxy(address))
	if open := l.open.Add(1); l.crowded() {
		if victim := l.peers.victim(c, l.most+spare-open); victim != nil {
			l.limits.Hit(Connections)
			_ = victim.Close()
			if victim == c {
				return nil
			}
		}
	}
	open := l.open.Load()
	if c.over = open > l.most; c.over {
		l.limits.Hit(Connections)
	}
	if open > l.most+spare {
		_ = c.Close()
		return nil
	}
	l.peers.wait(c, true)
	return c
}

// crowded reports whether more than three quarters are taken.
func (l *Listener) crowded() bool { return 4*l.open.Load() > 3*l.most }

// What a connection does at present, as far as its headers are concerned.
const (
	inHeader int32 = iota // a header is awaited, or has begun
	inRequest
	idle // between two requests
)

// Conn is an accepted connection.
type Conn struct {
	*net.TCPConn
	listener *Listener
	over     bool // it came when there were too many
	phase    atomic.Int32
	place    place
}

// Read reads, and counts the header that did not come in time.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	switch {
	case n > 0:
		if c.phase.CompareAndSwap(idle, inHeader) {
			c.listener.peers.again(c)
		}
	case errors.Is(err, os.ErrDeadlineExceeded) && c.phase.CompareAndSwap(inHeader, inRequest): // once, however often it is asked
		c.listener.limits.Hit(HeaderTimeout)
	}
	return n, err
}

// Close counts the connection out.
func (c *Conn) Close() error {
	if c.listener.peers.leave(c) {
		c.listener.open.Add(-1)
	}
	return c.TCPConn.Close()
}

// ConnState is for http.Server: it tells where a connection's headers end.
func (l *Limits) ConnState(conn net.Conn, state http.ConnState) {
	c := counted(conn)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive, http.StateHijacked:
		c.phase.Store(inRequest)
		c.listener.peers.busy(c)
	case http.StateIdle:
		c.phase.Store(idle)
		c.listener.peers.wait(c, false)
	case http.StateNew, http.StateClosed:
	}
}

type connKey struct{}

// ConnContext is for http.Server: it tells requests which connection they came by.
func (l *Limits) ConnContext(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, counted(conn))
}

// Over reports whether a request came by a connection that is one too many.
func Over(r *http.Request) bool {
	c := connOf(r)
	return c != nil && c.over
}

// Crowded reports whether there are so many connections that a request's should not
// be kept for another one.
func Crowded(r *http.Request) bool {
	c := connOf(r)
	return c != nil && c.listener.crowded()
}

func connOf(r *http.Request) *Conn {
	c, _ := r.Context().Value(connKey{}).(*Conn)
	return c
}

// counted is the connection below whatever a server has laid over it, or nil.
func counted(conn net.Conn) *Conn {
	if tls, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = tls.NetConn()
	}
	if c, ok := conn.(*Conn); ok {
		return c
	}
	return nil
}
