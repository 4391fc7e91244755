package api_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// statePage is an answer of GET /v1/state.
type statePage struct {
	Cursor string `json:"cursor"`
	States []struct {
		CompanyID, Namespace, Stream string
		Version                      int64
		State                        map[string]any
		Open                         bool
		Rooms                        []string
		UpdatedAt                    time.Time
	} `json:"states"`
	Next string `json:"next"`
	More bool   `json:"more"`
}

func (p statePage) streams() []string {
	list := []string{}
	for _, s := range p.States {
		list = append(list, s.Stream)
	}
	return list
}

// states reads GET /v1/state, which must answer.
func states(t testing.TB, i *apptest.Instance, token, query string) statePage {
	t.Helper()
	answer := i.Get(t, "/v1/state?"+query, token)
	require.Equal(t, 200, answer.Status, string(answer.Body))
	var page statePage
	require.NoError(t, json.Unmarshal(answer.Body, &page))
	return page
}

// settled waits until the states have come to a cursor.
func settled(t testing.TB, i *apptest.Instance, token, cursor string) {
	t.Helper()
	require.Eventually(t, func() bool { return i.Get(t, "/v1/state?limit=1&asOf="+cursor, token).Status == 200 }, apptest.Patience, tick)
}

func order(id, branch, more string) string {
	return fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":%q,"branchId":%q%s}}`, id, branch, more)
}

func moved(id, branch, status string) string {
	return fmt.Sprintf(`{"namespace":"/orders","type":"orderStatusUpdate","data":{"orderId":%q,"branchId":%q,"status":%q}}`, id, branch, status)
}

func TestState(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	service := apptest.Token(t, access.Service, "c1")
	i[0].Publish(t, service, "["+strings.Join([]string{
		order("1", "b1", `,"total":10,"note":"n"`), order("2", "b1", ""), order("3", "b2", ""), moved("1", "b1", "accepted"), moved("2", "b1", "delivered"),
		`{"namespace":"/orders","type":"orderCancelled","data":{"orderId":"3","branchId":"b2"}}`, moved("3", "b2", "preparing"),
		`{"namespace":"/printing-ws","type":"printerStatusUpdate","data":{"printerId":"p1","branchId":"b2","status":"online"}}`,
		`{"namespace":"/availability","type":"newAlert","data":{"message":"of no stream"}}`,
	}, ",")+"]")
	last := i[0].Publish(t, apptest.Token(t, access.Service, "c2"), order("1", "b1", ""))[0]
	company, branch := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	for _, node := range i {
		settled(t, node, company, last.Cursor)
	}

	page := states(t, i[1], company, "namespace=/orders")
	require.Equal(t, []string{"order:1", "order:2", "order:3"}, page.streams())
	require.Equal(t, last.Cursor, page.Cursor)
	require.False(t, page.More)
	require.Empty(t, page.Next)
	first := page.States[0]
	require.Equal(t, map[string]any{"orderId": "1", "branchId": "b1", "total": 10.0, "note": "n", "status": "accepted"}, first.State)
	require.Equal(t, []any{"c1", "/orders", int64(2), true, []string{"branch:b1"}}, []any{first.CompanyID, first.Namespace, first.Version, first.Open, first.Rooms})
	events, _, _ := i[0].History(t, company, "stream=order:1&order=desc&limit=1")
	require.Equal(t, events[0].RecordedAt, first.UpdatedAt.Format("2006-01-02T15:04:05.000000Z"))
	require.False(t, page.States[1].Open)
	require.False(t, page.States[2].Open, "what is closed stays closed")

	for query, want := range map[string][]string{
		"":                                 {"order:1", "order:2", "order:3", "printer:p1"},
		"open=true":                        {"order:1", "printer:p1"},
		"open=false":                       {"order:2", "order:3"},
		"stream=order:":                    {"order:1", "order:2", "order:3"},
		"stream=order:2":                   {"order:2"},
		"stream=o%25":                      {},
		"room=branch:b2":                   {"order:3", "printer:p1"},
		"room=branch_b2&room=branch:b1":    {"order:1", "order:2", "order:3", "printer:p1"},
		"room=company:c1":                  {},
		"namespace=/printing-ws":           {"printer:p1"},
		"open=false&room=branch:b1":        {"order:2"},
		"open=true&room=branch:b1":         {"order:1"},
		"namespace=/orders&stream=printer": {},
	} {
		require.Equal(t, want, states(t, i[0], company, query).streams(), query)
	}
	require.Equal(t, []string{"order:1", "order:2"}, states(t, i[0], branch, "").streams())
	require.Equal(t, []string{"order:1"}, states(t, i[0], apptest.Token(t, access.Web, "c2"), "").streams())
	require.Empty(t, states(t, i[0], apptest.Token(t, access.Web, "c2", "b2"), "").streams())
	require.Empty(t, states(t, i[0], apptest.Token(t, access.Web, "c3"), "").streams())
	require.Len(t, states(t, i[0], apptest.Token(t, access.Admin, "*"), "").States, 5)
	require.Len(t, states(t, i[0], apptest.Token(t, access.Service, "*"), "companyId=c2").States, 1)

	for query, want := range map[string]struct {
		status int
		code   string
	}{
		"rooms=branch:b1": {400, "invalid_parameter"}, "open=yes": {400, "invalid_parameter"}, "limit=0": {400, "invalid_parameter"},
		"limit=1001": {400, "invalid_parameter"}, "after=x": {400, "invalid_parameter"}, "after=1-1": {400, "invalid_parameter"},
		"asOf=yesterday": {400, "invalid_parameter"}, "stream=%00": {400, "invalid_parameter"}, "room=table:1": {422, "invalid_room"},
		"namespace=/none": {422, "unknown_namespace"}, "namespace=/system": {422, "unknown_namespace"},
		"asOf=1-999": {410, "cursor_diverged"}, "asOf=7-1": {410, "cursor_diverged"}, "room=branch:b2": {403, "forbidden"}, "a=%zz": {400, "invalid_parameter"},
	} {
		requireProblem(t, i[0].Get(t, "/v1/state?"+query, branch), want.status, want.code, query)
	}
	requireProblem(t, i[0].Get(t, "/v1/state", ""), 401, "unauthenticated")
	requireProblem(t, i[0].Get(t, "/v1/state", apptest.Token(t, access.Service, "*")), 400, "invalid_parameter")
}

