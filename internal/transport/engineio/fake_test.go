package engineio

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// server is a Server that can be asked.
type server struct {
	*Server
	url   string
	talks chan *talk
}

// talk is a Handler that sends every text back, and does what some texts ask for.
type talk struct {
	conn *Conn
	said chan string // what the handler is told
	held chan struct{}
}

func (k *talk) Message(m Message) error {
	text := string(m.Data)
	if m.Binary {
		k.said <- "binary " + text
		return nil
	}
	k.said <- "message " + text
	switch text {
	case "fail":
		return errors.New("no such message")
	case "overload":
		return session.Overloaded
	case "hold":
		<-k.held
		return nil
	}
	_ = k.conn.Send(m.Data)
	return nil
}

func (k *talk) Pinged()              { k.said <- "pinged" }
func (k *talk) Upgraded()            { k.said <- "upgraded" }
func (k *talk) Ponged()              { k.said <- "ponged" }
func (k *talk) Closed(reason string) { k.said <- "closed " + reason; close(k.said) }

// hears reads what the handler is told next.
func (k *talk) hears(t testing.TB, want ...string) {
	t.Helper()
	for _, want := range want {
		select {
		case got := <-k.said:
			require.Equal(t, want, got)
		case <-time.After(patience):
			require.FailNow(t, "the handler was not told", want)
		}
	}
}

// serve begins a server of which some is changed.
func serve(t testing.TB, change ...func(*Config)) *server {
	t.Helper()
	s := &server{talks: make(chan *talk, 10_000)}
	c := Config{
		Owner: uuid.New(),
		Admit: func(*http.Request) (limit.Seat, error) { return nil, nil },
		Accept: func(c *Conn) Handler {
			k := &talk{conn: c, said: make(chan string, 5000), held: make(chan struct{})}
			s.talks <- k
			return k
		},
		Passed:       func(r *http.Request) bool { return r.Header.Get("Passed") != "" },
		Client:       func(*http.Request) netip.Addr { return netip.MustParseAddr("192.0.2.1") },
		PingInterval: time.Minute, PingTimeout: time.Minute, WriteTimeout: patience, BodyTimeout: patience,
		MaxPayload: 1_000_000, MaxConns: 1000, Metrics: prometheus.NewRegistry(),
	}
	origins, err := access.ParseOrigins("https://app.example,null,file://,capacitor://localhost")
	require.NoError(t, err)
	c.Origins = origins
	c.Limits = limit.New(limit.Config{Metrics: c.Metrics})
	for _, change := range change {
		change(&c)
	}
	s.Server = New(c)
	h := httptest.NewServer(s.Server)
	s.url = h.URL + "/socket.io/?EIO=4"
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Close(ctx)
		h.Client().CloseIdleConnections()
		http.DefaultClient.CloseIdleConnections()
		h.Close()
	})
	return s
}

// quick has heartbeats that a test can wait for, and time to answer them.
func quick(c *Config) { c.PingInterval, c.PingTimeout = 300*time.Millisecond, 5*time.Second }

// response is an answer that has come whole, or the error that came instead.
type response struct {
	*http.Response
	status int
	body   string
	err    error
}

// ask makes a request. The headers come in pairs.
func ask(t testing.TB, method, url, body string, headers ...string) response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for n := 0; n+1 < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	return do(r)
}

func do(r *http.Request) response {
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		return response{err: err}
	}
	defer got.Body.Close()
	if got.StatusCode == http.StatusSwitchingProtocols {
		return response{Response: got, status: got.StatusCode}
	}
	b, err := io.ReadAll(got.Body)
	return response{Response: got, status: got.StatusCode, body: string(b), err: err}
}

// client is one that polls.
type client struct {
	*server
	sid string
	*talk
}

// poller begins a connection.
func (s *server) poller(t testing.TB) *client {
	t.Helper()
	got := ask(t, http.MethodGet, s.url+"&transport=polling", "")
	require.NoError(t, got.err)
	require.Equal(t, 200, got.status, got.body)
	return &client{server: s, sid: opening(t, got.body).SID, talk: <-s.talks}
}

