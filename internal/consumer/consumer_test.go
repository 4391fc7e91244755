package consumer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

const orders = `[{"namespace":"/orders"}]`

// tokenOf mints a token of a subject.
func tokenOf(t *testing.T, subject string, role access.Role, company string, branches ...string) string {
	t.Helper()
	token, err := access.Mint([]byte(apptest.Secret), access.Claims{
		Subject: subject, CompanyID: company, BranchIDs: branches, UserRole: string(role),
		IssuedAt: time.Now().Add(-time.Minute), Expires: time.Now().Add(time.Hour),
	})
	require.NoError(t, err)
	return token
}

// order publishes an order to a branch.
func order(t *testing.T, i *apptest.Instance, token, id, branch string) apptest.Receipt {
	t.Helper()
	return i.Publish(t, token, fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":%q,"branchId":%q}}`, id, branch))[0]
}

func acked(cursor string) func(apptest.Consumer) bool {
	return func(c apptest.Consumer) bool { return c.Cursor == cursor }
}

func away(c apptest.Consumer) bool { return !c.Connected }

// positions are those of the events that a socket gets, n of them.
func positions(t *testing.T, s *apptest.Socket, n int) []int64 {
	t.Helper()
	var list []int64
	for _, e := range s.Collect(t, n) {
		list = append(list, e.Position)
	}
	return list
}

// A consumer that brings no cursor goes on behind what it acknowledged: on another
// instance, and when everything was stopped meanwhile. What came while it was away,
// from its first connection on, is its backlog.
func TestConsumer_GoesOn(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	one, two := apptest.Start(t, dsn), apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	order(t, one, service, "before", "b1")
	s, welcome := one.Consume(t, agent, "kitchen-1", orders)
	require.Equal(t, "1-1", welcome.Cursor, "a new consumer begins at now")
	s.Until(t, "live")
	require.NoError(t, s.Conn.CloseNow())
	one.AwaitConsumer(t, service, "kitchen-1", away)

	order(t, one, service, "a", "b1")
	order(t, one, service, "elsewhere", "b2")
	order(t, one, service, "b", "b1")
	s, welcome = two.Consume(t, agent, "kitchen-1", orders)
	require.Equal(t, "1-1", welcome.Cursor)
	require.Equal(t, []int64{2, 4}, positions(t, s, 2))
	s.Ack(t, "1-2")
	s.Ack(t, "1-1") // less than before
	pong(t, s)      // it has been heard
	require.NoError(t, s.Conn.CloseNow())
	c := one.AwaitConsumer(t, service, "kitchen-1", func(c apptest.Consumer) bool { return acked("1-2")(c) && away(c) })
	require.Equal(t, int64(1), c.LagEvents)
	require.Positive(t, c.LagSeconds)
	require.NotEmpty(t, c.OldestUnacknowledgedAt)
	require.WithinDuration(t, time.Now(), c.Since, 10*time.Second)
	require.Equal(t, []string{"c1", "agent", "desktop_app", ""}, []string{c.CompanyID, c.Subject, c.Role, c.Instance})

	one.Stop()
	two.Stop()
	three := apptest.Start(t, dsn, "INSTANCE_ID=three")
	s, welcome = three.Consume(t, agent, "kitchen-1", orders)
	require.Equal(t, "1-2", welcome.Cursor)
	require.Equal(t, []int64{4}, positions(t, s, 1))
	s.Ack(t, "1-4")
	c = three.AwaitConsumer(t, service, "kitchen-1", acked("1-4"))
	require.True(t, c.Connected)
	require.Equal(t, "three", c.Instance)
	require.Zero(t, c.LagEvents)
	require.Zero(t, c.LagSeconds)

	// Its own cursor wins, and does not change what it has acknowledged.
	s = three.Dial(t)
	s.SendJSON(t, map[string]any{"type": "hello", "token": agent, "consumer": "kitchen-1", "cursor": "earliest", "subscribe": []any{map[string]any{"namespace": "/orders"}}})
	require.Equal(t, "1-0", s.Next(t).Cursor)
	require.Equal(t, []int64{1, 2, 4}, positions(t, s, 3))
	s.Ack(t, "1-1")
	pong(t, s)
	require.NoError(t, s.Conn.CloseNow())
	three.AwaitConsumer(t, service, "kitchen-1", func(c apptest.Consumer) bool { return acked("1-4")(c) && away(c) })
}

// A newer session of a consumer replaces the older one: at once on the same
// instance, soon on another. What the older acknowledges then counts no more.
func TestConsumer_Replaced(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	first, _ := cluster[0].Consume(t, agent, "k", orders)
	order(t, cluster[0], service, "a", "b1")
	require.Equal(t, []int64{1}, positions(t, first, 1))
	first.Ack(t, "1-1")
	first.SendJSON(t, map[string]any{"type": "ping"})
	first.Until(t, "pong")
	second, welcome := cluster[0].Consume(t, agent, "k", orders)
	require.Equal(t, "1-1", welcome.Cursor, "what the older one acknowledged is known")
	closed := first.Closed(t)
	require.Equal(t, []any{4104, "replaced"}, []any{int(closed.Code), closed.Reason})

	second.Until(t, "live")
	third, _ := cluster[1].Consume(t, agent, "k", orders)
	order(t, cluster[0], service, "b", "b1")
	closed = second.Closed(t)
	require.Equal(t, []any{4104, "replaced"}, []any{int(closed.Code), closed.Reason})
	require.Equal(t, []int64{2}, positions(t, third, 1))
	require.InDelta(t, 1, cluster[0].Metric(t, `tailroom_sessions_closed_total{reason="replaced"}`), 1)
	third.Ack(t, "1-2")
	c := cluster[0].AwaitConsumer(t, service, "k", acked("1-2"))
	require.True(t, c.Connected)
	require.Equal(t, cluster[1].Get(t, "/healthz", "").Field("instance"), c.Instance)
}

// A name is one subject's, in one company. What goes wrong with a hello leaves the
// session that there is alone.
func TestConsumer_WhoseNameItIs(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	agent := tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := i.Consume(t, agent, "k", orders)
	s.Until(t, "live")
	for name, test := range map[string]struct {
		token, consumer, subscribe, code string
		closed                           int
	}{
		"another subject": {tokenOf(t, "thief", access.DesktopApp, "c1", "b1"), "k", orders, "forbidden", 4102},
		"a person":        {tokenOf(t, "agent", access.Web, "c1"), "k", orders, "forbidden", 4102},
		"an analyst":      {tokenOf(t, "agent", access.Analyst, "c1"), "k", orders, "forbidden", 4102},
		"an admin":        {tokenOf(t, "agent", access.Admin, "c1"), "k", orders, "forbidden", 4102},
		"no name":         {agent, "", orders, "invalid_parameter", 4103},
		"a strange one":   {agent, "k k", orders, "invalid_parameter", 4103},
		"a bad room":      {agent, "k", `[{"namespace":"/orders","rooms":["branch:b2"]}]`, "forbidden", 4102},
		"no namespace":    {agent, "k", `[{"namespace":"/nothing"}]`, "unknown_namespace", 4103},
	} {
		o := i.Dial(t)
		o.Send(t, fmt.Sprintf(`{"type":"hello","token":%q,"consumer":%q,"subscribe":%s}`, test.token, test.consumer, test.subscribe))
		refused := o.Next(t)
		require.Equal(t, []string{"error", test.code}, []string{refused.Type, refused.Code}, name)
		require.NotContains(t, refused.Message, "agent", name)
		require.Equal(t, test.closed, int(o.Closed(t).Code), name)
	}
	other, _ := i.Consume(t, tokenOf(t, "theirs", access.DesktopApp, "c2"), "k", orders)
	other.Until(t, "live")
	mine, theirs := i.Consumers(t, apptest.Token(t, access.Web, "c1"), ""), i.Consumers(t, apptest.Token(t, access.Web, "c2"), "")
	require.Len(t, mine, 1)
	require.Len(t, theirs, 1)
	require.Equal(t, []string{"agent", "theirs"}, []string{mine[0].Subject, theirs[0].Subject})
	s.SendJSON(t, map[string]any{"type": "ping"})
	s.Until(t, "pong")
	require.InDelta(t, 2, i.Metric(t, "tailroom_consumers"), 0)
}

// Only consumers acknowledge, and only what they were sent.
func TestConsumer_AcksWhatWasSent(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := i.Consume(t, agent, "k", orders)
	s.Until(t, "live")
	order(t, i, service, "a", "b1")
	require.Equal(t, []int64{1}, positions(t, s, 1))
	for _, cursor := range []string{"1-2", "2-1", "2-0", "now", "earliest", "", "1", "1-01"} {
		s.Ack(t, cursor)
		refused := s.Next(t)
		require.Equal(t, []string{"error", "invalid_cursor"}, []string{refused.Type, refused.Code}, cursor)
	}
	s.Ack(t, "1-1")
	i.AwaitConsumer(t, service, "k", acked("1-1"))

	plain, _ := i.Hello(t, agent, "", orders)
	plain.Until(t, "live")
	plain.Ack(t, "1-1")
	require.Equal(t, "invalid_message", plain.Next(t).Code)
}
