package apptest_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// personal is what must be nowhere in the end.
const personal = "Ada Example"

// resumed is what an instance says of the log's first events to those who come
// back with an old cursor, or ask for it, in every way there is.
func resumed(t *testing.T, i *apptest.Instance, id string) string {
	t.Helper()
	var all strings.Builder
	for _, token := range []string{
		apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1"), apptest.Token(t, access.Admin, "*"),
	} {
		for _, cursor := range []string{"1-0", "earliest"} {
			socket, _ := i.Hello(t, token, cursor, `[{"namespace":"/orders"}]`)
			for _, m := range socket.Until(t, "live") {
				all.Write(m.Raw)
			}
			stream := i.Stream(t, token, "namespace=/orders&cursor="+cursor)
			for event := ""; event != "tailroom.live"; {
				block, err := stream.Next(t)
				require.NoError(t, err)
				all.WriteString(block.Raw)
				event = block.Event
			}
			stream.Close()
			require.NoError(t, socket.Conn.CloseNow())
		}
	}
	return all.String() + asked(t, i, id)
}

// asked is what an instance reads from the database for who asks.
func asked(t *testing.T, i *apptest.Instance, id string) string {
	t.Helper()
	var all strings.Builder
	token := apptest.Token(t, access.Admin, "*")
	for _, path := range []string{"/v1/events", "/v1/events?stream=order:1", "/v1/events?order=desc", "/v1/events/" + id} {
		for _, accept := range []string{"application/json", "application/x-ndjson"} {
			answer := i.Do(t, http.MethodGet, path, token, "", "Accept", accept)
			require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
			all.Write(answer.Body)
		}
	}
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/v1/catalog"} {
		all.Write(i.Get(t, path, token).Body)
	}
	return all.String()
}

// order publishes three orders, of which the second tells who it is for, and
// returns that one.
func order(t *testing.T, i *apptest.Instance, size int) apptest.Receipt {
	t.Helper()
	const one = `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"`
	return i.Publish(t, apptest.Token(t, access.Service, "c1"), `[`+one+`}},`+
		one+`,"customer":{"name":"`+personal+`","note":"`+strings.Repeat("x", size)+`"}}},`+one+`}}]`)[1]
}

// redact erases what the event at a position says, and returns where the log tells
// of it.
func redact(t *testing.T, log *eventlog.Log, position int64) (record int64) {
	t.Helper()
	cursor, err := log.Redact(t.Context(), eventlog.Redaction{
		Position: position, Reason: "request 17", Actor: "officer:1", Replacement: []byte(`{"orderId":"1","erased":true}`),
	})
	require.NoError(t, err)
	return cursor.Position
}

// Data that were delivered are erased. From then on no instance gives them to
// anybody, however he comes: what it had in memory, ready to be sent and
// compressed, is forgotten as well.
func TestRedact_EveryInstanceForgets(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"small": 0, "sent compressed": 20_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			instances := []*apptest.Instance{apptest.Start(t, dsn), apptest.Start(t, dsn)}
			target := order(t, instances[0], size)
			for _, i := range instances {
				i.Reach(t, 3)
				require.Contains(t, resumed(t, i, target.ID), personal)
			}
			follower, _ := instances[1].Hello(t, apptest.Token(t, access.Web, "c1"), "1-3", `[{"namespace":"/orders"}]`)
			follower.Until(t, "live")

			record := redact(t, eventlog.New(pgtest.Pool(t, dsn)), target.Position)
			for _, i := range instances {
				i.Reach(t, record)
				all := resumed(t, i, target.ID)
				require.NotContains(t, all, personal)
				require.NotContains(t, all, "xxxxx")
				require.Contains(t, all, `"data":{"erased":true,"orderId":"1"}}`)
				require.NotContains(t, all, "eventRedacted")
				require.NotContains(t, all, "request 17")
				require.EqualValues(t, 1, i.Metric(t, "tailroom_hub_redactions_total"))
				require.Zero(t, i.Metric(t, "tailroom_hub_cold_reads_total"), "it was the window that served")
			}

			// Whoever follows goes on, and hears nothing of it.
			next := instances[0].Publish(t, apptest.Token(t, access.Service, "c1"),
				`{"namespace":"/orders","type":"newOrder","data":{"orderId":"2","branchId":"b1"}}`)[0]
			require.Equal(t, next.ID, follower.Collect(t, 1)[0].ID)

			// Who comes later, with a new instance, does not know better.
			late := apptest.Start(t, dsn)
			require.NotContains(t, resumed(t, late, target.ID), personal)
		})
	}
}

