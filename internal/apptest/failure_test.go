package apptest_test

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// awaitNotifications waits until an instance's health says how it hears of
// news.
func awaitNotifications(t *testing.T, i *apptest.Instance, state string) {
	t.Helper()
	apptest.Eventually(t, func() bool { return i.Get(t, "/healthz", "").Field("notifications") == state },
		apptest.Patience, 20*time.Millisecond, state)
}

// The sessions that the instances listen on are ended again and again. Nobody
// notices: what is not heard of meanwhile is read after the next LISTEN.
func TestFailure_ListenersTerminated(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	const patient = "TAILROOM_PUBLISH_TIMEOUT=1m" // nobody has to come again because the machine is busy
	instances := []*apptest.Instance{apptest.Start(t, dsn, patient), apptest.Start(t, dsn, patient)}
	tr := newTraffic(t, dsn, instances)
	for round := range 5 {
		for _, i := range instances {
			awaitMetric(t, i, "tailroom_listen_connects_total", float64(round+1))
		}
		require.Positive(t, terminate(t, pool, "tailroom listen"))
		tr.goesOn(t)
	}
	require.Zero(t, tr.finish(t))
	tr.requireSaid(t)
	for _, i := range instances {
		awaitMetric(t, i, "tailroom_listen_connects_total", 6)
		awaitNotifications(t, i, "listening")
	}
}

func awaitMetric(t *testing.T, i *apptest.Instance, name string, value float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		figure, err := i.TryMetric(t.Context(), name)
		return err == nil && figure >= value
	}, apptest.Patience, 20*time.Millisecond, name)
}

// terminate ends the sessions of a name, and returns how many there were.
func terminate(t *testing.T, pool *pgxpool.Pool, name string) (ended int) {
	t.Helper()
	err := pool.QueryRow(t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE application_name = $1 AND datname = current_database()`, name).Scan(&ended)
	require.NoError(t, err)
	return ended
}

// An instance whose notifications are swallowed polls: what the other one
// appends arrives before it knows, and after. It says so, and hears again.
func TestFailure_NotificationsSwallowed(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	writer := apptest.Start(t, dsn)
	deaf := apptest.Start(t, dsn, "TAILROOM_LISTEN_DATABASE_URL="+pgtest.Writer(proxy.DSN()), "TAILROOM_POLL_INTERVAL=500ms")
	awaitNotifications(t, deaf, "listening")
	service := apptest.Token(t, access.Service, "c1")
	socket, _ := deaf.Hello(t, apptest.Token(t, access.Web, "c1"), "now", `[{"namespace":"/orders"}]`)
	socket.Until(t, "live")
	next := int64(1)
	arrives := func() (took time.Duration) {
		begin := time.Now()
		writer.Publish(t, service, fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1"}}`, next))
		require.Equal(t, next, socket.Collect(t, 1)[0].Position)
		next++
		return time.Since(begin)
	}

	arrives()
	awaitMetric(t, deaf, "tailroom_listen_notifications_total", 1)
	heard := deaf.Metric(t, "tailroom_listen_notifications_total")
	proxy.SwallowNotifications(true)
	for range 3 {
		require.Less(t, arrives(), 5*time.Second, "the poll finds it")
	}
	awaitNotifications(t, deaf, "poll-only")
	took := time.Duration(0)
	for range 5 {
		took += arrives()
	}
	require.Less(t, took, 5*time.Second, "now it polls more often")
	require.InDelta(t, heard, deaf.Metric(t, "tailroom_listen_notifications_total"), 0)
	awaitMetric(t, deaf, "tailroom_hub_polled_events_total", 6)
	require.Equal(t, http.StatusOK, deaf.Get(t, "/readyz", "").Status, "it is slower, not broken")

	proxy.SwallowNotifications(false)
	awaitNotifications(t, deaf, "listening")
	arrives()
	awaitMetric(t, deaf, "tailroom_listen_notifications_total", heard+1)
}