// A branch that writes into the stream of another gets nothing of it.
func TestState_StreamOfAnotherBranch(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	company, own, other := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1"), apptest.Token(t, access.Web, "c1", "b2")
	i.Publish(t, apptest.Token(t, access.Service, "c1"), order("7", "b1", `,"customerName":"Ada Example"`))
	last := i.Publish(t, other,
		`{"namespace":"/orders","type":"orderStatusUpdate","stream":"order:7","data":{"orderId":"7","branchId":"b2","status":"accepted"}}`)[0]
	settled(t, i, company, last.Cursor)
	require.Empty(t, states(t, i, other, "").States)
	require.Empty(t, states(t, i, other, "room=branch:b2").States)
	require.Empty(t, states(t, i, own, "").States, "it cannot read the second event")
	require.Len(t, states(t, i, company, "").States, 1)
	require.Len(t, states(t, i, own, "asOf=1-1").States, 1)
	require.Empty(t, states(t, i, other, "asOf=1-1").States)
}

// All pages are true at one cursor, whatever is written between them.
func TestState_PagesUnderWrites(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, company := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	for n := range 30 {
		i.Publish(t, service, order(fmt.Sprintf("%02d", n), "b1", `,"note":"before"`))
	}
	for _, query := range []string{"", "&open=true", "&room=branch:b1", "&room=branch:b1&open=true"} {
		last := i.Publish(t, service, order("first", "b1", ""))[0]
		settled(t, i, company, last.Cursor)
		page := states(t, i, company, "limit=7"+query)
		at, n, all := page.Cursor, 0, page.streams()
		want := states(t, i, company, "limit=1000&asOf="+at+query)
		for page.More {
			n++
			i.Publish(t, service, "["+strings.Join([]string{ // a new one, one that closes, one that goes elsewhere
				order(fmt.Sprintf("new-%s-%d", query, n), "b1", ""), moved(fmt.Sprintf("%02d", 29-n), "b1", "delivered"),
				order(fmt.Sprintf("%02d", 20-n), "b2", `,"note":"after"`), order(fmt.Sprintf("%02d", n), "b1", `,"note":"passed"`),
			}, ",")+"]")
			page = states(t, i, company, "limit=7"+query+"&after="+page.Next)
			require.Equal(t, at, page.Cursor)
			all = append(all, page.streams()...)
			for _, s := range page.States {
				at := slices.Index(want.streams(), s.Stream)
				require.GreaterOrEqual(t, at, 0, s.Stream)
				require.Equal(t, want.States[at], s)
			}
		}
		require.Greater(t, n, 1)
		require.Equal(t, want.streams(), all)
	}
	// Whatever token somebody makes, it gives him no more than his own.
	stranger := apptest.Token(t, access.Web, "c2")
	require.Empty(t, states(t, i, stranger, "after="+states(t, i, company, "limit=1").Next).States)
}

