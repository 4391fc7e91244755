package ws_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// held is what a client knows of the streams: from a snapshot, and from the events
// that came after.
type held map[string]int64 // versions

// snapshots reads the snapshots of some namespaces, which come before anything else,
// and whether all of their messages are true at one cursor.
func (h held) snapshots(t testing.TB, s *apptest.Socket, cursor string, namespaces ...string) {
	t.Helper()
	for _, namespace := range namespaces {
		for more := true; more; {
			m := s.Next(t)
			require.Equal(t, "snapshot", m.Type, string(m.Raw))
			var page struct {
				Namespace string
				States    []struct {
					Namespace, Stream string
					Version           int64
				}
				Cursor string
				More   *bool
			}
			require.NoError(t, json.Unmarshal(m.Raw, &page))
			require.Equal(t, []string{namespace, cursor}, []string{page.Namespace, page.Cursor})
			for _, state := range page.States {
				require.Equal(t, namespace, state.Namespace)
				h[namespace+" "+state.Stream] = state.Version
			}
			more = *page.More
		}
	}
}

// hear reads events until one with a position has come: each must be the next of its
// stream.
func (h held) hear(t testing.TB, s *apptest.Socket, last int64) {
	t.Helper()
	for {
		m := s.Next(t)
		require.NotEqual(t, "snapshot", m.Type)
		for _, e := range m.Decoded(t) {
			key := e.Namespace + " " + *e.Stream
			require.Equal(t, h[key]+1, *e.Version, "%s: a seam", key)
			h[key] = *e.Version
			if e.Position == last {
				return
			}
		}
	}
}

