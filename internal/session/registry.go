package session

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/access"
)

// Registry knows every session of the instance. It is safe for concurrent use.
type Registry struct {
	// Revoked reports whether a grant's token is revoked. It is set before the first
	// session comes, or never: then none is.
	Revoked func(access.Grant) bool
	// Watch is told of a session, by its number, when it begins, when its Report is
	// another, and when it has ended: then there is no report. It is set as Revoked is.
	// It may be called by any goroutine, and must neither wait nor ask for the report.
	Watch func(number int64, report func() Report)

	mu       sync.Mutex
	sessions map[*Session]struct{}
	numbers  int64 // the last that was given
	subjects index
	tokens   index
	ids      index
	draining bool
	empty    chan struct{} // closed when draining and none is left

	connections *prometheus.GaugeVec
	opened      *prometheus.CounterVec
	closed      *prometheus.CounterVec
	seconds     prometheus.Histogram
}

// NewRegistry returns an empty Registry and registers its figures.
func NewRegistry(reg prometheus.Registerer) *Registry {
	f := promauto.With(reg)
	r := &Registry{
		sessions: map[*Session]struct{}{},
		subjects: index{},
		tokens:   index{},
		ids:      index{},
		empty:    make(chan struct{}),
		connections: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tailroom_connections", Help: "Sessions at present.",
		}, []string{"transport", "role"}),
		opened: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_sessions_total", Help: "Sessions begun.",
		}, []string{"transport"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_sessions_closed_total", Help: "Sessions ended, by the reason of the close table; gone is a client that left.",
		}, []string{"reason"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_session_seconds", Help: "How long sessions lasted.",
			Buckets: []float64{1, 10, 60, 300, 900, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600},
		}),
	}
	for _, reason := range reasons {
		r.closed.WithLabelValues(reason.Name)
	}
	for _, transport := range Transports {
		r.opened.WithLabelValues(transport)
		for _, role := range access.Roles {
			r.connections.WithLabelValues(transport, string(role))
		}
	}
	return r
}

// Run runs a session, and returns why it ended. A session that comes while the
// instance drains is told to leave at once.
func (r *Registry) Run(ctx context.Context, s *Session) Reason {
	transport, role := s.origin.Transport, string(s.Grant().Role)
	r.mu.Lock()
	r.numbers++
	s.number, s.since, s.watch = r.numbers, time.Now(), r.Watch
	r.sessions[s] = struct{}{}
	s.changed()
	if r.draining {
		s.Leave(0)
	}
	r.mu.Unlock()
	r.Recheck(s)
	r.opened.WithLabelValues(transport).Inc()
	r.connections.WithLabelValues(transport, role).Inc()

	reason := s.Run(ctx)

	r.connections.WithLabelValues(transport, role).Dec()
	r.closed.WithLabelValues(reason.Name).Inc()
	r.seconds.Observe(time.Since(s.since).Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.sessions, s)
	if r.Watch != nil {
		r.Watch(s.number, nil)
	}
	r.file(s)
	if r.draining && len(r.sessions) == 0 {
		r.closeEmpty()
	}
	return reason
}

// Count is the number of sessions at present.
func (r *Registry) Count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.sessions)
}

// Drain asks every session to leave at some moment of the next spread, so that
// they do not all come back elsewhere at once, and waits for the last or for
// ctx. It returns how many are left.
func (r *Registry) Drain(ctx context.Context, spread time.Duration) int {
	r.mu.Lock()
	r.draining = true
	for s := range r.sessions {
		s.Leave(rand.N(spread + 1))
	}
	if len(r.sessions) == 0 {
		r.closeEmpty()
	}
	r.mu.Unlock()
	select {
	case <-r.empty:
	case <-ctx.Done():
	}
	return r.Count()
}

// closeEmpty is for who holds mu.
func (r *Registry) closeEmpty() {
	select {
	case <-r.empty:
	default:
		close(r.empty)
	}
}
