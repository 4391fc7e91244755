package consumer_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// What has become of an event at each consumer that follows its room, and why it is
// not acknowledged where it is not.
func TestReceipts(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	i := cluster[0]
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	wide := tokenOf(t, "backend", access.Service, "c1")
	done, _ := i.Consume(t, agent, "done", orders)
	behind, _ := cluster[1].Consume(t, agent, "behind", orders)
	offline, _ := i.Consume(t, agent, "offline", orders)
	backend, _ := i.Consume(t, wide, "backend", orders)
	_, _ = i.Consume(t, tokenOf(t, "x", access.DesktopApp, "c1", "b2"), "elsewhere", orders)
	_, _ = i.Consume(t, agent, "other-namespace", `[{"namespace":"/printing-ws"}]`)
	_, _ = i.Consume(t, tokenOf(t, "agent", access.DesktopApp, "c2", "b1"), "other-company", orders)
	offline.Until(t, "live")
	gone := time.Now()
	require.NoError(t, offline.Conn.CloseNow())
	i.AwaitConsumer(t, service, "offline", away)

	first := order(t, i, service, "a", "b1")
	second := order(t, i, service, "b", "b1")
	require.Equal(t, []int64{1, 2}, positions(t, done, 2))
	require.Equal(t, []int64{1, 2}, positions(t, behind, 2))
	require.Equal(t, []int64{1, 2}, positions(t, backend, 2))
	done.Ack(t, "1-2")
	behind.Ack(t, "1-1")
	backend.Ack(t, "1-1")
	i.AwaitConsumer(t, service, "done", acked("1-2"))
	i.AwaitConsumer(t, service, "behind", acked("1-1"))
	i.AwaitConsumer(t, service, "backend", acked("1-1"))
	_, _ = i.Consume(t, agent, "late", orders)

	receipts := i.Receipts(t, service, second.ID)
	require.Len(t, receipts, 5)
	require.Equal(t, "invalid_parameter", i.Get(t, "/v1/events/"+second.ID+"/receipts?after=%00", service).Code())
	r := receipts["done"]
	require.Equal(t, []any{"desktop_app", true, true, ""}, []any{r.Role, r.Addressed, r.Acknowledged, r.Reason})
	require.WithinDuration(t, time.Now(), r.AcknowledgedAt, 30*time.Second)
	for _, name := range []string{"behind", "backend"} {
		r = receipts[name]
		require.Equal(t, []any{true, false, "behind"}, []any{r.Addressed, r.Acknowledged, r.Reason}, name)
		require.Zero(t, r.AcknowledgedAt)
	}
	r = receipts["offline"]
	require.Equal(t, []any{true, false, "offline"}, []any{r.Addressed, r.Acknowledged, r.Reason})
	require.WithinDuration(t, gone, r.Since, 10*time.Second)
	r = receipts["late"]
	require.Equal(t, []any{false, false, "joined_later"}, []any{r.Addressed, r.Acknowledged, r.Reason})
	require.True(t, i.Receipts(t, service, first.ID)["behind"].Acknowledged)

	// The time is that of the acknowledgement that covered it, not of the last.
	then := i.Receipts(t, service, first.ID)["behind"].AcknowledgedAt
	behind.Ack(t, "1-2")
	i.AwaitConsumer(t, service, "behind", acked("1-2"))
	receipts = i.Receipts(t, service, first.ID)
	require.Equal(t, then, receipts["behind"].AcknowledgedAt)
	require.True(t, i.Receipts(t, service, second.ID)["behind"].AcknowledgedAt.After(then))

	// Nobody sees more than he may.
	path := "/v1/events/" + second.ID + "/receipts"
	for name, test := range map[string]struct {
		token string
		want  []string
	}{
		"its agent":         {agent, []string{"behind", "done", "late", "offline"}},
		"another agent":     {tokenOf(t, "x", access.DesktopApp, "c1", "b1"), nil},
		"a user":            {apptest.Token(t, access.Web, "c1"), []string{"backend", "behind", "done", "late", "offline"}},
		"of the branch":     {apptest.Token(t, access.Web, "c1", "b1"), []string{"backend", "behind", "done", "late", "offline"}},
		"the platform":      {apptest.Token(t, access.Admin, "*"), []string{"backend", "behind", "done", "late", "offline"}},
		"analysts of all":   {apptest.Token(t, access.Analyst, "*"), []string{"backend", "behind", "done", "late", "offline"}},
		"a service for all": {apptest.Token(t, access.Service, "*"), []string{"backend", "behind", "done", "late", "offline"}},
	} {
		query := ""
		if name == "a service for all" {
			query = "?companyId=c1"
		}
		answer := cluster[1].Get(t, path+query, test.token)
		require.Equal(t, http.StatusOK, answer.Status, "%s: %s", name, answer.Body)
		var page struct{ Receipts []apptest.Receipted }
		require.NoError(t, json.Unmarshal(answer.Body, &page))
		var names []string
		for _, r := range page.Receipts {
			names = append(names, r.Name)
		}
		require.Equal(t, test.want, names, name)
	}
	for name, token := range map[string]string{
		"another company": apptest.Token(t, access.Admin, "c2"), "another branch": apptest.Token(t, access.Web, "c1", "b2"),
	} {
		require.Equal(t, "not_found", i.Get(t, path, token).Code(), name)
	}
	require.Equal(t, "invalid_parameter", i.Get(t, path+"?x=1", service).Code())
	require.Equal(t, "unauthenticated", i.Get(t, path, "").Code())
}

