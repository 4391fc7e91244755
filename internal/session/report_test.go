package session

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// Who watches is told when a session begins, whenever it is another, when it is asked
// for, and when it has ended.
func TestRegistry_Watch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(prometheus.NewRegistry())
		changes := make(chan func() Report, 10)
		r.Watch = func(number int64, report func() Report) {
			require.Equal(t, int64(1), number)
			changes <- report
		}
		told := func() Report {
			synctest.Wait()
			require.Len(t, changes, 1)
			return (<-changes)()
		}
		f, engine := newFeed(), Engine{Transport: "polling", Version: 4}
		s, err := New(Config{
			ID: "s", Open: f.open, Sink: &sink{start: time.Now()}, Grant: branch(), Rules: rules, Heartbeat: heartbeat, Start: f.tip,
			Origin: Origin{
				Transport: "socketio", Connection: "c", Address: "192.0.2.1", Client: "screen", Version: "2",
				Engine: func() Engine { return engine },
			},
		}, []Subscription{{Namespace: "/orders", Rooms: []string{"branch:b1"}}})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		began, ended := time.Now(), make(chan Reason, 1)
		go func() { ended <- r.Run(ctx, s) }()
		want := Report{
			Number: 1, Session: "s", Connection: "c", Tenant: "c1", Subject: "9", Role: branch().Role, Transport: "socketio",
			Engine: &Engine{Transport: "polling", Version: 4}, Address: "192.0.2.1", Client: "screen", Version: "2",
			Rooms: map[string][]string{"/orders": {"branch:b1"}}, Since: began,
		}
		require.Equal(t, want, told())

		s.Do(func() error {
			return s.Subscribe(ctx, []Subscription{{Namespace: "/printing-ws", Rooms: []string{"branch:b2"}}})
		})
		want.Rooms = map[string][]string{"/orders": {"branch:b1"}, "/printing-ws": {"branch:b2"}}
		require.Equal(t, want, told())
		s.Do(func() error { return s.Unsubscribe([]Subscription{{Namespace: "/printing-ws"}}) })
		want.Rooms = map[string][]string{"/orders": {"branch:b1"}}
		require.Equal(t, want, told())
		less := branch()
		less.Branches = []string{"b2"}
		s.Do(func() error { s.Renew(less); return nil })
		want.Rooms = map[string][]string{}
		require.Equal(t, want, told())
		engine.Transport, want.Engine = "websocket", &Engine{Transport: "websocket", Version: 4}
		r.Review(s)
		require.Equal(t, want, told())
		r.ReviewAll()
		require.Equal(t, want, told())

		cancel()
		require.Equal(t, Gone, <-ended)
		require.Nil(t, <-changes)
		r.Review(s)
		r.ReviewAll()
		require.Empty(t, changes, "it has ended")
	})
}
