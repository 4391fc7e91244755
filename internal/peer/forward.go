package peer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/cluster"
)

const (
	// handshakeTimeout is how long a peer may take for TLS.
	handshakeTimeout = 5 * time.Second
	// idleTimeout is how long a connection to a peer waits for another request. The
	// peer waits for longer, so that it is not closed while one is on its way.
	idleTimeout = time.Minute
	idleConns   = 64 // of them for each peer
	// maxHeader is the size of an answer's header, in bytes.
	maxHeader = 64 << 10
	// copyBuffer is the size of what is copied at once, in bytes.
	copyBuffer = 16 << 10
	// warnPause is between two warnings.
	warnPause = 10 * time.Second
)

// What ends a request that is passed on, besides the client, its answer and the network.
var (
	errGone   = errors.New("the instance has not been seen for a while")
	errClosed = errors.New("this instance is going away")
	errNobody = errors.New("what answers there is no instance of this version")
)

// passing is a request that is passed on.
type passing struct {
	peer   *cluster.Peer
	client context.Context //nolint:containedctx // of the client's request
	life   context.Context //nolint:containedctx // of that which is passed on
	answer http.Header     // what stands in the answer already
	end    context.CancelCauseFunc
	socket atomic.Bool // it has become a WebSocket
	told   string      // what became of it, for the metrics

	unanswered func() // answers the client in the owner's place
}

type passingKey struct{}

func passingOf(r *http.Request) *passing {
	return r.Context().Value(passingKey{}).(*passing) //nolint:forcetypeassert // forward has put it there
}

// newTransport connects to peers by HTTP/1.1, which WebSockets need. A certificate is
// verified with what the system trusts.
func (s *Switch) newTransport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: s.config.Dial, Protocols: protocols, TLSHandshakeTimeout: handshakeTimeout,
		ResponseHeaderTimeout: s.config.Patience, IdleConnTimeout: idleTimeout, MaxIdleConnsPerHost: idleConns,
		MaxResponseHeaderBytes: maxHeader, DisableCompression: true, // answers go on as they are
	}
}

func (s *Switch) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport: s.transport, FlushInterval: -1, BufferPool: &buffers{},
		Rewrite: s.address, ModifyResponse: s.accept, ErrorHandler: s.fail,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
}

// forward passes a request on to the owner of its session. When he does not answer, next does.
func (s *Switch) forward(w http.ResponseWriter, r *http.Request, owner uuid.UUID, next http.Handler) {
	peer := s.config.Peers.Peer(r.Context(), owner)
	if peer == nil {
		s.metrics.sent.WithLabelValues(sentUnknown).Inc()
		next.ServeHTTP(w, r)
		return
	}
	ctx, end := context.WithCancelCause(r.Context())
	defer end(nil)
	defer peer.OnGone(func() { end(errGone) })()
	p := &passing{
		peer: peer, client: r.Context(), life: ctx, answer: w.Header(), end: end, told: sentAnswered,
		unanswered: func() { next.ServeHTTP(w, r) },
	}
	defer s.enter(p)()
	defer func() { s.metrics.sent.WithLabelValues(p.told).Inc() }()
	out := &answer{ResponseWriter: w, passing: p, timeout: s.config.WriteTimeout}
	s.proxy.ServeHTTP(out, r.WithContext(context.WithValue(ctx, passingKey{}, p)))
}

// address makes the request that is sent of the one that came. Host stays the
// client's, by which the owner judges origins; headers with which proxies speak of
// the client are left out, since the voucher says where it is.
func (s *Switch) address(r *httputil.ProxyRequest) {
	p := passingOf(r.In)
	r.SetURL(p.peer.URL)
	r.Out.Host = r.In.Host
	mine := newVoucher(s.config.Self, p.peer.Incarnation)
	mine.client = s.config.Client(r.In)
	r.Out.Header.Set(header, mine.sign(s.config.Keys[0], r.Out.Method, r.Out.URL.RequestURI()))
}

// accept is called with the answer: it must be of the instance that was meant. What it
// says stands in place of what was said here.
func (s *Switch) accept(r *http.Response) error {
	if err := verdict(r.Header.Get(header)); err != nil {
		return err
	}
	r.Header.Del(header)
	here := passingOf(r.Request).answer
	for name := range r.Header {
		here.Del(name)
	}
	return nil
}

// fail answers a request that could not be passed on, or had no answer.
func (s *Switch) fail(_ http.ResponseWriter, r *http.Request, err error) {
	p := passingOf(r)
	if p.client.Err() != nil {
		p.told = sentLeft
		return
	}
	p.told = sentFailed
	if _, refused := errors.AsType[refusal](err); refused {
		p.told = sentRefused
	}
	if cause := context.Cause(r.Context()); cause != nil {
		err = cause
	}
	s.warn(r.Context(), p.peer, err)
	p.unanswered()
}

// warn tells an operator, now and then, of what may be his to mend.
func (s *Switch) warn(ctx context.Context, peer *cluster.Peer, err error) {
	now, last := time.Now().Unix(), s.warned.Load()
	if errors.Is(err, errClosed) || now-last < int64(warnPause/time.Second) || !s.warned.CompareAndSwap(last, now) {
		return
	}
	slog.WarnContext(ctx, "a request could not be passed on to the instance that has its session; if that one runs, it must advertise "+
		"an address at which this one reaches it (TAILROOM_ADVERTISE_URL)",
		"component", "peer", "peer", peer.Incarnation, "address", peer.URL.String(), "error", err)
}

// enter counts a request in; leave counts it out.
func (s *Switch) enter(p *passing) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		p.end(errClosed)
		return func() {}
	}
	s.open[p] = struct{}{}
	s.ended.Add(1)
	s.metrics.passing.Inc()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, p)
		s.metrics.passing.Dec()
		s.ended.Done()
	}
}

// sockets are the WebSockets that are passed on.
func (s *Switch) sockets() (list []*passing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.open {
		if p.socket.Load() {
			list = append(list, p)
		}
	}
	return list
}

// buffers are what answers are copied with.
type buffers struct{ pool sync.Pool }

// Get makes buffers an httputil.BufferPool.
func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

// Put gives a buffer back.
func (b *buffers) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
