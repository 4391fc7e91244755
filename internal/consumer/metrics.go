package consumer

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// What becomes of claims.
const (
	granted   = "granted"
	forbidden = "forbidden"
	full      = "full"
	failed    = "failed"
)

type metrics struct {
	claims         *prometheus.CounterVec
	replaced, acks prometheus.Counter
	failures       prometheus.Counter
	seconds        prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, live func() float64) *metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "tailroom_consumers", Help: "Consumers that are connected here."}, live)
	m := &metrics{
		claims: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_consumer_claims_total", Help: "Sessions that wanted to be a consumer's, by what became of it.",
		}, []string{"outcome"}),
		replaced: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_consumers_replaced_total", Help: "Sessions that a newer one of their consumer replaced.",
		}),
		acks: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_consumer_acks_total", Help: "Acknowledgements of consumers.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_consumer_flush_failures_total", Help: "Writes of acknowledgements that failed and were tried again.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_consumer_flush_seconds", Help: "How long it took to write what consumers acknowledged.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
		}),
	}
	for _, outcome := range []string{granted, forbidden, full, failed} {
		m.claims.WithLabelValues(outcome)
	}
	return m
}