// What a consumer has not acknowledged is counted so far, and for one that is named
// farther.
func TestConsumers_LagIsMore(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	s, _ := i.Consume(t, agent, "k", orders)
	s.Until(t, "live")
	event := `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`
	for _, n := range []int{500, 500, 1} {
		i.Publish(t, service, "["+strings.TrimSuffix(strings.Repeat(event+",", n), ",")+"]")
	}
	of := func(token, query string) []any {
		list := i.Consumers(t, token, query)
		require.Len(t, list, 1)
		return []any{list[0].LagEvents, list[0].LagIsMore}
	}
	require.Equal(t, []any{int64(1000), true}, of(service, ""))
	require.Equal(t, []any{int64(1001), false}, of(service, "name=k"))
	require.Equal(t, []any{int64(1000), true}, of(apptest.Token(t, access.Admin, "*"), "name=k"), "there may be one in every company")
}

// Who sees which consumers, page by page.
func TestConsumers_List(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "INSTANCE_ID=node")[0]
	agent1, agent2 := tokenOf(t, "one", access.DesktopApp, "c1", "b1"), tokenOf(t, "two", access.DesktopApp, "c1", "b2")
	for name, token := range map[string]string{
		"a": agent1, "b": agent2, "c": agent1, "d:/orders": tokenOf(t, "service", access.Service, "c1"),
		"z": tokenOf(t, "one", access.DesktopApp, "c2", "b1"),
	} {
		s, _ := i.Consume(t, token, name, orders)
		s.Until(t, "live")
		if name == "c" {
			require.NoError(t, s.Conn.CloseNow())
		}
	}
	admin := apptest.Token(t, access.Admin, "*")
	i.AwaitConsumer(t, admin, "c", away)
	names := func(token, query string) (names []string) {
		for _, c := range i.Consumers(t, token, query) {
			names = append(names, c.Name)
		}
		return names
	}
	require.Equal(t, []string{"a", "b", "c", "d:/orders", "z"}, names(admin, ""))
	require.Equal(t, []string{"z"}, names(admin, "companyId=c2"))
	require.Equal(t, []string{"a", "b", "c", "d:/orders"}, names(apptest.Token(t, access.Web, "c1"), ""))
	require.Equal(t, []string{"a", "c", "d:/orders"}, names(apptest.Token(t, access.Web, "c1", "b1"), ""))
	require.Equal(t, []string{"a", "c"}, names(agent1, ""))
	require.Equal(t, []string{"b"}, names(agent2, ""))
	require.Equal(t, []string{"z"}, names(apptest.Token(t, access.Analyst, "c2"), ""))
	require.Equal(t, []string{"c"}, names(admin, "connected=false"))
	require.Equal(t, []string{"d:/orders"}, names(admin, "name=d:%2Forders"))
	require.Empty(t, names(agent2, "name=a"))
	require.Equal(t, []string{"a", "b", "d:/orders", "z"}, names(admin, "connected=true"))
	require.Equal(t, "node", i.Consumers(t, agent2, "")[0].Instance)

	var pages []string
	for after := ""; ; {
		answer := i.Get(t, "/v1/consumers?limit=2&after="+after, admin)
		var page struct {
			Consumers []apptest.Consumer
			More      bool
			Next      string
		}
		require.NoError(t, json.Unmarshal(answer.Body, &page))
		for _, c := range page.Consumers {
			pages = append(pages, c.CompanyID+" "+c.Name)
		}
		if !page.More {
			break
		}
		after = page.Next
	}
	require.Equal(t, []string{"c1 a", "c1 b", "c1 c", "c1 d:/orders", "c2 z"}, pages)

	for _, query := range []string{"after=x", "after=c1/ä", "limit=0", "limit=101", "connected=1", "name=", "name=ä", "subject=one", "after=%zz"} {
		require.Equal(t, "invalid_parameter", i.Get(t, "/v1/consumers?"+query, admin).Code(), query)
	}
	require.Equal(t, "invalid_parameter", i.Get(t, "/v1/consumers", apptest.Token(t, access.Service, "*")).Code())
	require.Equal(t, "forbidden", i.Get(t, "/v1/consumers?companyId=c2", agent1).Code())
	require.Equal(t, "unauthenticated", i.Get(t, "/v1/consumers", "").Code())
}

