package listen_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/listen"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

func TestMain(m *testing.M) {
	slog.SetLogLoggerLevel(slog.LevelError) // lines break here on purpose
	pgtest.Main(m)
}

// patience is how long a test waits for what must happen; "within a few
// seconds" is a self-test's period, its patience, and the next connection.
const patience = 20 * time.Second

// heard is one call of wake, and the state in which it came.
type heard struct {
	last  int64
	state listen.State
	at    time.Time
}

// listener is a running Listener and what it says.
type listener struct {
	*listen.Listener
	wakes   chan heard
	figures *prometheus.Registry
	stop    func()
}

func start(t *testing.T, dsn string) *listener {
	t.Helper()
	l := &listener{wakes: make(chan heard, 10_000), figures: prometheus.NewRegistry()}
	ready := make(chan struct{})
	var err error
	l.Listener, err = listen.New(dsn, func(last int64) {
		<-ready
		l.wakes <- heard{last, l.State(), time.Now()}
	}, l.figures)
	require.NoError(t, err)
	close(ready)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	l.stop = func() {
		cancel()
		if !stopped {
			stopped = true
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(l.stop)
	return l
}

// until reads wakes up to the first that is right.
func (l *listener) until(t *testing.T, what string, right func(heard) bool) heard {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case h := <-l.wakes:
			if right(h) {
				return h
			}
		case <-timeout:
			require.FailNow(t, "it is not heard", what)
		}
	}
}

// become waits until the listener is in a state and has said "look" in it.
func (l *listener) become(t *testing.T, state listen.State) heard {
	t.Helper()
	return l.until(t, state.String(), func(h heard) bool { return h.last == 0 && h.state == state })
}

func (l *listener) hears(t *testing.T, last int64) heard {
	t.Helper()
	return l.until(t, fmt.Sprint("position ", last), func(h heard) bool { return h.last == last })
}

func (l *listener) figure(t *testing.T, name string) float64 {
	t.Helper()
	families, err := l.figures.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if m := f.GetMetric()[0]; f.GetName() == name {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(t, "no such figure", name)
	return 0
}

func notify(t *testing.T, pool *pgxpool.Pool, channel, payload string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), "SELECT pg_notify($1, $2)", channel, payload)
	require.NoError(t, err)
}

func TestNew_RefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := listen.New("postgres://:nonsense", func(int64) {}, prometheus.NewRegistry())
	require.ErrorContains(t, err, "to listen on")
}

func TestListener_Hears(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	l := start(t, dsn)
	first := l.until(t, "the first connection", func(heard) bool { return true })
	require.Zero(t, first.last, "whatever came before: look")
	require.Equal(t, listen.PollOnly, first.state, "nothing is promised before the self-test is heard")
	l.become(t, listen.Listening)
	require.Equal(t, "listening", l.State().String())
	require.InDelta(t, 1, l.figure(t, "tailroom_listen_up"), 0)

	notify(t, pool, listen.Channel, "7:9")
	l.hears(t, 9)
	notify(t, pool, "elsewhere", "1:2")
	for _, strange := range []string{"", "nonsense", "1:x", "1:-5", "17"} {
		notify(t, pool, listen.Channel, strange)
		require.Zero(t, l.until(t, strange, func(heard) bool { return true }).last, strange)
	}
	notify(t, pool, listen.Channel, "10:12")
	require.Equal(t, int64(12), l.until(t, "the next", func(heard) bool { return true }).last)
	require.InDelta(t, 7, l.figure(t, "tailroom_listen_notifications_total"), 0)
	require.InDelta(t, 1, l.figure(t, "tailroom_listen_connects_total"), 0)
}

// LISTEN comes before the wake that says "look": what is appended after that
// wake is heard.
func TestListener_ListensBeforeItSaysLook(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	for n := range int64(10) {
		l := start(t, dsn)
		l.until(t, "the first wake", func(heard) bool { return true })
		notify(t, pool, listen.Channel, fmt.Sprintf("1:%d", n+1))
		l.hears(t, n+1)
		l.stop()
	}
}

// Hints come through while self-tests are under way, and the listener goes on
// over several of them.
func TestListener_SelfTestsGoOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	nonces := listenOn(t, dsn, "tailroom_selftest")
	l := start(t, dsn)
	l.become(t, listen.Listening)
	for tests := int64(0); tests < 2; {
		if !strings.Contains(nonces(t), ":") {
			continue // one of those below
		}
		tests++
		notify(t, pool, "tailroom_selftest", "somebody else's")
		notify(t, pool, "tailroom_selftest", "")
		notify(t, pool, listen.Channel, fmt.Sprintf("1:%d", tests))
		l.hears(t, tests)
	}
	require.Equal(t, listen.Listening, l.State())
	require.InDelta(t, 1, l.figure(t, "tailroom_listen_connects_total"), 0)
}

