package eventlog

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// AppendMetrics are the appender's figures.
type AppendMetrics struct {
	events  prometheus.Counter
	refused prometheus.Counter
	retries prometheus.Counter
	waiting prometheus.Gauge
	bytes   prometheus.Gauge
	size    prometheus.Histogram
	seconds prometheus.Histogram
	lock    prometheus.Histogram
	work    prometheus.Histogram
	commit  prometheus.Histogram
}

// NewAppendMetrics registers the appender's figures.
func NewAppendMetrics(reg prometheus.Registerer) *AppendMetrics {
	f := promauto.With(reg)
	return &AppendMetrics{
		events: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_append_events_total", Help: "Events this instance has appended to the log.",
		}),
		refused: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_append_overloaded_total", Help: "Publishes refused because too much waited for the log.",
		}),
		retries: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_append_retries_total", Help: "Batches tried again after a failure of PostgreSQL or the line to it.",
		}),
		waiting: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_append_waiting", Help: "Publishes that wait for the next batch.",
		}),
		bytes: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_append_waiting_bytes", Help: "Bytes of the publishes that wait for the next batch.",
		}),
		size: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_append_batch_events", Help: "Events in a batch.",
			Buckets: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000},
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_append_seconds", Help: "Time from taking a batch to its commit, retries included.",
			Buckets: appendSeconds,
		}),
		lock: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_append_lock_wait_seconds", Help: "Time a batch waited in PostgreSQL for the append lock.",
			Buckets: appendSeconds,
		}),
		work: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_append_work_seconds", Help: "Time a batch held the append lock before its commit.",
			Buckets: appendSeconds,
		}),
		commit: f.NewHistogram(prometheus.HistogramOpts{
			Name: "tailroom_append_commit_seconds", Help: "Time of a batch's commit, with the way to PostgreSQL and back.",
			Buckets: appendSeconds,
		}),
	}
}

var appendSeconds = []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5}

// attempt counts one round trip and what PostgreSQL says of it.
func (m *AppendMetrics) attempt(took time.Duration, waitedMicros, workedMicros int64) {
	waited, worked := time.Duration(waitedMicros)*time.Microsecond, time.Duration(workedMicros)*time.Microsecond
	m.lock.Observe(waited.Seconds())
	m.work.Observe(worked.Seconds())
	m.commit.Observe(max(took-waited-worked, 0).Seconds())
}

func (m *AppendMetrics) batch(events int, took time.Duration) {
	m.events.Add(float64(events))
	m.size.Observe(float64(events))
	m.seconds.Observe(took.Seconds())
}