// A lag is what is addressed to the consumer, counted once, and only so far.
func TestConsumers_Lag(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	one, _ := i.Consume(t, tokenOf(t, "a", access.DesktopApp, "c1", "b1", "b2"), "branches", orders)
	one.Until(t, "live")
	wide, _ := i.Consume(t, tokenOf(t, "a", access.DesktopApp, "c1"), "company", `[{"namespace":"/orders"},{"namespace":"/orders","rooms":["branch:b1"]}]`)
	wide.Until(t, "live")
	lags := func() map[string]int64 {
		lags := map[string]int64{}
		for _, c := range i.Consumers(t, service, "") {
			lags[c.Name] = c.LagEvents
			require.Equal(t, c.LagEvents > 10_000, c.LagIsMore)
		}
		return lags
	}
	publish := func(rooms string) {
		i.Publish(t, service, fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","rooms":%s,"data":{"orderId":"1","branchId":"b1"}}`, rooms))
	}
	publish(`["branch:b1","branch:b2"]`)
	publish(`["branch:b3","branch:b2"]`)
	publish(`["branch:b3"]`)
	publish(`["company:c1"]`)
	i.Publish(t, service, `{"namespace":"/printing-ws","type":"printer:test","data":{"printerId":"p","branchId":"b1"}}`)
	require.Equal(t, map[string]int64{"branches": 3, "company": 4}, lags())

	// What it follows is as it was subscribed last.
	one.Send(t, `{"type":"unsubscribe","ref":1,"unsubscribe":[{"namespace":"/orders","rooms":["branch:b2"]}]}`)
	i.AwaitConsumer(t, service, "branches", func(c apptest.Consumer) bool { return c.LagEvents == 2 })
	one.Send(t, `{"type":"subscribe","ref":2,"subscribe":[{"namespace":"/printing-ws"}]}`)
	i.AwaitConsumer(t, service, "branches", func(c apptest.Consumer) bool { return c.LagEvents == 3 })

	exec(t, pool, `INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms, occurred_at, recorded_at, correlation_id, data)
		SELECT nextval('tailroom.positions'), 1, gen_random_uuid(), 'c1', '/orders', 'newOrder', 1, '{branch:b3}', now(), now(), 'x', '{}' FROM generate_series(1, 10100)`)
	c := i.AwaitConsumer(t, service, "company", func(c apptest.Consumer) bool { return c.LagIsMore })
	require.Equal(t, int64(10_000), c.LagEvents)
	require.Equal(t, int64(3), i.AwaitConsumer(t, service, "branches", func(apptest.Consumer) bool { return true }).LagEvents)

	// Nothing at all is a pause: it still lags behind what it followed.
	one.Send(t, `{"type":"unsubscribe","ref":3,"unsubscribe":[{"namespace":"/orders"},{"namespace":"/printing-ws"}]}`)
	one.Ack(t, "1-1")
	require.Positive(t, i.AwaitConsumer(t, service, "branches", acked("1-1")).LagEvents)
}

// Administrators forget a consumer that is gone for good. Its name is free then.
func TestConsumers_Erase(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, admin := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Admin, "c1")
	s, _ := i.Consume(t, tokenOf(t, "scrapped", access.DesktopApp, "c1", "b1"), "pc:/1", orders)
	s.Until(t, "live")
	erase := func(token, name, query string) apptest.Answer {
		return i.Do(t, http.MethodDelete, "/v1/consumers/"+name+"?"+query, token, "")
	}
	answer := erase(admin, "pc:%2F1", "")
	require.Equal(t, []any{http.StatusConflict, "consumer_connected"}, []any{answer.Status, answer.Code()})
	require.NoError(t, s.Conn.CloseNow())
	i.AwaitConsumer(t, service, "pc:/1", away)
	for name, token := range map[string]string{
		"a service": service, "a user": apptest.Token(t, access.Web, "c1"), "of a branch": apptest.Token(t, access.Admin, "c1", "b1"),
	} {
		require.Equal(t, "forbidden", erase(token, "pc:%2F1", "").Code(), name)
	}
	require.Equal(t, "not_found", erase(apptest.Token(t, access.Admin, "c2"), "pc:%2F1", "").Code())
	require.Equal(t, "invalid_parameter", erase(apptest.Token(t, access.Admin, "*"), "pc:%2F1", "").Code())
	require.Equal(t, "invalid_parameter", erase(admin, "pc:%2F1", "reason=").Code())
	require.Equal(t, "not_found", erase(admin, "pc", "").Code())
	require.Equal(t, "not_found", erase(admin, "%00", "").Code())

	answer = erase(admin, "pc:%2F1", "reason=scrapped")
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	require.Equal(t, []string{"pc:/1", "scrapped", "c1"}, []string{answer.Field("consumer"), answer.Field("reason"), answer.Field("companyId")})
	require.Empty(t, i.Consumers(t, admin, ""))
	told, _, _ := i.History(t, admin, "namespace=/system&type=consumerErased")
	require.Len(t, told, 1)
	require.Equal(t, answer.Field("cursor"), told[0].Cursor)
	require.JSONEq(t, `{"consumer":"pc:/1","subject":"scrapped","cursor":"1-0","reason":"scrapped","actor":"user:test-admin"}`, string(told[0].Data))
	s, welcome := i.Consume(t, tokenOf(t, "successor", access.DesktopApp, "c1", "b1"), "pc:/1", orders)
	require.Equal(t, "1-1", welcome.Cursor)
	s.Until(t, "live")
}
