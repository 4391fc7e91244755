package client_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// versions are what a client holds of streams: from snapshots, and from the events
// that came after.
type versions struct {
	t *testing.T

	mu    sync.Mutex
	held  map[string]int64
	pages int
}

func (v *versions) snapshot(_ context.Context, s client.Snapshot) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.First {
		v.held = map[string]int64{}
	}
	v.pages++
	for _, state := range s.States {
		if !json.Valid(state.State) || state.Namespace != "/orders" || state.UpdatedAt.IsZero() {
			v.t.Errorf("a state is wrong: %+v", state)
		}
		v.held[state.Stream] = state.Version
	}
	return nil
}

func (v *versions) event(_ context.Context, e client.Event) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.Version != v.held[e.Stream]+1 {
		v.t.Errorf("%s: version %d behind %d", e.Stream, e.Version, v.held[e.Stream])
	}
	v.held[e.Stream] = e.Version
	return nil
}

func (v *versions) of(stream string) int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.held[stream]
}

// The state comes first, then every event behind it, without a seam, while others
// publish, and once: reconnecting goes on with events.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	shop := serverAt(service(t), cluster[0].URL)
	_, err := shop.Publish(t.Context(), orders(0, 300)...)
	require.NoError(t, err)
	publishing, stop := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	publisher.Go(func() {
		for publishing.Err() == nil {
			if _, err := shop.Publish(context.Background(), orders(7, 9)...); err != nil {
				t.Error(err)
			}
		}
	})
	l := apptest.NewLine(t, cluster[0].URL)
	v := &versions{t: t, held: map[string]int64{}}
	f := follow(t, client.Config{
		Server: serverAt(web(t), l.URL()), OnSnapshot: v.snapshot, Handler: v.event,
		Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: client.AllStates}},
	})
	f.until(t, client.Live)
	pages := v.pages
	require.Positive(t, pages)
	l.Turn(cluster[1].URL)
	f.until(t, client.Live)
	stop()
	publisher.Wait()
	var want int64
	for e, err := range shop.History(t.Context(), client.Query{Stream: "order:7"}) {
		require.NoError(t, err)
		want = e.Version
	}
	require.Eventually(t, func() bool { return v.of("order:7") == want }, apptest.Patience, 1e7)
	require.EqualValues(t, 1, v.of("order:299"))
	f.stop()
	require.Equal(t, pages, v.pages)
}

// A client that is told of a reset gets the state of where it goes on.
func TestSnapshot_AfterAReset(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	shop := serverAt(service(t), server.URL)
	_, err := shop.Publish(t.Context(), orders(0, 3)...)
	require.NoError(t, err)
	v := &versions{t: t, held: map[string]int64{}}
	resets := make(chan client.Reset, 1)
	f := follow(t, client.Config{
		Server: serverAt(web(t), server.URL), OnSnapshot: v.snapshot, Handler: v.event, From: "1-1000",
		Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: client.AllStates}},
		OnReset: func(_ context.Context, r client.Reset) error {
			resets <- r
			return nil
		},
	})
	f.until(t, client.Live)
	require.Equal(t, "1-3", next(t, resets).Resume)
	require.EqualValues(t, 1, v.of("order:2"))
	require.Equal(t, "1-3", f.Cursor())
}

// Streams that are closed are left out, unless all are asked for.
func TestSnapshot_Extent(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	shop := serverAt(service(t), server.URL)
	receipts, err := shop.Publish(t.Context(), append(orders(0, 2), client.Draft{
		Namespace: "/orders", Type: "orderCancelled", Data: map[string]any{"orderId": "0", "branchId": "b7"},
	})...)
	require.NoError(t, err)
	_, err = shop.State(t.Context(), client.StateQuery{AsOf: receipts[2].Cursor}) // waits until they are there
	require.NoError(t, err)
	for extent, want := range map[client.Extent]map[string]int64{
		client.OpenStates: {"order:1": 1}, client.AllStates: {"order:0": 2, "order:1": 1},
	} {
		v := &versions{t: t, held: map[string]int64{}}
		f := follow(t, client.Config{
			Server: serverAt(web(t), server.URL), OnSnapshot: v.snapshot, Handler: v.event,
			Subscribe: []client.Subscription{{Namespace: "/orders", Snapshot: extent}},
		})
		f.until(t, client.Live)
		f.stop()
		require.Equal(t, want, v.held)
	}
}

func TestServer_State(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	shop := serverAt(service(t), server.URL)
	receipts, err := shop.Publish(t.Context(), orders(0, 25)...)
	require.NoError(t, err)
	got := map[string]bool{}
	q := client.StateQuery{Namespaces: []string{"/orders"}, Stream: "order:", AsOf: receipts[24].Cursor, Limit: 10, Open: new(true)}
	for page := range 3 {
		states, err := shop.State(t.Context(), q)
		require.NoError(t, err)
		require.Equal(t, receipts[24].Cursor, states.Cursor)
		require.Equal(t, page < 2, states.More)
		for _, s := range states.States {
			require.True(t, s.Open)
			require.Equal(t, []string{"branch:b7"}, s.Rooms)
			got[s.Stream] = true
		}
		q.After = states.Next
	}
	require.Len(t, got, 25)
}
