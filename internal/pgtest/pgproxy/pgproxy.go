// Package pgproxy stands between a test and its Postgres and makes trouble: it
// loses notifications, cuts connections, stops forwarding as a half-open link
// does, and adds latency.
//
// It understands as much of Postgres's protocol as that needs: whatever the
// server sends is a type byte and a length, then that many bytes. Clients must
// not ask for TLS; the proxy's own address tells them so.
package pgproxy

import (
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// Proxy forwards connections to one Postgres. Its methods may be called at any
// time, concurrently; what they change holds for open connections too.
type Proxy struct {
	listener net.Listener
	links    sync.WaitGroup

	mu      sync.Mutex
	target  *pgconn.Config
	open    map[*link]struct{}
	closed  bool
	swallow bool
	refuse  bool
	passing chan struct{} // closed while bytes may pass
	delay   time.Duration
}

// Start starts a proxy for the database of a DSN. It ends with the test.
func Start(t testing.TB, targetDSN string) *Proxy {
	t.Helper()
	target, err := pgconn.ParseConfig(targetDSN)
	require.NoError(t, err)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)

	p := &Proxy{target: target, listener: listener, open: map[*link]struct{}{}, passing: make(chan struct{})}
	close(p.passing)
	p.links.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// DSN is the target's address by way of the proxy.
func (p *Proxy) DSN() string {
	target := p.currentTarget()
	query := url.Values{"sslmode": {"disable"}}
	for name, value := range target.RuntimeParams {
		query.Set(name, value)
	}
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(target.User, target.Password),
		Host:     p.listener.Addr().String(),
		Path:     "/" + target.Database,
		RawQuery: query.Encode(),
	}
	return u.String()
}

// Redirect sends new connections to another server, which must have a database
// and a user of the same names.
func (p *Proxy) Redirect(t testing.TB, targetDSN string) {
	t.Helper()
	target, err := pgconn.ParseConfig(targetDSN)
	require.NoError(t, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Equal(t, p.target.Database, target.Database)
	p.target = target
}

// SwallowNotifications loses what NOTIFY sends, or stops losing it.
func (p *Proxy) SwallowNotifications(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = on
}

// Cut closes all connections. New ones are welcome.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.open {
		l.cut()
	}
}

// Reset breaks all connections off: what is on its way to a client is lost, which
// arrives before the end when a connection is cut. New ones are welcome.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.open {
		if client, ok := l.client.(*net.TCPConn); ok {
			_ = client.SetLinger(0) // so that closing it sends a reset
		}
		l.cut()
	}
}

// Refuse closes all connections and every new one at once, as when there is no
// server, or stops doing so.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	p.refuse = on
	p.mu.Unlock()
	if on {
		p.Cut()
	}
}

// Blackhole stops forwarding in both directions without closing anything; new
// connections are accepted and hear nothing. Switched off, it delivers what had
// been sent meanwhile, as TCP does when a link comes back.
func (p *Proxy) Blackhole(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.passing:
		if on {
			p.passing = make(chan struct{})
		}
	default:
		if !on {
			close(p.passing)
		}
	}
}

// Delay makes every burst of bytes from the server wait that long; zero ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *Proxy) currentTarget() *pgconn.Config {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

func (p *Proxy) swallows() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swallow
}

func (p *Proxy) passage() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.passing
}

func (p *Proxy) currentDelay() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.links.Go(func() { p.serve(client) })
	}
}

// serve forwards one connection until either side ends it.
func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	target := p.currentTarget()
	network, address := pgconn.NetworkAddress(target.Host, target.Port)
	server, err := new(net.Dialer).DialContext(context.Background(), network, address)
	if err != nil {
		return // as Postgres would look to the client: gone
	}
	l := &link{proxy: p, client: client, server: server, ended: make(chan struct{})}
	defer p.remove(l)
	if !p.add(l) {
		l.cut()
		return
	}
	l.run()
}

func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[l] = struct{}{}
	return !p.closed && !p.refuse
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, l)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.listener.Close()
	p.Cut()
	p.links.Wait()
}
