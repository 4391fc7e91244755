package peer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// What becomes of a request that is another's to answer.
const (
	sentAnswered = "answered"
	sentUnknown  = "unknown" // its owner is not known
	sentFailed   = "failed"  // the owner was not reached, or died
	sentRefused  = "refused" // the owner did not believe it
	sentLeft     = "left"    // the client went
)

// metrics are the figures of a Switch.
type metrics struct {
	passing      prometheus.Gauge
	sent         *prometheus.CounterVec
	received     *prometheus.CounterVec
	told, untold prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		passing: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_peer_passing", Help: "Polls and WebSockets of other instances' clients that come through this one at present.",
		}),
		sent: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_peer_passed_total", Help: "Requests for sessions of other instances, by what became of them.",
		}, []string{"outcome"}),
		received: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_peer_received_total", Help: "Requests that came from other instances: taken, or why they were refused.",
		}, []string{"outcome"}),
	}
	takeovers := f.NewCounterVec(prometheus.CounterOpts{
		Name: "tailroom_peer_takeovers_total", Help: "Sessions resumed here of which another instance was told, or could not be told.",
	}, []string{"outcome"})
	m.told, m.untold = takeovers.WithLabelValues("told"), takeovers.WithLabelValues("failed")
	for _, outcome := range []string{sentAnswered, sentUnknown, sentFailed, sentRefused, sentLeft} {
		m.sent.WithLabelValues(outcome)
	}
	m.received.WithLabelValues(taken)
	for outcome := range refusals {
		m.received.WithLabelValues(string(outcome))
	}
	return m
}
