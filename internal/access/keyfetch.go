package access

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/time/rate"

	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// fetchTimeout is how long an issuer may take to send its keys, and
	// maxKeySet how many bytes they may be.
	fetchTimeout = 5 * time.Second
	maxKeySet    = 512 << 10
	// Tokens of unknown keys cost the issuer a request only so often: some at
	// once, and then one in each pause.
	askBurst = 5
	askPause = 10 * time.Second
	// A set that could not be loaded is asked for again after the first retry
	// pause, which doubles up to the last.
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// ParseKeySetURL returns text if keys may be loaded from there: with https, or
// with http from this machine.
func ParseKeySetURL(text string) (string, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return "", errors.New("want a URL such as https://issuer.example/.well-known/jwks.json")
	case u.User != nil:
		return "", errors.New("want a URL without a user and a password: keys are public")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "", errors.New("want https: whoever sits between could send keys of his own")
	}
	return text, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// KeySet is what JWKS_URL leads to: the public keys of an issuer, kept in
// memory and loaded anew from time to time. While the issuer is away, the keys
// stay as they were. It is safe for concurrent use.
type KeySet struct {
	url     string
	every   time.Duration
	client  *http.Client
	timeout time.Duration
	metrics keySetMetrics
	now     func() time.Time
	after   func(time.Duration) <-chan time.Time

	loaded atomic.Pointer[[]PublicKey] // nil until they first were
	begun  atomic.Int64                // loads, whatever came of them

	mu        sync.Mutex // held while loading
	err       error      // of the last load
	ignored   []string   // in the last set
	allowance *rate.Limiter
}

type keySetMetrics struct {
	ok, failed prometheus.Counter
	loaded     prometheus.Gauge
}

// KeySetConfig says where an issuer's keys are.
type KeySetConfig struct {
	URL     string        // as ParseKeySetURL takes it; "" is no key set
	Every   time.Duration // between two loads
	Metrics prometheus.Registerer
}

// NewKeySet returns a KeySet that is empty until Run or a token loads it, and
// nil if the URL is "". The metrics are there in any case.
func NewKeySet(c KeySetConfig) *KeySet {
	f := promauto.With(c.Metrics)
	loads := f.NewCounterVec(prometheus.CounterOpts{
		Name: "tailroom_jwks_refreshes_total", Help: "Times the keys of JWKS_URL were asked for, by result.",
	}, []string{"result"})
	metrics := keySetMetrics{
		ok: loads.WithLabelValues("ok"), failed: loads.WithLabelValues("failed"),
		loaded: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_jwks_loaded_timestamp_seconds", Help: "When the keys of JWKS_URL last came; 0 is never.",
		}),
	}
	if c.URL == "" {
		return nil
	}
	return &KeySet{
		url: c.URL, every: c.Every, timeout: fetchTimeout, metrics: metrics, now: time.Now, after: time.After,
		client: &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
			// Where it leads to would have to be judged as the URL was.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		allowance: rate.NewLimiter(rate.Every(askPause), askBurst),
	}
}

// Run loads the keys now and from then on, until ctx ends.
func (s *KeySet) Run(ctx context.Context) error {
	failures := 0
	for {
		if s.refresh(ctx) == nil {
			failures = 0
		} else {
			failures++
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.after(s.pause(failures)):
		}
	}
}

// pause is how long to wait after so many failures in a row. A tenth is drawn
// by lot, so that instances that started together do not ask together.
func (s *KeySet) pause(failures int) time.Duration {
	d := s.every
	if failures > 0 {
		d = min(d, lastRetry, firstRetry<<min(failures-1, 10))
	}
	return d - d/20 + rand.N(d/10+1)
}

// keys returns the keys at hand, nil if they were never loaded, and how many
// loads had begun when they were.
func (s *KeySet) keys() (keys []PublicKey, seen int64) {
	seen = s.begun.Load() // before the keys, so that renew rather loads once too often
	if list := s.loaded.Load(); list != nil {
		keys = *list
	}
	return keys, seen
}

// renew loads the keys anew for a token whose key was not among those that
// were seen, unless it is known by now. Tokens that come together share a load:
// none is refused by one that began before it came. It is an error of code
// unavailable if the issuer cannot be asked, because the key may be good.
func (s *KeySet) renew(seen int64, known func() bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if known() {
		return nil
	}
	if s.begun.Load() == seen {
		if !s.allowance.AllowN(s.now(), 1) {
			return s.unavailable("the keys of the issuer were asked for too often: try again with this token later")
		}
		_ = s.load(context.Background()) // what came of it is kept
	}
	if s.err != nil {
		return s.unavailable("the keys of the issuer cannot be loaded at present, and the token's is not known here")
	}
	return nil
}

func (*KeySet) unavailable(detail string) error {
	return problem.New(problem.Unavailable, detail).RetryAfter(askPause)
}

func (s *KeySet) refresh(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.load(ctx)
}

// load replaces the keys, or leaves them as they are and says why.
func (s *KeySet) load(ctx context.Context) error {
	s.begun.Add(1)
	keys, ignored, err := s.fetch(ctx)
	if s.err = err; err != nil {
		s.metrics.failed.Inc()
		old, _ := s.keys()
		slog.WarnContext(ctx, "the keys of the issuer could not be loaded", "component", "access", "url", s.url,
			"error", err, "keys_kept", len(old))
		return err
	}
	s.metrics.ok.Inc()
	s.metrics.loaded.Set(float64(s.now().Unix()))
	if s.loaded.Swap(&keys) == nil {
		slog.InfoContext(ctx, "the keys of the issuer are loaded", "component", "access", "url", s.url, "keys", len(keys))
	}
	if !slices.Equal(ignored, s.ignored) {
		s.ignored = ignored
		slog.WarnContext(ctx, "keys of the issuer are ignored", "component", "access", "url", s.url, "keys", ignored)
	}
	return nil
}

// fetch asks the issuer once.
func (s *KeySet) fetch(ctx context.Context) (keys []PublicKey, ignored []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, http.NoBody)
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode/100 == 3:
		return nil, nil, fmt.Errorf("it answers %s, which is not followed: JWKS_URL must be where the keys are", response.Status)
	case response.StatusCode != http.StatusOK:
		return nil, nil, errors.New("it answers " + strings.TrimSpace(response.Status))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(body) > maxKeySet:
		return nil, nil, fmt.Errorf("its answer is larger than %d bytes", maxKeySet)
	}
	return parseKeySet(body)
}
