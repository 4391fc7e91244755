package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// A client is cut while other companies and branches are busy, and comes back to
// the other instance, several times. It gets its events once, in order.
func TestRun_OnceAndInOrderHoweverOftenItIsCut(t *testing.T) {
	t.Parallel()
	const rounds, perRound = 4, 30
	cluster := apptest.Cluster(t, 2)
	all := serverAt(apptest.Token(t, access.Service, "*"), cluster[0].URL, cluster[1].URL)
	publish := func(round int) {
		for i := range perRound {
			for _, to := range []struct{ company, branch string }{{"c1", "b7"}, {"c1", "b8"}, {"c2", "b7"}} {
				_, err := all.Publish(t.Context(), client.Draft{
					CompanyID: to.company, Namespace: "/orders", Type: "newOrder",
					Data: map[string]any{"orderId": fmt.Sprintf("%d-%d", round, i), "branchId": to.branch},
				})
				require.NoError(t, err)
			}
		}
	}
	l := apptest.NewLine(t, cluster[0].URL)
	f := follow(t, client.Config{Server: serverAt(web(t), l.URL())})
	f.until(t, client.Live)
	for round := range rounds {
		publish(2 * round)
		l.Turn("")
		f.until(t, client.Offline)
		publish(2*round + 1)
		l.Turn(cluster[(round+1)%2].URL)
		f.until(t, client.Live)
	}
	f.collect(t, logged(t, serverAt(web(t), cluster[0].URL)))
	require.Equal(t, client.Live, f.Status().Phase)
	f.stop()
	require.NoError(t, <-f.ended)
	require.Equal(t, client.Closed, f.Status().Phase)
}

// A line that is half-open closes nothing.
func TestRun_NoticesADeadLineWithinTwoHeartbeats(t *testing.T) {
	t.Parallel()
	const heartbeat = 2 * time.Second
	cluster := apptest.Cluster(t, 2, "TAILROOM_HEARTBEAT="+heartbeat.String())
	l := apptest.NewLine(t, cluster[0].URL)
	f := follow(t, client.Config{Server: serverAt(web(t), l.URL())})
	f.until(t, client.Live)
	l.Hang()
	since := time.Now()
	noticed := f.until(t, client.Offline)
	require.Less(t, time.Since(since), 2*heartbeat+heartbeat/2)
	require.EqualError(t, noticed[len(noticed)-1].Err, "the line is dead: the server was not heard for 4s, two of its heartbeats")

	_, err := serverAt(service(t), cluster[1].URL).Publish(t.Context(), orders(0, 3)...)
	require.NoError(t, err)
	l.Turn(cluster[1].URL)
	f.until(t, client.Live)
	f.collect(t, logged(t, serverAt(web(t), cluster[0].URL)))
}

// Pings are signs of life, and a handler that takes its time is none of death.
func TestRun_KeepsAQuietLine(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1, "TAILROOM_HEARTBEAT=500ms")[0]
	free := make(chan struct{})
	taken := make(chan string, 10)
	f := follow(t, client.Config{
		Server: serverAt(service(t), server.URL),
		Handler: func(ctx context.Context, e client.Event) error {
			select {
			case <-free:
				taken <- e.ID
			case <-ctx.Done(): // the test has failed
			}
			return nil
		},
	})
	f.until(t, client.Live)
	receipts, err := f.Publish(t.Context(), orders(0, 1)...)
	require.NoError(t, err)
	quiet := time.NewTimer(3 * time.Second)
	<-quiet.C
	require.Equal(t, client.Live, f.Status().Phase)
	require.Empty(t, f.statuses)
	close(free)
	require.Equal(t, receipts[0].ID, next(t, taken))
}

