package hub

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are the hub's figures.
type Metrics struct {
	read, polled, coldReads      prometheus.Counter
	entries, bytes, lastPosition prometheus.Gauge
}

// NewMetrics registers the hub's figures.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	f := promauto.With(reg)
	return &Metrics{
		read: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_hub_events_total", Help: "Events read from the log into the window.",
		}),
		polled: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_hub_polled_events_total", Help: "Of those, events found without a notification of them.",
		}),
		coldReads: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_hub_cold_reads_total", Help: "Pages older than the window read for replay.",
		}),
		entries: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_hub_window_events", Help: "Events in the window.",
		}),
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_hub_window_bytes", Help: "Memory the window holds, about.",
		}),
		lastPosition: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_hub_position", Help: "The newest position this instance has read.",
		}),
	}
}

func (m *Metrics) window(entries, bytes int, position int64) {
	m.entries.Set(float64(entries))
	m.bytes.Set(float64(bytes))
	m.lastPosition.Set(float64(position))
}
