package eventlog

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// The codes that rows are rejected with: the protocol's.
const (
	codeAlreadyAnswered = "already_answered"
	codeIDReused        = "id_reused"
	codeSchemaViolation = "schema_violation"
	codeTooLarge        = "too_large"
)

var rejectionCodes = []string{"unknown_namespace", "unknown_type", codeSchemaViolation, codeIDReused, codeAlreadyAnswered, codeTooLarge}

// Rejections are logged one by one, but no more than maxRejectionLines in a
// rejectionPeriod: a faulty program can have thousands of them.
const (
	maxRejectionLines = 10
	rejectionPeriod   = 10 * time.Second
)

type relayMetrics struct {
	relayed  prometheus.Counter
	rejected *prometheus.CounterVec
	waiting  prometheus.Gauge
	leader   prometheus.Gauge
	oldest   atomic.Pointer[time.Time] // when the first row that waits was published, nil for none

	period time.Time // when the present rejectionPeriod began; for the leader alone
	lines  int       // in it
}

func newRelayMetrics(reg prometheus.Registerer) *relayMetrics {
	f := promauto.With(reg)
	m := &relayMetrics{
		relayed: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_outbox_relayed_total", Help: "Events this instance has moved from the outbox into the log.",
		}),
		rejected: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_outbox_rejected_total", Help: "Rows of the outbox that could not become events, by error code.",
		}, []string{"code"}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_outbox_waiting", Help: "Rows of the outbox that wait, as the leader has last seen; counted to 100,000.",
		}),
		leader: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_outbox_leader", Help: "1 on the instance that relays the outbox.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailroom_outbox_oldest_seconds",
		Help: "Age of the first row of the outbox that waits; 0 when none does, and on other instances than the leader.",
	}, m.age)
	for _, code := range rejectionCodes {
		m.rejected.WithLabelValues(code)
	}
	return m
}

// look notes what the leader sees.
func (m *relayMetrics) look(waiting int, oldestSeconds float64) {
	m.waiting.Set(float64(waiting))
	if waiting == 0 {
		m.oldest.Store(nil)
		return
	}
	since := time.Now().Add(-time.Duration(oldestSeconds * float64(time.Second)))
	m.oldest.Store(&since)
}

func (m *relayMetrics) age() float64 {
	if since := m.oldest.Load(); since != nil {
		return max(time.Since(*since).Seconds(), 0)
	}
	return 0
}

// reject counts and logs a rejected row.
func (m *relayMetrics) reject(ctx context.Context, s settlement) {
	m.rejected.WithLabelValues(s.code).Inc()
	if time.Since(m.period) >= rejectionPeriod {
		m.period, m.lines = time.Now(), 0
	}
	m.lines++
	switch {
	case m.lines <= maxRejectionLines:
		slog.ErrorContext(ctx, "a published row is rejected: see `tailroom outbox list`", "component", "outbox",
			"row", s.row, "company", s.draft.Tenant, "namespace", s.draft.Namespace, "type", s.draft.Type,
			"code", s.code, "reason", s.reason)
	case m.lines == maxRejectionLines+1:
		slog.ErrorContext(ctx, "more published rows are rejected and not logged one by one", "component", "outbox",
			"for", rejectionPeriod)
	}
}