// An instance is killed with -9; another one is at another URL.
func TestRun_AnInstanceIsKilled(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	doomed, kill := spawnInstance(t, dsn)
	other := apptest.Start(t, dsn)
	f := follow(t, client.Config{Server: serverAt(service(t), doomed.URL, other.URL)})
	f.until(t, client.Live)
	publishing, stop := context.WithCancel(t.Context())
	published := make(chan int)
	go func() { // through the interruption
		n := 0
		for ; publishing.Err() == nil; n++ {
			if _, err := f.Publish(context.Background(), orders(n, n+1)...); err != nil {
				t.Errorf("publish %d: %v", n, err)
			}
		}
		published <- n
	}()
	for range 20 {
		next(t, f.events)
	}
	kill()
	replayed := f.until(t, client.Live)
	require.Equal(t, client.Offline, replayed[0].Phase)
	require.Error(t, replayed[0].Err)
	for range 20 {
		next(t, f.events)
	}
	stop()
	count := next(t, published)
	all := logged(t, serverAt(service(t), other.URL))
	require.Len(t, all, count, "each was published once")
	f.collect(t, all[40:])
}

func TestRun_LeavesADrainingInstance(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2, "TAILROOM_DRAIN_TIMEOUT=5s")
	f := follow(t, client.Config{Server: serverAt(web(t), cluster[0].URL, cluster[1].URL)})
	first := f.until(t, client.Live)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		cluster[0].Stop()
	}()
	gone := f.until(t, client.Offline)
	var why *client.Error
	require.ErrorAs(t, gone[len(gone)-1].Err, &why)
	require.Equal(t, 1001, why.Close)
	require.Equal(t, "draining", why.Code)
	again := f.until(t, client.Live)
	require.NotEqual(t, first[1].Instance, again[1].Instance)
	require.Equal(t, []string{"branch:b7", "company:c1"}, again[1].Rooms["/orders"])
	<-stopped
}

// The database is away for a while: the client stays, and says so.
func TestRun_Statuses(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	f := follow(t, client.Config{Server: serverAt(web(t), server.URL)})
	var phases []client.Phase
	for _, s := range f.until(t, client.Live) {
		phases = append(phases, s.Phase)
	}
	require.Equal(t, []client.Phase{client.Connecting, client.Replaying, client.Live}, phases)
	f.stop()
	require.Equal(t, client.Status{Phase: client.Closed}, next(t, f.statuses))
}

// The handler is still busy with what an earlier connection brought: that it was live
// is no news when it is offline.
func TestRun_OldNewsIsNoStatus(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	_, err := serverAt(service(t), server.URL).Publish(t.Context(), orders(0, 1)...)
	require.NoError(t, err)
	l := apptest.NewLine(t, server.URL)
	begun, free := make(chan struct{}), make(chan struct{})
	f := follow(t, client.Config{
		Server: serverAt(service(t), l.URL()), From: "earliest", Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler: func(ctx context.Context, _ client.Event) error {
			close(begun)
			select {
			case <-free:
			case <-ctx.Done(): // the test has failed
			}
			return nil
		},
	})
	next(t, begun)
	_, err = f.Publish(t.Context(), client.Draft{ // the answer comes behind the live
		Namespace: "/availability", Type: "availabilityUpdate", Data: map[string]any{"productId": "p", "branchId": "b8", "available": true},
	})
	require.NoError(t, err)
	l.Turn("")
	f.until(t, client.Offline)
	close(free)
	require.Eventually(t, func() bool { return f.Cursor() == "1-1" && client.Waiting(f.Client) == 0 }, apptest.Patience, time.Millisecond)
	f.stop()
	for len(f.statuses) > 0 {
		require.NotEqual(t, client.Live, next(t, f.statuses).Phase)
	}
}

