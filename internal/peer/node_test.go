package peer

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/cluster"
	"github.com/tailroom/tailroom/internal/pgtest"
)

const patience = 30 * time.Second

// systemRoots is what the process trusts in place of the system's authorities. They
// are read when they are needed first.
var systemRoots = filepath.Join(os.TempDir(), fmt.Sprintf("tailroom-roots-%d.pem", os.Getpid()))

func TestMain(m *testing.M) {
	if err := os.Setenv("SSL_CERT_FILE", systemRoots); err != nil {
		panic(err)
	}
	pgtest.Main(m)
}

var keys = [][]byte{[]byte("the key that signs among all nodes")}

// visitor is where the clients of every node come from, as a proxy says.
var visitor = netip.MustParseAddr("203.0.113.9")

// node is an instance as far as it matters here: a member, a switch, and in place of
// Engine.IO what says back what it was asked.
type node struct {
	*Switch

	member   *cluster.Member
	server   *http.Server
	url      string
	registry *prometheus.Registry
	stop     func() // showing itself
	accepted atomic.Int64
	poured   atomic.Int64
	asked    chan *http.Request // what it answered by itself
	parked   chan struct{}      // a value lets one poll go
	left     chan struct{}      // has one for each client that left
	taken    chan takeover
}

// resumed is a takeover that a node has heard of.
func (n *node) resumed(sid string, before time.Time) {
	n.taken <- takeover{SID: sid, AgeMs: time.Since(before).Milliseconds()}
}

// start makes a node that is reached until the test ends.
func start(t *testing.T, pool *pgxpool.Pool, adjust ...func(*Config)) *node {
	t.Helper()
	n := bare(t, pool, adjust...)
	listener := n.listen(t)
	n.url = "http://" + listener.Addr().String()
	go func() { _ = n.server.Serve(listener) }()
	n.show(t, n.url)
	return n
}

// bare makes a node that nobody reaches.
func bare(t *testing.T, pool *pgxpool.Pool, adjust ...func(*Config)) *node {
	t.Helper()
	n := &node{
		registry: prometheus.NewRegistry(), asked: make(chan *http.Request, 100), parked: make(chan struct{}), left: make(chan struct{}, 100), taken: make(chan takeover, 5000),
	}
	member, err := cluster.Join(t.Context(), pool, uuid.NewString(), n.registry)
	require.NoError(t, err)
	n.member = member
	config := Config{
		Self: n.member.Incarnation(), Keys: keys, Peers: n.member, Owner: owner,
		Client: func(*http.Request) netip.Addr { return visitor },
		Dial:   (&net.Dialer{Timeout: time.Second}).DialContext, Patience: patience, WriteTimeout: time.Second, Metrics: n.registry,
	}
	for _, change := range adjust {
		change(&config)
	}
	n.Switch = New(config)
	here := n.Handler(http.HandlerFunc(n.engine), n.resumed)
	n.server = &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin") // as something before it may
		here.ServeHTTP(w, r)
	})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		ctx, cut := context.WithTimeout(context.Background(), time.Second)
		defer cut()
		n.Close(ctx)
		_ = n.server.Close()
	})
	return n
}

// show shows the node to the others until the test ends, or stop is called.
func (n *node) show(t *testing.T, address string) {
	t.Helper()
	require.NoError(t, n.member.Advertise(t.Context(), address))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = n.member.Run(ctx)
	}()
	n.stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(n.stop)
}

func (n *node) listen(t *testing.T) net.Listener {
	t.Helper()
	var lc net.ListenConfig
	listener, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return &counting{listener, &n.accepted}
}

type counting struct {
	net.Listener
	accepted *atomic.Int64
}

func (c *counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return conn, err
}

// engine stands for Engine.IO: a WebSocket that says everything back, or pours, a POST that says
// its body back, and a poll that waits.
func (n *node) engine(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Vary", "Origin")
	w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	if owner, named := owner(r.URL.Query().Get("sid")); named && owner != n.member.Incarnation() {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"code":1,"message":"Session ID unknown"}`)
		return
	}
	n.asked <- r
	switch {
	case r.Header.Get("Upgrade") != "":
		n.echo(w, r)
	case r.Method == http.MethodPost:
		w.Header().Set("Content-Type", "text/html")
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	case r.URL.Query().Has("now"):
		_, _ = io.WriteString(w, "now")
	default:
		if r.URL.Query().Has("begin") {
			_, _ = io.WriteString(w, "begin ")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-n.parked:
			w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
			_, _ = io.WriteString(w, "4hello")
		case <-r.Context().Done():
			n.left <- struct{}{}
		}
	}
}

func (n *node) echo(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	ws.SetReadLimit(1 << 20)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	n.server.RegisterOnShutdown(end)
	for {
		kind, data, err := websocket.MessageBinary, make([]byte, 64<<10), error(nil)
		if r.URL.Query().Has("pour") {
			n.poured.Add(1)
		} else {
			kind, data, err = ws.Read(ctx)
		}
		if err == nil {
			err = ws.Write(ctx, kind, data)
		}
		if err != nil {
			_ = ws.CloseNow()
			n.left <- struct{}{}
			return
		}
	}
}

// kill ends a node as SIGKILL does: whatever is open breaks, and nobody is told.
func (n *node) kill(t *testing.T) {
	t.Helper()
	n.stop()
	go func() { // sockets, which the server does not know any more
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = n.server.Shutdown(ctx)
	}()
	require.NoError(t, n.server.Close())
}

// sid is the id of a session of the node.
func (n *node) sid() string { return sidOf(n.member.Incarnation()) }

func sidOf(owner uuid.UUID) string {
	return base64.RawURLEncoding.EncodeToString(owner[:]) + ".AAAAAAAAAAAAAAAAAAAAAA"
}

func owner(sid string) (uuid.UUID, bool) {
	first, _, ok := strings.Cut(sid, ".")
	b, err := base64.RawURLEncoding.DecodeString(first)
	id, failed := uuid.FromBytes(b)
	return id, ok && errors.Join(err, failed) == nil
}

// address is where a request for a session goes at this node.
func (n *node) address(sid, more string) string {
	return n.url + "/socket.io/?EIO=4&transport=polling&sid=" + sid + more
}

// reply is an answer that was read to its end.
type reply struct {
	*http.Response

	body string
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func do(t *testing.T, method, address, body string, header ...string) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer func() { _ = answer.Body.Close() }()
	got, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return reply{answer, string(got)}
}

// later does it in the background.
func later(t *testing.T, method, address, body string) <-chan reply {
	t.Helper()
	done := make(chan reply, 1)
	go func() {
		defer close(done)
		done <- do(t, method, address, body)
	}()
	return done
}

func requireUnknown(t *testing.T, got reply) {
	t.Helper()
	require.Equal(t, http.StatusBadRequest, got.StatusCode)
	require.Equal(t, `{"code":1,"message":"Session ID unknown"}`, got.body)
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
}

func receive[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		require.Fail(t, "nothing came")
		panic("unreachable")
	}
}

// sent and received are figures of the node.
func (n *node) sent(outcome string) int { return n.figure("tailroom_peer_passed_total", outcome) }

func (n *node) received(outcome string) int { return n.figure("tailroom_peer_received_total", outcome) }

func (n *node) figure(name, outcome string) int {
	families, err := n.registry.Gather()
	if err != nil {
		panic(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == outcome {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	panic("no figure " + name + " of " + outcome)
}