func TestState_AsOf(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 10")
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	service, company := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	var cursors []string
	for n := range 25 {
		name := []string{"accepted", "preparing", "ready", "picked_up", "delivered"}[n/5]
		cursors = append(cursors, i.Publish(t, service, moved("1", "b1", name))[0].Cursor)
		if n == 0 {
			i.Publish(t, service, order("early", "b1", ""))
		}
	}
	settled(t, i, company, cursors[24])
	apptest.Retain(t, dsn, 20)

	page := states(t, i, company, "asOf="+cursors[20])
	require.Equal(t, cursors[20], page.Cursor)
	require.Equal(t, []string{"order:1", "order:early"}, page.streams())
	require.Equal(t, "delivered", page.States[0].State["status"])
	page = states(t, i, company, "asOf="+cursors[19])
	require.Equal(t, "picked_up", page.States[0].State["status"])
	require.True(t, page.States[0].Open)
	require.Equal(t, []string{"order:early"}, states(t, i, company, "open=true").streams(), "of which no event is left")
	require.Equal(t, cursors[24], states(t, i, company, "asOf=now").Cursor)
	require.Equal(t, "1-20", states(t, i, company, "asOf=earliest").Cursor)

	events, _, _ := i.History(t, company, "limit=1000")
	for _, e := range events {
		require.Equal(t, e.Cursor, states(t, i, company, "asOf="+url.QueryEscape(e.RecordedAt)).Cursor)
	}
	for _, gone := range []string{"1-19", "1-0", "2020-01-31T18:30:00Z", url.QueryEscape("2020-01-31T18:30:00+01:00")} {
		fields := requireProblem(t, i.Get(t, "/v1/state?asOf="+gone, company), 410, "cursor_expired")
		require.Equal(t, []any{"expired", "1-20", "1-20", "/v1/state"}, []any{fields["reason"], fields["oldest"], fields["resume"], fields["snapshot"]})
	}
}

// As long as the states are behind, a reader of what is newer waits a moment and is
// told to come back.
func TestState_Behind(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(1952541036, 8)") // somebody leads, and does nothing
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	company := apptest.Token(t, access.Web, "c1")
	last := i.Publish(t, apptest.Token(t, access.Service, "c1"), order("1", "b1", ""))[0]
	require.Equal(t, "1-0", states(t, i, company, "").Cursor)
	requireProblem(t, i.Get(t, "/v1/state?asOf="+last.Cursor, company), 503, "unavailable")
	require.Eventually(t, func() bool { return i.Metric(t, "tailroom_state_lag_events") == 1 }, apptest.Patience, tick)
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_unlock(1952541036, 8)")
	require.NoError(t, err)
	settled(t, i, company, last.Cursor)
}

func TestStreams(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, branch := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	i.Publish(t, service, order("a/b c", "b1", ""))
	i.Publish(t, service, order("2", "b1", ""))
	i.Publish(t, service, moved("a/b c", "b1", "accepted"))
	i.Publish(t, service, `{"namespace":"/availability","type":"stockAlert","stream":"order:2","data":{"productId":"p","branchId":"b1"}}`)
	read := func(path, token string) (positions []int64) {
		answer := i.Get(t, path, token)
		require.Equal(t, 200, answer.Status, string(answer.Body))
		var page struct{ Events []apptest.Event }
		require.NoError(t, json.Unmarshal(answer.Body, &page))
		for _, e := range page.Events {
			positions = append(positions, e.Position)
		}
		return positions
	}
	require.Equal(t, []int64{1, 3}, read("/v1/streams/order:a%2Fb%20c?namespace=/orders", branch))
	require.Equal(t, []int64{3}, read("/v1/streams/order:a%2Fb%20c?order=desc&limit=1", branch))
	require.Equal(t, []int64{2}, read("/v1/streams/order:2?namespace=/orders", branch))
	require.Equal(t, []int64{2, 4}, read("/v1/streams/order:2", branch))
	require.Empty(t, read("/v1/streams/order:2", apptest.Token(t, access.Web, "c1", "b2")))
	require.Empty(t, read("/v1/streams/order:2", apptest.Token(t, access.Web, "c2")))
	requireProblem(t, i.Get(t, "/v1/streams/order:2?stream=order:1", branch), 400, "invalid_parameter")
	requireProblem(t, i.Get(t, "/v1/streams/x", branch), 400, "invalid_parameter")
	requireProblem(t, i.Get(t, "/v1/streams/order:2", ""), 401, "unauthenticated")
}