// What the handler fails at stays before the cursor, and the next Run begins with
// it.
func TestRun_EndsWithTheHandlersError(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	out := errors.New("the printer is out of paper")
	var paper atomic.Bool
	printed := make(chan client.Event, 10)
	shop := serverAt(service(t), server.URL)
	f := follow(t, client.Config{
		Server: shop,
		Handler: func(_ context.Context, e client.Event) error {
			if e.Version == 1 && string(e.Data) != "" && e.Stream == "order:2" && !paper.Load() {
				return out
			}
			printed <- e
			return nil
		},
	})
	f.until(t, client.Live)
	_, err := shop.Publish(t.Context(), orders(0, 5)...) // f may end before it would have its answer
	require.NoError(t, err)
	require.ErrorIs(t, next(t, f.ended), out)
	require.ErrorIs(t, f.Status().Err, out)
	_, err = f.Publish(t.Context(), orders(5, 6)...)
	require.ErrorIs(t, err, client.ErrClosed)
	require.ErrorIs(t, err, out)
	paper.Store(true)
	f.run(t)
	for i := range 5 {
		require.Equal(t, fmt.Sprintf("order:%d", i), next(t, printed).Stream)
	}
	require.ErrorIs(t, f.Run(t.Context()), client.ErrRunning)
}

func TestRun_AResetIsNotSwallowed(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	_, err := serverAt(service(t), server.URL).Publish(t.Context(), orders(0, 1)...)
	require.NoError(t, err)
	want := client.Reset{Reason: "diverged", Oldest: "1-0", Resume: "1-1", Snapshot: "/v1/state"}

	f := follow(t, client.Config{Server: serverAt(web(t), server.URL), From: "1-1000"})
	var reset *client.ResetError
	require.ErrorAs(t, next(t, f.ended), &reset)
	require.Equal(t, want, reset.Reset)

	no := errors.New("not now")
	var ready atomic.Bool
	resets := make(chan client.Reset, 10)
	f = follow(t, client.Config{
		Server: serverAt(web(t), server.URL), From: "1-1000",
		OnReset: func(_ context.Context, r client.Reset) error {
			resets <- r
			if !ready.Load() {
				return no
			}
			return nil
		},
	})
	require.ErrorIs(t, next(t, f.ended), no)
	ready.Store(true)
	f.until(t, client.Closed)
	f.run(t)
	live := f.until(t, client.Live)
	require.Equal(t, "1-1", live[len(live)-1].Cursor)
	require.Equal(t, want, next(t, resets))
	require.Equal(t, want, next(t, resets), "it comes until it is dealt with")
	require.Empty(t, resets)
}

// The handler is slow, and calls the server meanwhile. What has no room is read
// later, and calls go on.
func TestRun_TheHandlerIsFarBehind(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	s := serverAt(service(t), server.URL)
	const count = 400
	text := make([]byte, 4<<10)
	for i := range text {
		text[i] = 'x'
	}
	for range count / 100 {
		list := orders(0, 100)
		for i := range list {
			list[i].Data.(map[string]any)["note"] = string(text)
		}
		_, err := s.Publish(t.Context(), list...)
		require.NoError(t, err)
	}
	want := logged(t, s)
	events := make(chan client.Event, count)
	var f *follower
	c := client.Config{
		Server: s, From: "earliest", Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler: func(ctx context.Context, e client.Event) error {
			_, err := f.Publish(ctx, client.Draft{
				Namespace: "/availability", Type: "availabilityUpdate", CausationID: e.ID,
				Data: map[string]any{"productId": "p", "branchId": "b7", "available": true},
			})
			events <- e
			return err
		},
	}
	f = &follower{events: events, statuses: make(chan client.Status, 1000), ended: make(chan error, 1)}
	c.OnStatus = func(s client.Status) { f.statuses <- s }
	var err error
	f.Client, err = client.New(c)
	require.NoError(t, err)
	client.SetLimit(f.Client, 256<<10)
	f.run(t)
	f.collect(t, want)
	connections := 0
	for _, s := range f.until(t, client.Live) {
		require.NotEqual(t, client.Offline, s.Phase)
		if s.Phase == client.Replaying {
			connections++
		}
	}
	require.Greater(t, connections, 2)
	f.stop()
	require.NoError(t, <-f.ended)
}

