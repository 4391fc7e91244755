// Package listen turns NOTIFY into a wake: one dedicated connection of an
// instance that LISTENs, and says that there may be something to read.
//
// A notification carries no data that anybody relies on. A lost one costs
// latency, never an event: who is woken reads the log from his own cursor, and
// polls besides. After every (re)connect the order is LISTEN, then wake, then
// wait, so that nothing falls between.
//
// Hearing nothing can mean that nothing happened, or that the line is dead or
// leads through a transaction pooler. So the listener notifies itself every
// few seconds, and one nonce unheard for two seconds makes the state PollOnly
// until the next one is heard.
package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Channel is the NOTIFY channel of the log. Its payload, "first:last", is a
// hint of the positions appended.
const Channel = "tailroom"

// selfTestChannel carries the nonces of every instance's self-test.
const selfTestChannel = "tailroom_selftest"

const (
	selfTestPeriod  = 5 * time.Second
	selfTestPatient = 2 * time.Second
	connectTimeout  = 5 * time.Second
	minPause        = 50 * time.Millisecond
	maxPause        = 2 * time.Second
)

// State says what the listener can be relied on for.
type State int32

// The states of a listener.
const (
	PollOnly  State = iota // nothing is heard: poll
	Listening              // the last self-test was heard
)

// String is the state's name as health and logs show it.
func (s State) String() string {
	if s == Listening {
		return "listening"
	}
	return "poll-only"
}

// Listener hears the log's notifications. It is safe for concurrent use.
type Listener struct {
	config *pgx.ConnConfig
	wake   func(last int64)
	state  atomic.Int32
	said   bool // that none is heard, for Run alone

	up       prometheus.Gauge
	heard    prometheus.Counter
	connects prometheus.Counter
}

// New returns a Listener that calls wake from its Run: with the last position
// of each hint, and with 0 after a (re)connect or a change of state, when
// anything may have been missed. wake must not block.
func New(dsn string, wake func(last int64), reg prometheus.Registerer) (*Listener, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the database URL to listen on: %w", err)
	}
	f := promauto.With(reg)
	l := &Listener{
		wake: wake,
		up: f.NewGauge(prometheus.GaugeOpts{
			Name: "tailroom_listen_up", Help: "1 while notifications are heard, 0 in poll-only.",
		}),
		heard: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_listen_notifications_total", Help: "Notifications of the log heard.",
		}),
		connects: f.NewCounter(prometheus.CounterOpts{
			Name: "tailroom_listen_connects_total", Help: "Connections made to listen; more than one means that the line broke.",
		}),
	}
	config.RuntimeParams["application_name"] = "tailroom listen"
	l.config = config
	return l, nil
}

// State is the present state.
func (l *Listener) State() State { return State(l.state.Load()) }

// Run listens until ctx ends, and reconnects as often as it must.
func (l *Listener) Run(ctx context.Context) error {
	pause := minPause
	for ctx.Err() == nil {
		if l.lost(ctx, l.connection(ctx)) {
			pause = minPause
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
	return nil
}

// lost notes that a connection has ended, and reports whether it had been of
// use. What fails again and again is said once.
func (l *Listener) lost(ctx context.Context, why error) (listened bool) {
	if ctx.Err() != nil {
		return false
	}
	listened = l.State() == Listening
	if listened || !l.said {
		l.said = true
		slog.WarnContext(ctx, "no notifications are heard: the log is polled", "component", "listen", "error", why)
	}
	l.setState(ctx, PollOnly)
	return listened
}

// connection listens on one connection until it fails or ctx ends.
func (l *Listener) connection(ctx context.Context) error {
	connectCtx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(connectCtx, l.config)
	if err != nil {
		return err
	}
	defer func() { // a Terminate message on a dead line must not hold us up
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closeCtx)
	}()
	if _, err := conn.Exec(connectCtx, "LISTEN "+Channel+"; LISTEN "+selfTestChannel); err != nil {
		return err
	}
	l.connects.Inc()
	l.wake(0)
	return l.hear(ctx, conn)
}

// hear waits for notifications, and tests every selfTestPeriod that it would
// hear them. A nonce that is not heard in time ends the connection: if the
// line is half open a new one mends it, and if a pooler swallows
// notifications the log and the state say so.
func (l *Listener) hear(ctx context.Context, conn *pgx.Conn) error {
	for nonce := 1; ; nonce++ {
		want := strconv.Itoa(int(conn.PgConn().PID())) + ":" + strconv.Itoa(nonce)
		testCtx, cancel := context.WithTimeout(ctx, selfTestPatient)
		_, err := conn.Exec(testCtx, "SELECT pg_notify($1, $2)", selfTestChannel, want)
		if err == nil {
			err = l.until(testCtx, conn, want)
		}
		cancel()
		if err != nil {
			if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
				return errors.New("the self-test was not heard: a pooler that swallows notifications, or a dead line")
			}
			return err
		}
		l.setState(ctx, Listening)
		quietCtx, cancel := context.WithTimeout(ctx, selfTestPeriod)
		err = l.until(quietCtx, conn, "")
		cancel()
		if ctx.Err() != nil || !pgconn.Timeout(err) {
			return err
		}
	}
}

// until passes hints on until this nonce is heard or ctx ends; "" is none.
func (l *Listener) until(ctx context.Context, conn *pgx.Conn, nonce string) error {
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Channel == selfTestChannel {
			if nonce != "" && n.Payload == nonce {
				return nil
			}
			continue
		}
		l.heard.Inc()
		l.wake(hint(n.Payload))
	}
}

// hint is the last position of a payload, 0 when it is not ours.
func hint(payload string) int64 {
	_, last, _ := strings.Cut(payload, ":")
	position, err := strconv.ParseInt(last, 10, 64)
	if err != nil || position < 0 {
		return 0
	}
	return position
}

func (l *Listener) setState(ctx context.Context, s State) {
	if State(l.state.Swap(int32(s))) == s {
		return
	}
	l.up.Set(float64(s))
	slog.InfoContext(ctx, "notifications", "component", "listen", "state", s.String())
	l.wake(0)
}
