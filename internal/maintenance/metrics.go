package maintenance

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	ahead, bytes, leader prometheus.Gauge
	lagging              prometheus.Gauge
	dropped              prometheus.Counter
	failures             *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	m := &metrics{
		ahead: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_partitions_ahead", Help: "Empty partitions beyond the one that is written.",
		}),
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_log_bytes", Help: "Size of the log on disk, with its indexes.",
		}),
		leader: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_maintenance_leader", Help: "1 on the instance that leads the maintenance.",
		}),
		lagging: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_consumers_lagging",
			Help: "Consumers that retention overtakes soon, as the instance that leads the maintenance knows.",
		}),
		dropped: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_partitions_dropped_total", Help: "Partitions that retention has dropped.",
		}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_maintenance_failures_total", Help: "Duties of the maintenance that failed and were tried again.",
		}, []string{"duty"}),
	}
	for _, duty := range []string{
		dutyPartitions, dutyIDs, dutyRevocations, dutyFigures, dutySeal, dutyRetention, dutyConsumers, dutyRequests,
	} {
		m.failures.WithLabelValues(duty)
	}
	return m
}