func TestSubscribe(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	l := apptest.NewLine(t, server.URL)
	f := follow(t, client.Config{Server: serverAt(web(t), l.URL()), Subscribe: []client.Subscription{{Namespace: "/orders"}}})
	f.until(t, client.Live)
	require.NoError(t, f.Subscribe(t.Context(), client.Subscription{Namespace: "/availability"}))
	require.NoError(t, f.Unsubscribe(t.Context(), client.Subscription{Namespace: "/orders", Rooms: []string{"company:c1"}}))
	require.ErrorIs(t, f.Subscribe(t.Context(), client.Subscription{Namespace: "/nowhere"}), &client.Error{Code: "unknown_namespace"})
	require.ErrorIs(t, f.Subscribe(t.Context()), &client.Error{Code: "invalid_message"})
	l.Turn(server.URL)
	again := f.until(t, client.Replaying)
	require.Equal(t, map[string][]string{"/orders": {"branch:b7"}, "/availability": {"branch:b7", "company:c1"}}, again[len(again)-1].Rooms)
	require.NoError(t, f.Unsubscribe(t.Context(), client.Subscription{Namespace: "/orders"}))
	l.Turn(server.URL)
	again = f.until(t, client.Replaying)
	require.Equal(t, map[string][]string{"/availability": {"branch:b7", "company:c1"}}, again[len(again)-1].Rooms)
}

func TestPublish(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	f := follow(t, client.Config{Server: serverAt(service(t), server.URL)})
	one := orders(7, 8)[0]
	one.ID, one.ExpectedVersion = client.DeriveID("a", "b"), new(int64(0))
	receipts, err := f.Publish(t.Context(), one)
	require.NoError(t, err)
	require.Equal(t, []client.Receipt{{Cursor: "1-1", Position: 1, ID: one.ID, Stream: "order:7", Version: 1}}, receipts)
	receipts, err = f.Publish(t.Context(), one)
	require.NoError(t, err)
	require.True(t, receipts[0].Duplicate)

	one.ID = ""
	_, err = f.Publish(t.Context(), one)
	var refused *client.Error
	require.ErrorAs(t, err, &refused)
	require.ErrorIs(t, err, client.ErrVersionConflict)
	require.NotErrorIs(t, err, client.ErrForbidden)
	require.Equal(t, 409, refused.Status)
	require.Equal(t, []client.Conflict{{Namespace: "/orders", Stream: "order:7", CurrentVersion: 1}}, refused.Conflicts)
	var current int
	require.True(t, refused.Field("currentVersion", &current))
	require.Equal(t, 1, current)
	require.False(t, refused.Field("nothing", &current))

	_, err = f.Publish(t.Context(), client.Draft{Namespace: "/orders", Type: "newOrder", Data: map[string]any{"branchId": "b7"}})
	require.ErrorIs(t, err, client.ErrSchemaViolation)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, []client.Violation{{Path: "/orderId", Message: "is required"}}, refused.Violations)

	_, err = f.Publish(t.Context(), client.Draft{Namespace: "/orders", Type: "newOrder", Data: make([]byte, 5<<20)})
	require.ErrorIs(t, err, client.ErrTooLarge, "and the connection stays")
	_, err = f.Publish(t.Context(), client.Draft{Namespace: "/orders", Type: "newOrder", Data: make(chan int)})
	require.ErrorContains(t, err, "encoding")
	f.until(t, client.Live)

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = f.Publish(gone, one)
	require.ErrorIs(t, err, context.Canceled)
}

// A server that takes less than usual closes the connection for it. The message is
// refused, and the client stays.
func TestPublish_MoreThanThisServerTakes(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=32KiB")[0]
	f := follow(t, client.Config{Server: serverAt(service(t), server.URL)})
	_, err := f.Publish(t.Context(), orders(0, 1000)...)
	require.ErrorIs(t, err, client.ErrTooLarge)
	_, err = f.Publish(t.Context(), orders(0, 1)...)
	require.NoError(t, err)
	require.Len(t, logged(t, serverAt(service(t), server.URL)), 1)
}