// A snapshot and the events after it have no seam, on whichever instance and however
// busy the streams are.
func TestSnapshot_NoSeam(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			answer, err := cluster[n%2].Request(t.Context(), "POST", "/v1/events", service, order(fmt.Sprint(n%17), "b1"), "Content-Type", "application/json")
			if err != nil || answer.Status >= 300 {
				t.Errorf("a publish failed: %v %s", err, answer.Body)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	type client struct {
		held
		*apptest.Socket
	}
	var clients []client
	for n := range 10 {
		s, welcome := cluster[n%2].Hello(t, token, "", `[{"namespace":"/orders","snapshot":true},{"namespace":"/printing-ws","snapshot":true}]`)
		c := client{held{}, s}
		c.snapshots(t, s, welcome.Cursor, "/orders", "/printing-ws")
		clients = append(clients, c)
	}
	close(stop)
	<-done
	last := cluster[0].Publish(t, service, order("the end", "b1"))[0].Position // which no snapshot has
	for _, c := range clients {
		c.hear(t, c.Socket, last)
	}
}

func TestSnapshot_WhatIsAskedFor(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	i.Publish(t, service, order("1", "b1"))
	i.Publish(t, service, order("2", "b2"))
	i.Publish(t, service, `{"namespace":"/orders","type":"orderCancelled","data":{"orderId":"3","branchId":"b1"}}`)
	i.Publish(t, apptest.Token(t, access.Service, "c2"), order("4", "b1"))
	last := i.Publish(t, service, order("1", "b1"))[0]
	awaitStates(t, i, last.Cursor)
	for _, test := range []struct {
		token, cursor, subscribe string
		want                     held
	}{
		{apptest.Token(t, access.Web, "c1"), "", `"snapshot":true`, held{"/orders order:1": 2, "/orders order:2": 1, "/orders order:3": 1}},
		{apptest.Token(t, access.Web, "c1"), "", `"snapshot":"open"`, held{"/orders order:1": 2, "/orders order:2": 1}},
		{apptest.Token(t, access.Web, "c1", "b1"), "", `"snapshot":true`, held{"/orders order:1": 2, "/orders order:3": 1}},
		{apptest.Token(t, access.Web, "c1"), "", `"snapshot":true,"rooms":["branch:b2"]`, held{"/orders order:2": 1}},
		{apptest.Token(t, access.Web, "c1"), "1-1", `"snapshot":true`, held{"/orders order:1": 1}},
		{apptest.Token(t, access.Web, "c1"), "earliest", `"snapshot":true`, held{}},
		{apptest.Token(t, access.Web, "c1"), "now", `"snapshot":true,"rooms":[]`, held{}},
		{apptest.Token(t, access.Web, "c3"), "", `"snapshot":true`, held{}},
	} {
		s, welcome := i.Hello(t, test.token, test.cursor, `[{"namespace":"/orders",`+test.subscribe+`}]`)
		got := held{}
		got.snapshots(t, s, welcome.Cursor, "/orders")
		require.Equal(t, test.want, got, test.subscribe)
	}
	s := i.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": service, "subscribe": []any{map[string]any{"namespace": "/orders", "snapshot": "closed"}}})
	m := s.Next(t)
	require.Equal(t, "invalid_message", m.Code)
	require.Contains(t, string(m.Raw), `"allowed":[true,"open",false]`)
}

// awaitStates waits until the states have come to a cursor.
func awaitStates(t testing.TB, i *apptest.Instance, cursor string) {
	t.Helper()
	token := apptest.Token(t, access.Service, "c1")
	require.Eventually(t, func() bool { return i.Get(t, "/v1/state?limit=1&asOf="+cursor, token).Status == 200 }, apptest.Patience, 10*time.Millisecond)
}

// In the middle of a session the snapshot is true at its present cursor, and comes
// before the first event that the change lets through.
func TestSnapshot_MidSession(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	c := join(t, i, apptest.Token(t, access.Web, "c1"), `[{"namespace":"/orders"}]`)
	for n := range 250 { // more than a message
		i.Publish(t, service, fmt.Sprintf(`{"namespace":"/printing-ws","type":"printJobUpdate","data":{"jobId":"%d","branchId":"b1","status":"queued"}}`, n))
	}
	c.reach(t, i.Publish(t, service, order("1", "b1"))[0].Position)
	m := c.ask(t, "1", `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/printing-ws","snapshot":true},{"namespace":"/orders","snapshot":"open"}]}`)
	require.True(t, m.OK, string(m.Raw))
	last := i.Publish(t, service, `{"namespace":"/printing-ws","type":"printJobUpdate","data":{"jobId":"7","branchId":"b1","status":"printed"}}`)[0]
	h := held{}
	h.snapshots(t, c.Socket, m.Cursor, "/printing-ws", "/orders")
	require.Len(t, h, 251)
	h.hear(t, c.Socket, last.Position)

	many := strings.Repeat(`{"namespace":"/orders","snapshot":true},`, 101)
	m = c.ask(t, "2", `{"type":"subscribe","ref":2,"subscribe":[`+strings.TrimSuffix(many, ",")+`]}`)
	require.Equal(t, "too_large", m.Code)
}

// Where there are no states at the cursor, the client is told to come back, and
// nothing has changed.
func TestSnapshot_Unavailable(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(1952541036, 8)") // somebody leads, and does nothing
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	c := join(t, i, service, `[{"namespace":"/orders"}]`)
	last := i.Publish(t, service, order("1", "b1"))[0]
	c.reach(t, last.Position)
	m := c.ask(t, "1", `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/printing-ws","snapshot":true}]}`)
	require.Equal(t, "unavailable", m.Code)
	m = c.ask(t, "2", `{"type":"subscribe","ref":2,"subscribe":[{"namespace":"/orders"}]}`)
	require.NotContains(t, m.Rooms, "/printing-ws")

	hello := func(cursor string) *apptest.Socket {
		s := i.Dial(t)
		s.SendJSON(t, map[string]any{"type": "hello", "token": service, "cursor": cursor, "subscribe": []any{map[string]any{"namespace": "/orders", "snapshot": true}}})
		return s
	}
	s := hello(last.Cursor)
	require.Equal(t, "unavailable", s.Next(t).Code)
	require.EqualValues(t, 1013, s.Closed(t).Code)
	s = hello("") // at the checkpoint there are states
	require.Equal(t, "1-0", s.Next(t).Cursor)
	h := held{}
	h.snapshots(t, s, "1-0", "/orders")
	h.hear(t, s, last.Position)
	_, err = pool.Exec(t.Context(), "UPDATE tailroom.state_generations SET epoch = 7")
	require.NoError(t, err)
	require.Equal(t, "unavailable", hello("").Next(t).Code)
}

// A client below the floor is told, and the snapshot is of where it goes on.
func TestSnapshot_AfterAReset(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 10")
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	i.Publish(t, service, order("early", "b1"))
	var last int64
	for range 23 {
		last = i.Publish(t, service, order("1", "b1"))[0].Position
	}
	awaitStates(t, i, fmt.Sprintf("1-%d", last))
	apptest.Retain(t, dsn, 20)
	// The window may still hold the events after the cursor; there are no states at it.
	s, _ := i.Hello(t, service, "1-3", `[{"namespace":"/orders","snapshot":true}]`)
	reset := s.Next(t)
	require.Equal(t, []string{"reset", "expired", "1-20"}, []string{reset.Type, reset.Reason, reset.Resume})
	h := held{}
	h.snapshots(t, s, "1-20", "/orders")
	require.Equal(t, held{"/orders order:early": 1, "/orders order:1": 19}, h)
	h.hear(t, s, last)
}