// listenOn returns a function that waits for the next payload on a channel.
func listenOn(t *testing.T, dsn, channel string) func(*testing.T) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "LISTEN "+channel)
	require.NoError(t, err)
	return func(t *testing.T) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		n, err := conn.WaitForNotification(ctx)
		require.NoError(t, err)
		return n.Payload
	}
}

// A pooler in between that swallows notifications, from the start and later.
func TestListener_NotificationsSwallowed(t *testing.T) {
	t.Parallel()
	t.Run("from the start", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Database(t)
		pool := pgtest.Pool(t, dsn)
		proxy := pgproxy.Start(t, dsn)
		proxy.SwallowNotifications(true)
		l := start(t, proxy.DSN())
		for range 2 { // it connects, tests, and tries again with another connection
			require.Equal(t, listen.PollOnly, l.until(t, "a connection", func(heard) bool { return true }).state)
		}
		require.InDelta(t, 0, l.figure(t, "tailroom_listen_up"), 0)
		proxy.SwallowNotifications(false)
		l.become(t, listen.Listening)
		notify(t, pool, listen.Channel, "1:2")
		l.hears(t, 2)
	})
	t.Run("later", func(t *testing.T) {
		t.Parallel()
		dsn := pgtest.Database(t)
		proxy := pgproxy.Start(t, dsn)
		l := start(t, proxy.DSN())
		l.become(t, listen.Listening)
		begin := time.Now()
		proxy.SwallowNotifications(true)
		require.Less(t, l.become(t, listen.PollOnly).at.Sub(begin), 10*time.Second)
		proxy.SwallowNotifications(false)
		l.become(t, listen.Listening)
	})
}

func TestListener_BackendTerminated(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	l := start(t, dsn)
	l.become(t, listen.Listening)
	const rounds = 8
	var away []time.Duration
	for n := range int64(rounds) {
		begin := time.Now()
		terminate(t, pool)
		l.become(t, listen.PollOnly)
		away = append(away, l.become(t, listen.Listening).at.Sub(begin))
		notify(t, pool, listen.Channel, fmt.Sprintf("1:%d", n+1))
		l.hears(t, n+1)
	}
	require.Less(t, slices.Min(away[rounds-3:]), time.Second, "a line that was good is made anew at once, however often")
	require.InDelta(t, rounds+1, l.figure(t, "tailroom_listen_connects_total"), 0)
}

// terminate ends the listener's session, by the name that it goes by. Nobody sees it
// afterwards.
func terminate(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	var ended int
	err := pool.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE pg_terminate_backend(pid, $1)) FROM pg_stat_activity
		WHERE application_name = 'tailroom listen' AND datname = current_database()`, patience.Milliseconds()).Scan(&ended)
	require.NoError(t, err)
	require.Equal(t, 1, ended)
}

func TestListener_ServerRestarted(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]os.Signal{"cleanly": os.Interrupt, "killed": os.Kill} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t)
			l := start(t, server.URL("tailroom"))
			l.become(t, listen.Listening)
			require.NoError(t, server.Restart(t.Context(), signal))
			l.become(t, listen.PollOnly)
			l.become(t, listen.Listening)
			notify(t, pgtest.Pool(t, server.URL("tailroom")), listen.Channel, "1:5")
			l.hears(t, 5)
		})
	}
}

// A line that goes dead without a word is noticed by the self-test.
func TestListener_Blackholed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	proxy := pgproxy.Start(t, dsn)
	l := start(t, proxy.DSN())
	l.become(t, listen.Listening)
	begin := time.Now()
	proxy.Blackhole(true)
	notify(t, pool, listen.Channel, "1:1") // never heard on this line
	require.Less(t, l.become(t, listen.PollOnly).at.Sub(begin), 10*time.Second)
	proxy.Cut()
	proxy.Blackhole(false)
	l.become(t, listen.Listening)
	notify(t, pool, listen.Channel, "1:2")
	l.hears(t, 2)
}

// Run ends at once with its context, whatever the line is doing.
func TestRun_Ends(t *testing.T) {
	t.Parallel()
	t.Run("while it listens", func(t *testing.T) {
		t.Parallel()
		l := start(t, pgtest.Database(t))
		l.become(t, listen.Listening)
		l.stop()
	})
	t.Run("without a server", func(t *testing.T) {
		t.Parallel()
		proxy := pgproxy.Start(t, pgtest.Database(t))
		proxy.Refuse(true)
		l := start(t, proxy.DSN())
		l.stop()
		require.Empty(t, l.wakes)
	})
	t.Run("on a dead line", func(t *testing.T) {
		t.Parallel()
		proxy := pgproxy.Start(t, pgtest.Database(t))
		l := start(t, proxy.DSN())
		l.become(t, listen.Listening)
		proxy.Blackhole(true)
		begin := time.Now()
		l.stop()
		require.Less(t, time.Since(begin), 4*time.Second)
	})
}
