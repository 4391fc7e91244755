package state

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	folded, restarts, failures prometheus.Counter
	leader, lag                prometheus.Gauge
	oldest                     atomic.Pointer[time.Time] // when the first event was recorded that is in no state; nil: there is none
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		folded: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_state_folded_total", Help: "Events that this instance has folded into states.",
		}),
		restarts: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_state_restarts_total",
			Help: "How often this instance made all states anew, because they were not of the log as it is.",
		}),
		failures: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_state_failures_total", Help: "Steps of the states that failed and were tried again.",
		}),
		leader: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_state_leader", Help: "1 on the instance that folds the log into states.",
		}),
		lag: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_state_lag_events", Help: "Positions that the states are behind the log, looked at every second.",
		}),
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tailroom_state_lag_seconds", Help: "Age of the first event that is in no state; 0 when there is none.",
	}, m.age)
	return m
}

// behind notes how far the states are behind the log.
func (m *metrics) behind(events int64, seconds float64) {
	m.lag.Set(float64(max(events, 0)))
	if events <= 0 {
		m.oldest.Store(nil)
		return
	}
	since := time.Now().Add(-time.Duration(seconds * float64(time.Second)))
	m.oldest.Store(&since)
}

func (m *metrics) age() float64 {
	if since := m.oldest.Load(); since != nil {
		return max(time.Since(*since).Seconds(), 0)
	}
	return 0
}
