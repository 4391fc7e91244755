package engineio

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are the transport's figures.
type metrics struct {
	connections *prometheus.GaugeVec
	handshakes  *prometheus.CounterVec
	refused     *prometheus.CounterVec
	upgrades    *prometheus.CounterVec
	closed      *prometheus.CounterVec
}

// What becomes of an upgrade.
const (
	upgradeDone   = "done"
	upgradeFailed = "failed" // the connection goes on polling
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		connections: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "tailroom_engineio_connections", Help: "Engine.IO connections by the transport they use at present.",
			ConstLabels: prometheus.Labels{"version": version},
		}, []string{"transport"}),
		handshakes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_engineio_handshakes_total", Help: "Engine.IO connections begun, by the transport they began with.",
		}, []string{"transport"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_engineio_refused_total", Help: "Requests that were refused, by the reason that Engine.IO has a code for.",
		}, []string{"reason"}),
		upgrades: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_engineio_upgrades_total", Help: "Upgrades from polling to a WebSocket, by what became of them.",
		}, []string{"outcome"}),
		closed: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_engineio_closed_total", Help: "Engine.IO connections ended, by reason.",
		}, []string{"reason"}),
	}
	for _, transport := range []string{polling, webSocket} {
		m.connections.WithLabelValues(transport)
		m.handshakes.WithLabelValues(transport)
	}
	for _, reason := range refusals {
		m.refused.WithLabelValues(reason)
	}
	m.upgrades.WithLabelValues(upgradeDone)
	m.upgrades.WithLabelValues(upgradeFailed)
	for _, word := range words {
		m.closed.WithLabelValues(label(word))
	}
	return m
}

func label(word string) string { return strings.ReplaceAll(word, " ", "_") }
