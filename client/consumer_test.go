package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

func agentToken(t *testing.T) string {
	t.Helper()
	return apptest.Token(t, access.DesktopApp, "c1", "b7")
}

// acknowledged is where the server keeps a consumer.
func acknowledged(t *testing.T, i *apptest.Instance, name string) string {
	t.Helper()
	var list struct {
		Consumers []struct{ Name, Cursor string }
	}
	require.NoError(t, json.Unmarshal(i.Get(t, "/v1/consumers", service(t)).Body, &list))
	for _, c := range list.Consumers {
		if c.Name == name {
			return c.Cursor
		}
	}
	return ""
}

// A consumer is away and gets all that came meanwhile, then what is live. It is
// another process each time: what it knows is at the server.
func TestConsumer_AwayForAWhile(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	shop := serverAt(service(t), cluster[0].URL)
	var want []client.Event
	for life := range 4 {
		f := follow(t, client.Config{Server: serverAt(agentToken(t), cluster[life%2].URL), Consumer: "agent"})
		f.until(t, client.Live)
		_, err := shop.Publish(t.Context(), orders(100*life, 100*life+3)...)
		require.NoError(t, err)
		all := logged(t, shop)
		f.collect(t, all[len(want):])
		f.stop()
		require.NoError(t, <-f.ended)
		apptest.Eventually(t, func() bool { return acknowledged(t, cluster[0], "agent") == f.Cursor() }, apptest.Patience, 10*time.Millisecond,
			"the last word was an acknowledgement")
		_, err = shop.Publish(t.Context(), orders(100*life+3, 100*life+50)...)
		require.NoError(t, err)
		want = all
	}
}

// Acknowledgements are collected: about one a second, however many events there
// are, and one at rest.
func TestConsumer_Acknowledges(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	f := follow(t, client.Config{Server: serverAt(agentToken(t), server.URL), Consumer: "agent"})
	f.until(t, client.Live)
	before := server.Metric(t, "tailroom_consumer_acks_total")
	since := time.Now()
	shop := serverAt(service(t), server.URL)
	for i := range 50 {
		_, err := shop.Publish(t.Context(), orders(i, i+1)...)
		require.NoError(t, err)
		next(t, f.events)
	}
	last := logged(t, shop)[49].Cursor
	apptest.Eventually(t, func() bool { return acknowledged(t, server, "agent") == last }, apptest.Patience, 50*time.Millisecond)
	acks := server.Metric(t, "tailroom_consumer_acks_total") - before
	require.LessOrEqual(t, acks, time.Since(since).Seconds()+2)
	require.GreaterOrEqual(t, acks, 1.0)
}

// A newer session of the consumer replaces the older, which does not come back.
func TestConsumer_IsReplaced(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	first := follow(t, client.Config{Server: serverAt(agentToken(t), cluster[0].URL), Consumer: "agent"})
	first.until(t, client.Live)
	second := follow(t, client.Config{Server: serverAt(agentToken(t), cluster[1].URL), Consumer: "agent"})
	second.until(t, client.Live)
	require.ErrorIs(t, next(t, first.ended), client.ErrReplaced)
	require.Equal(t, client.Live, second.Status().Phase)
}

// A consumer is cut over and over while it works: each event once in this process.
func TestConsumer_IsCut(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	l := apptest.NewLine(t, cluster[0].URL)
	f := follow(t, client.Config{Server: serverAt(agentToken(t), l.URL()), Consumer: "agent"})
	f.until(t, client.Live)
	shop := serverAt(service(t), cluster[0].URL)
	for round := range 4 {
		_, err := shop.Publish(t.Context(), orders(round*20, round*20+20)...)
		require.NoError(t, err)
		l.Turn(cluster[round%2].URL)
		f.until(t, client.Live)
	}
	f.collect(t, logged(t, shop))
	last := f.Cursor()
	apptest.Eventually(t, func() bool { return acknowledged(t, cluster[1], "agent") >= last }, apptest.Patience, 50*time.Millisecond,
		fmt.Sprint("want ", last))
}

// What the handler fails at is not acknowledged.
func TestConsumer_AcknowledgesWhatIsHandled(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	shop := serverAt(service(t), server.URL)
	c := client.Config{Server: serverAt(agentToken(t), server.URL), Consumer: "agent"}
	f := follow(t, c)
	f.until(t, client.Live)
	f.stop()
	_, err := shop.Publish(t.Context(), orders(0, 5)...)
	require.NoError(t, err)
	all := logged(t, shop)
	c.Handler = func(_ context.Context, e client.Event) error {
		if e.ID == all[2].ID {
			return context.Canceled
		}
		return nil
	}
	f = follow(t, c)
	require.ErrorIs(t, next(t, f.ended), context.Canceled)
	apptest.Eventually(t, func() bool { return acknowledged(t, server, "agent") == all[1].Cursor }, apptest.Patience, 10*time.Millisecond)
	c.Handler = nil
	f = follow(t, c)
	f.collect(t, all[2:])
}
