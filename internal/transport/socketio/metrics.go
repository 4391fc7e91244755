package socketio

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/session"
)

// outcome is how a socket began.
type outcome string

const (
	started   outcome = "started"   // anew, or where the client asked to
	recovered outcome = "recovered" // as the one it was before
	resumed   outcome = "resumed"   // behind an offset alone
	reset     outcome = "reset"     // elsewhere than it wanted to: the log does not have that
)

// metrics are the transport's figures.
type metrics struct {
	events    prometheus.Counter
	bytes     prometheus.Counter
	messages  prometheus.Counter
	invalid   prometheus.Counter
	refused   *prometheus.CounterVec
	connects  *prometheus.CounterVec
	takenOver prometheus.Counter

	emitsRefused prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	shared := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"transport": Transport}, reg))
	m := &metrics{
		events: shared.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_events_total", Help: "Events written to sockets.",
		}),
		bytes: shared.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_delivered_bytes_total", Help: "Bytes written to sockets by sessions.",
		}),
		messages: shared.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_received_messages_total", Help: "Messages received from clients.",
		}),
		invalid: shared.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_received_invalid_total", Help: "Of those, messages that were refused as invalid.",
		}),
		refused: shared.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_hello_refused_total", Help: "Connections whose hello was refused, by error code.",
		}, []string{"code"}),
		connects: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_socketio_connects_total", Help: "Socket.IO namespaces joined, by how the client's stream began.",
		}, []string{"recovery"}),
		takenOver: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_socketio_takeovers_total", Help: "Socket.IO connections that were closed because their client had come back.",
		}),
	}
	m.emitsRefused = f.NewCounter(prometheus.CounterOpts{
		Name: "tailroom_socketio_emits_refused_total",
		Help: "Events that Socket.IO clients emitted and that were not published, or whose request nobody answered.",
	})
	for _, o := range [...]outcome{started, recovered, resumed, reset} {
		m.connects.WithLabelValues(string(o))
	}
	return m
}

func (m *metrics) sent(f *session.Frame, bytes int) {
	m.events.Add(float64(len(f.Entries)))
	m.bytes.Add(float64(bytes))
}