// An instance that cannot reach the database does not know what was erased there:
// from its window it gives what it has. When it is back, it forgets before it
// says that it is.
func TestRedact_WhileAnInstanceIsAway(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*pgproxy.Proxy, bool){
		"refused": (*pgproxy.Proxy).Refuse, "unheard": (*pgproxy.Proxy).Blackhole,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			proxy := pgproxy.Start(t, dsn)
			near, far := apptest.Start(t, dsn), apptest.Start(t, proxy.DSN())
			target := order(t, near, 0)
			far.Reach(t, 3)

			cut(proxy, true)
			record := redact(t, eventlog.New(pgtest.Pool(t, dsn)), target.Position)
			near.Reach(t, record)
			require.NotContains(t, resumed(t, near, target.ID), personal)
			token := apptest.Token(t, access.Web, "c1")
			waiting, _ := far.Hello(t, token, "1-1", `[{"namespace":"/orders"}]`)
			require.Contains(t, string(waiting.Next(t).Raw), personal, "it cannot know")

			cut(proxy, false)
			far.Reach(t, record)
			require.NotContains(t, resumed(t, far, target.ID), personal)
		})
	}
}

// Many events are erased while others publish, some of them so old that a window
// no longer holds them. Whoever reads all of it afterwards gets what is left.
func TestRedact_UnderLoad(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	const largest = "TAILROOM_MAX_EVENT_BYTES=16KiB"
	instances := []*apptest.Instance{apptest.Start(t, dsn, largest, "TAILROOM_WINDOW_BYTES=64KiB"), apptest.Start(t, dsn, largest)}
	var publishing errgroup.Group
	var stopped atomic.Bool
	randoms := newRandom(t)
	publishers := make([]*publisher, 3)
	for n := range publishers {
		p, random := &publisher{token: apptest.Token(t, access.Service, "c1")}, randoms()
		publishers[n] = p
		publishing.Go(func() error {
			for !stopped.Load() {
				body, ids := randomGroup(random, "c1", 3)
				if _, err := p.publish(t.Context(), instances, body, ids); err != nil {
					return err
				}
			}
			return nil
		})
	}
	log := eventlog.New(pgtest.Pool(t, dsn))
	erased := map[int64]bool{}
	for position := int64(1); len(erased) < 40; position += 3 {
		var target *event.Entry
		apptest.Eventually(t, func() bool { // or the publishers come to it
			list, err := log.Tail(t.Context(), position-1, 1)
			require.NoError(t, err)
			if len(list) > 0 {
				target = list[0]
			}
			return target != nil
		}, apptest.Patience, time.Millisecond)
		if target.Namespace != event.System {
			redact(t, log, target.Cursor.Position)
			erased[target.Cursor.Position] = true
		}
	}
	stopped.Store(true)
	require.NoError(t, publishing.Wait())
	stored := readLog(t, dsn)
	for _, p := range publishers {
		require.NoError(t, p.check(stored))
	}
	for _, i := range instances {
		i.Reach(t, stored[len(stored)-1].Cursor.Position)
		seen := 0
		socket, _ := i.Hello(t, apptest.Token(t, access.Web, "c1"), "earliest", `[{"namespace":"/orders"},{"namespace":"/printing-ws"}]`)
		for _, m := range socket.Until(t, "live") {
			for _, e := range m.Decoded(t) {
				if erased[e.Position] {
					require.JSONEq(t, `{"orderId":"1","erased":true}`, string(e.Data))
					seen++
				}
			}
		}
		require.Equal(t, len(erased), seen)
	}
	require.Positive(t, instances[0].Metric(t, "tailroom_hub_cold_reads_total"))
	require.Positive(t, instances[1].Metric(t, "tailroom_hub_redactions_total"))
}
