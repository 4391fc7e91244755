package hub

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/event"
)

// Metrics are the hub's figures.
type Metrics struct {
	read, polled, coldReads, rewinds, redacted prometheus.Counter
	entries, bytes, lastPosition, epoch        prometheus.Gauge
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
		rewinds: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_hub_rewinds_total", Help: "Times the log was found to have lost events that had been read from it.",
		}),
		redacted: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_hub_redactions_total", Help: "Events whose data were erased while the window held them.",
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
		epoch: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_hub_epoch", Help: "The epoch of that position; it grows when the log is failed over or restored.",
		}),
	}
}

func (m *Metrics) window(entries, bytes int, tip event.Cursor) {
	m.entries.Set(float64(entries))
	m.bytes.Set(float64(bytes))
	m.lastPosition.Set(float64(tip.Position))
	m.epoch.Set(float64(tip.Epoch))
}
