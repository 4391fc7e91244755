package request

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// How a wait ended.
const (
	endAnswered = "answered"
	endTimeout  = "timeout"
	endDraining = "draining"
	endGone     = "gone"
	endLost     = "lost"
)

type metrics struct {
	waiting prometheus.Gauge
	ends    *prometheus.CounterVec
	seconds prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_request_waits", Help: "Requesters who wait for an answer on this instance.",
		}),
		ends: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_request_waits_total", Help: "Requesters who have waited for an answer, by how that ended.",
		}, []string{"end"}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_request_seconds", Help: "From asking to the answer, where it was waited for.",
			Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 120},
		}),
	}
	for _, end := range []string{endAnswered, endTimeout, endDraining, endGone, endLost} {
		m.ends.WithLabelValues(end)
	}
	return m
}

func (m *metrics) ended(end string, after time.Duration) {
	m.ends.WithLabelValues(end).Inc()
	if end == endAnswered {
		m.seconds.Observe(after.Seconds())
	}
}