// PostgreSQL is restarted while everybody writes and reads: sockets stay up,
// are told that the log is away and that it is back, publishes succeed in the
// end, nothing is lost and nothing comes twice.
func TestFailure_PostgresRestarted(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"fast": syscall.SIGINT, "immediate": syscall.SIGQUIT, "killed": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t)
			dsn := pgtest.DatabaseOn(t, server)
			instances := []*apptest.Instance{
				apptest.Start(t, dsn), apptest.Start(t, dsn, slices.Concat(tinyWindow, []string{"TAILROOM_PUBLISH_TIMEOUT=50ms"})...),
			}
			tr := newTraffic(t, dsn, instances)
			require.NoError(t, syscall.Kill(server.PID(), signal))
			tr.awaitSaid(t, "degraded") // or some would not notice how short it was
			require.NoError(t, server.Restart(t.Context(), signal))
			tr.goesOn(t)
			tr.awaitSaid(t, "live")
			tr.finish(t)
			tr.requireSaid(t, "degraded", "live")
		})
	}
}

// Every connection to the database is cut in the middle of whatever it was
// doing, again and again.
func TestFailure_ConnectionsCut(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	proxy.Delay(time.Millisecond) // there is always something under way
	instances := []*apptest.Instance{apptest.Start(t, proxy.DSN()), apptest.Start(t, proxy.DSN(), tinyWindow...)}
	tr := newTraffic(t, dsn, instances)
	for range 10 {
		proxy.Cut()
		tr.goesOn(t)
	}
	tr.finish(t)
	for _, i := range instances {
		require.Positive(t, i.Metric(t, "tailroom_append_retries_total"))
	}
}

// The log cannot be reached at all: publishes are refused and can be repeated,
// whoever is connected stays so, who comes back with a cursor of the window is
// welcome, and all goes on when the log is back.
func TestFailure_LogAway(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	instance := apptest.Start(t, proxy.DSN(), "TAILROOM_PUBLISH_TIMEOUT=200ms")
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	order := func(n int) (body, id string) {
		id = uuid.NewString()
		return fmt.Sprintf(`{"id":%q,"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1"}}`, id, n), id
	}
	const subscribe = `[{"namespace":"/orders"}]`
	staying, _ := instance.Hello(t, web, "now", subscribe)
	staying.Until(t, "live")
	// publish comes again until it is accepted, as after any refusal: who waits so little
	// may have to.
	publish := func(body string) (receipt apptest.Receipt) {
		apptest.Eventually(t, func() bool {
			answer := instance.Post(t, service, body)
			if answer.Status == http.StatusServiceUnavailable {
				return false
			}
			receipt = decode[struct{ Events []apptest.Receipt }](t, answer.Body).Events[0]
			return true
		}, apptest.Patience, 10*time.Millisecond)
		return receipt
	}
	first, firstID := order(1)
	published := publish(first)
	require.Equal(t, firstID, staying.Collect(t, 1)[0].ID)

	proxy.Refuse(true)
	staying.Until(t, "degraded")
	require.Equal(t, http.StatusServiceUnavailable, instance.Get(t, "/readyz", "").Status)
	require.Equal(t, http.StatusOK, instance.Get(t, "/healthz", "").Status)
	second, secondID := order(2)
	answer := instance.Post(t, service, second)
	require.Equal(t, http.StatusServiceUnavailable, answer.Status)
	require.Equal(t, "unavailable", answer.Code())
	require.NotEmpty(t, answer.Header.Get("Retry-After"))
	require.Contains(t, string(answer.Body), secondID, "who gave no id learns it here")

	back, welcome := instance.Hello(t, web, published.Cursor, subscribe)
	require.Equal(t, published.Cursor, welcome.Cursor)
	require.Equal(t, "degraded", back.Next(t).Type)
	late := instance.Dial(t)
	late.SendJSON(t, map[string]any{"type": "hello", "token": web, "cursor": "now", "subscribe": []any{map[string]any{"namespace": "/orders"}}})
	require.Equal(t, "unavailable", late.Next(t).Code)
	require.Equal(t, 1013, int(late.Closed(t).Code), "come back later")
	require.Equal(t, http.StatusServiceUnavailable, instance.Get(t, "/v1/events?namespace=/orders", web).Status)
	require.Equal(t, http.StatusServiceUnavailable, instance.Get(t, "/v1/stream?namespace=/orders", web).Status)

	proxy.Refuse(false)
	staying.Until(t, "live")
	back.Until(t, "live")
	require.Equal(t, secondID, publish(second).ID)
	again := publish(first)
	require.True(t, again.Duplicate)
	require.Equal(t, published.Cursor, again.Cursor)
	for _, socket := range []*apptest.Socket{staying, back} {
		require.Equal(t, secondID, socket.Collect(t, 1)[0].ID)
	}
	require.Len(t, readLog(t, dsn), 2)
}