type open struct {
	SID                                   string
	Upgrades                              []string
	PingInterval, PingTimeout, MaxPayload int
}

func opening(t testing.TB, packet string) (o open) {
	t.Helper()
	require.Equal(t, "0", packet[:1], packet)
	decoder := json.NewDecoder(strings.NewReader(packet[1:]))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&o))
	return o
}

func (c *client) url() string { return c.server.url + "&transport=polling&sid=" + c.sid }

func (c *client) get(t testing.TB) response { t.Helper(); return ask(t, http.MethodGet, c.url(), "") }

func (c *client) post(t testing.TB, body string, headers ...string) response {
	t.Helper()
	return ask(t, http.MethodPost, c.url(), body, headers...)
}

// polls has a GET wait, and returns where its answer comes.
func (c *client) polls(t testing.TB) <-chan response {
	t.Helper()
	got := make(chan response, 1)
	go func() { got <- c.get(t) }()
	c.parks(t)
	return got
}

// parks waits until a GET waits.
func (c *client) parks(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.conn.mu.Lock()
		defer c.conn.mu.Unlock()
		return c.conn.parked != nil
	}, patience, time.Millisecond)
}

// gone checks that nobody knows the session id.
func (c *client) gone(t testing.TB) {
	t.Helper()
	got := c.get(t)
	require.Equal(t, 400, got.status)
	require.Equal(t, `{"code":1,"message":"Session ID unknown"}`, got.body)
}

func answered(t testing.TB, got <-chan response) response {
	t.Helper()
	select {
	case r := <-got:
		require.NoError(t, r.err)
		return r
	case <-time.After(patience):
		require.FailNow(t, "a request was not answered")
		return response{}
	}
}

func says(t testing.TB, r response, body string) {
	t.Helper()
	require.NoError(t, r.err)
	require.Equal(t, 200, r.status, r.body)
	require.Equal(t, body, r.body)
}

// socket is a client's WebSocket.
type clientSocket struct{ *websocket.Conn }

func dial(t testing.TB, url string) clientSocket {
	t.Helper()
	c, _, err := websocket.Dial(t.Context(), strings.Replace(url, "http", "ws", 1), nil)
	require.NoError(t, err)
	c.SetReadLimit(-1)
	t.Cleanup(func() { _ = c.CloseNow() })
	return clientSocket{c}
}

// socket begins a connection with a WebSocket.
func (s *server) socket(t testing.TB) (clientSocket, *talk) {
	t.Helper()
	c := dial(t, s.url+"&transport=websocket")
	opening(t, c.next(t))
	return c, <-s.talks
}

func (c clientSocket) next(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	kind, b, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, websocket.MessageText, kind)
	return string(b)
}

func (c clientSocket) send(t testing.TB, text string) {
	t.Helper()
	require.NoError(t, c.Write(t.Context(), websocket.MessageText, []byte(text)))
}

// closes reads up to the server's close.
func (c clientSocket) closes(t testing.TB) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			require.NoError(t, ctx.Err(), "it was not closed")
			return err
		}
	}
}

// probe begins an upgrade up to the answer to the probe.
func (c *client) probes(t testing.TB) clientSocket {
	t.Helper()
	k := dial(t, c.server.url+"&transport=websocket&sid="+c.sid)
	k.send(t, "2probe")
	require.Equal(t, "3probe", k.next(t))
	return k
}

// isUpgraded waits until the WebSocket has taken over.
func (c *client) isUpgraded(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.conn.mu.Lock()
		defer c.conn.mu.Unlock()
		return c.conn.phase == upgraded
	}, patience, time.Millisecond)
}

// metric is a figure of the server's, by its name and label.
func (s *server) metric(t testing.TB, name, label string) int {
	t.Helper()
	families, err := s.Metrics.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "tailroom_engineio_"+name && m.GetLabel()[0].GetValue() == label {
				return int(m.GetCounter().GetValue() + m.GetGauge().GetValue())
			}
		}
	}
	require.FailNow(t, "no such metric", "%s %s", name, label)
	return 0
}
