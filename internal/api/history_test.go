package api_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// archive is a log of thirteen events of two companies, whose times of record
// differ.
func archive(t testing.TB, i *apptest.Instance) (events []apptest.Event) {
	t.Helper()
	service, other := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Service, "c2")
	order := func(id, branch, fields string) string {
		return fmt.Sprintf(`{"namespace":"/orders","type":"newOrder",%s"data":{"orderId":%q,"branchId":%q}}`, fields, id, branch)
	}
	ready := func(id, branch, fields string) string {
		return fmt.Sprintf(`{"namespace":"/orders","type":"orderStatusUpdate",%s"data":{"orderId":%q,"branchId":%q,"status":"ready"}}`, fields, id, branch)
	}
	alert := func(rooms string) string {
		return `{"namespace":"/availability","type":"newAlert","rooms":[` + rooms + `],"data":{"message":"x"}}`
	}
	for n, body := range []string{
		order("1", "b1", `"id":"`+one+`",`), // 1
		order("2", "b2", `"correlationId":"call 7",`),
		"[" + ready("1", "b1", `"correlationId":"`+one+`","causationId":"`+one+`",`) + "," + ready("2", "b2", `"correlationId":"call 7",`) + "]", // 3, 4
		order("1", "b1", `"id":"`+one+`",`), // of the other company: 5
		alert(`"company:c1"`),
		alert(`"branch:b2","branch:b1"`),
		alert(`"branch:b3"`),
		`{"namespace":"/printing-ws","type":"printer:test","data":{"printerId":"1","branchId":"b1"}}`, // 9
		`{"namespace":"/printing-ws","type":"printerStatusUpdate","stream":"order:1","data":{"printerId":"1","branchId":"b1","status":"on"}}`,
		ready("1", "b1", ""), // 11
		ready("2", "b2", ""), // of the other company: 12
		order("3", "b1", ""), // 13
	} {
		token := service
		if n == 3 || n == 10 {
			token = other
		}
		i.Publish(t, token, body)
	}
	all, _, more := i.History(t, apptest.Token(t, access.Admin, "*"), "limit=100")
	require.False(t, more)
	require.Len(t, all, 13)
	return all
}

func positions(events []apptest.Event) []int64 {
	list := make([]int64, len(events))
	for i, e := range events {
		list[i] = e.Position
	}
	return list
}

func TestHistory_Filters(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	events := archive(t, i)
	c1, b1 := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	admin := apptest.Token(t, access.Admin, "*")
	at := func(n int) string { return url.QueryEscape(events[n-1].RecordedAt) }
	for n, test := range []struct {
		token, query string
		want         []int64
	}{
		{c1, "", []int64{1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13}},
		{b1, "", []int64{1, 3, 6, 7, 9, 10, 11, 13}},
		{apptest.Token(t, access.Web, "c1", "b2", "b3"), "", []int64{2, 4, 6, 7, 8}},
		{apptest.Token(t, access.Web, "c2"), "", []int64{5, 12}},
		{apptest.Token(t, access.Web, "c3"), "", []int64{}},
		{admin, "", []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13}},
		{admin, "companyId=c2", []int64{5, 12}},
		{apptest.Token(t, access.Service, "*"), "companyId=c2", []int64{5, 12}},
		{c1, "companyId=c1&namespace=/availability", []int64{6, 7, 8}},
		{c1, "namespace=/availability&namespace=/printing-ws", []int64{6, 7, 8, 9, 10}},
		{c1, "type=newOrder", []int64{1, 2, 13}},
		{c1, "type=newOrder&type=printer:test", []int64{1, 2, 9, 13}},
		{c1, "type=newOrder&namespace=/orders&room=branch:b2", []int64{2}},
		{c1, "room=branch:b1", []int64{1, 3, 7, 9, 10, 11, 13}},
		{c1, "room=branch_b2&room=company_c1", []int64{2, 4, 6, 7}},
		{c1, "room=branch:nobody", []int64{}},
		{b1, "room=company:c1", []int64{6}},
		{c1, "stream=order:1", []int64{1, 3, 10, 11}},
		{c1, "stream=order:1&namespace=/orders", []int64{1, 3, 11}},
		{b1, "stream=order:2", []int64{}},
		{admin, "stream=order:1&namespace=/orders", []int64{1, 3, 5, 11}},
		{admin, "stream=order:2&type=orderStatusUpdate", []int64{4, 12}},
		{c1, "correlationId=call%207", []int64{2, 4}},
		{c1, "correlationId=" + one, []int64{1, 3}},
		{b1, "correlationId=call%207", []int64{}},
		{admin, "correlationId=" + one, []int64{1, 3, 5}},
		{c1, "correlationId=none", []int64{}},
		{c1, "after=1-6", []int64{7, 8, 9, 10, 11, 13}},
		{c1, "after=1-13", []int64{}},
		{c1, "after=now", []int64{}},
		{c1, "after=earliest&before=1-3", []int64{1, 2}},
		{c1, "after=1-2&before=1-4", []int64{3}},
		{c1, "before=1-0", []int64{}},
		{c1, "before=1-1", []int64{}},
		{c1, "before=now&after=1-9", []int64{10, 11}},
		{c1, "from=" + at(8) + "&to=" + at(11), []int64{8, 9, 10}},
		{c1, "from=" + at(3), []int64{3, 4, 6, 7, 8, 9, 10, 11, 13}},
		{c1, "to=" + at(3), []int64{1, 2}},
		{c1, "to=2001-01-01T00:00:00Z", []int64{}},
		{c1, "from=2001-01-01T00:00:00%2B05:00&limit=2", []int64{1, 2}},
		{c1, "order=asc&limit=3&after=1-3", []int64{4, 6, 7}},
		{c1, "order=desc", []int64{13, 11, 10, 9, 8, 7, 6, 4, 3, 2, 1}},
		{c1, "order=desc&limit=3", []int64{13, 11, 10}},
		{b1, "order=desc&before=1-10&limit=3", []int64{9, 7, 6}},
		{c1, "order=desc&after=1-2&before=1-6&room=branch:b2", []int64{4}},
		{admin, "order=desc&limit=2&type=orderStatusUpdate", []int64{12, 11}},
		{c1, "order=desc&stream=order:1&limit=2", []int64{11, 10}},
		{c1, "limit=10000", []int64{1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 13}},
	} {
		got, cursor, more := i.History(t, test.token, test.query)
		require.Equal(t, test.want, positions(got), "%d: %s", n, test.query)
		require.Equal(t, strings.Contains(test.query, "limit=3") || strings.Contains(test.query, "limit=2"), more, "%d: %s", n, test.query)
		require.NotEmpty(t, cursor)
		// The same without the frame.
		lines := i.Lines(t, "/v1/events?"+test.query, test.token)
		require.Len(t, lines, len(test.want), test.query)
		for k, line := range lines {
			require.Contains(t, line, fmt.Sprintf(`{"cursor":"1-%d",`, test.want[k]))
		}
	}
}

// Every way of paging comes by every event once, and says when it is through.
func TestHistory_Paging(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	var group []string
	for n := range 250 {
		group = append(group, fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b%d"}}`, n, n%3))
	}
	i.Publish(t, service, "["+strings.Join(group, ",")+"]")
	var whole []int64
	for n := int64(2); n <= 250; n += 3 {
		whole = append(whole, n)
	}
	for _, limit := range []int{5, 83, 84, 1000} {
		var up, down []int64
		after, before := "earliest", "now"
		for more := true; more; {
			var events []apptest.Event
			events, after, more = i.History(t, token, fmt.Sprintf("limit=%d&after=%s", limit, after))
			up = append(up, positions(events)...)
			require.LessOrEqual(t, len(events), limit)
		}
		require.Equal(t, whole, up)
		require.Equal(t, "1-250", after, "a complete listing leads to the tip, past what is not in it")
		for more := true; more; {
			var events []apptest.Event
			events, before, more = i.History(t, token, fmt.Sprintf("order=desc&limit=%d&before=%s", limit, before))
			down = append(down, positions(events)...)
		}
		require.Len(t, down, len(whole))
		for n := range down {
			require.Equal(t, whole[len(whole)-1-n], down[n])
		}
	}
	// Whoever comes back with the cursor hears what is new, and only that.
	i.Publish(t, service, "["+strings.Join(group[:3], ",")+"]")
	events, cursor, more := i.History(t, token, "after=1-250")
	require.Equal(t, []int64{252}, positions(events))
	require.Equal(t, "1-253", cursor)
	require.False(t, more)
}

func TestHistory_Refused(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	web, branch := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	for query, test := range map[string]struct {
		token  string
		status int
		code   string
		path   string
	}{
		"x=1":                    {"", 401, "unauthenticated", ""},
		"x=2":                    {apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"), 401, "token_expired", ""},
		"x=3":                    {apptest.Token(t, access.Web, "*"), 403, "forbidden", ""},
		"x=4":                    {apptest.Token(t, access.Service, "*"), 400, "invalid_parameter", "companyId"},
		"companyId=c2":           {web, 403, "forbidden", ""},
		"companyId=c%202":        {apptest.Token(t, access.Admin, "*"), 400, "invalid_parameter", "companyId"},
		"room=branch:b2":         {branch, 403, "forbidden", ""},
		"room=company:c2":        {web, 403, "forbidden", ""},
		"room=user:1":            {web, 422, "invalid_room", ""},
		"room=":                  {web, 422, "invalid_room", ""},
		"room=branch:b1&limit=5": {apptest.Token(t, access.Admin, "*"), 400, "invalid_parameter", "companyId"},
		"tpye=newOrder":          {web, 400, "invalid_parameter", "tpye"},
		"namespace=orders":       {web, 422, "unknown_namespace", ""},
		"namespace=%00":          {web, 422, "unknown_namespace", ""},
		"type=none":              {web, 422, "unknown_type", ""},
		"type=newOrder%00":       {web, 422, "unknown_type", ""},
		"type=%ff":               {web, 422, "unknown_type", ""},
		"stream=order":           {web, 400, "invalid_parameter", "stream"},
		"stream=a:%00":           {web, 400, "invalid_parameter", "stream"},
		"stream=a:%ff":           {web, 400, "invalid_parameter", "stream"},
		"correlationId=%01":      {web, 400, "invalid_parameter", "correlationId"},
		"correlationId=%ff":      {web, 400, "invalid_parameter", "correlationId"},
		"after=1":                {web, 400, "invalid_cursor", "after"},
		"after=%00":              {web, 400, "invalid_cursor", "after"},
		"before=x":               {web, 400, "invalid_cursor", "before"},
		"from=yesterday":         {web, 400, "invalid_parameter", "from"},
		"to=2026-01-31":          {web, 400, "invalid_parameter", "to"},
		"limit=0":                {web, 400, "invalid_parameter", "limit"},
		"limit=10001":            {web, 400, "invalid_parameter", "limit"},
		"limit=-1":               {web, 400, "invalid_parameter", "limit"},
		"limit=ten":              {web, 400, "invalid_parameter", "limit"},
		"order=up":               {web, 400, "invalid_parameter", "order"},
		"after=1-1":              {web, 410, "cursor_diverged", ""},
		"after=7-0":              {web, 410, "cursor_diverged", ""},
		"before=1-1&limit=1":     {web, 410, "cursor_diverged", ""},
		"after=1-999999999999":   {web, 410, "cursor_diverged", ""},
	} {
		answer := i.Get(t, "/v1/events?"+query, test.token)
		fields := requireProblem(t, answer, test.status, test.code, query)
		if test.path != "" {
			require.Equal(t, test.path, fields["path"], query)
		}
		if test.status == http.StatusGone {
			require.Equal(t, "diverged", fields["reason"])
			require.Equal(t, "1-0", fields["oldest"])
			require.Equal(t, "1-0", fields["resume"])
			require.Equal(t, "/v1/state", fields["snapshot"])
		}
	}
}

func TestHistory_BelowTheFloor(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	_, err := pgtest.Pool(t, dsn).Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 10")
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	token := apptest.Token(t, access.Service, "c1")
	for n := range 15 {
		i.Publish(t, token, fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1"}}`, n))
	}
	_, err = pgtest.Pool(t, dsn).Exec(t.Context(), `BEGIN; ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1; DROP TABLE tailroom.events_1;
		DELETE FROM tailroom.partitions WHERE first = 1; UPDATE tailroom.log SET floor = 10; COMMIT`)
	require.NoError(t, err)

	fields := requireProblem(t, i.Get(t, "/v1/events?after=1-9", token), 410, "cursor_expired")
	require.Equal(t, "expired", fields["reason"])
	require.Equal(t, "1-10", fields["oldest"])
	require.Equal(t, "1-10", fields["resume"])
	require.Equal(t, "/v1/state", fields["snapshot"])
	for query, want := range map[string][]int64{
		"":                            {11, 12, 13, 14, 15},
		"after=earliest&limit=2":      {11, 12},
		"after=1-10":                  {11, 12, 13, 14, 15},
		"order=desc&limit=2":          {15, 14},
		"to=2001-01-01T00:00:00Z":     {},
		"order=desc&after=1-13":       {15, 14},
		"before=1-11":                 {},
		"order=desc&before=1-12":      {11},
		"room=branch:b7&before=1-12":  {},
		"stream=order:3":              {},
		"stream=order:10&order=desc":  {11},
		"type=orderCancelled&limit=1": {},
	} {
		events, cursor, _ := i.History(t, token, query)
		require.Equal(t, want, positions(events), query)
		// Wherever a page leads, one can go on from there.
		_, _, more := i.History(t, token, "after="+cursor)
		require.False(t, more, query)
	}
}

func TestEvent(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	events := archive(t, i)
	c1, b1, b2 := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b1"), apptest.Token(t, access.Web, "c1", "b2")
	lines := i.Lines(t, "/v1/events", c1)
	for _, token := range []string{c1, b1, apptest.Token(t, access.Service, "c1")} {
		answer := i.Get(t, "/v1/events/"+strings.ToUpper(one), token)
		require.Equal(t, http.StatusOK, answer.Status)
		require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
		require.Equal(t, lines[0], string(answer.Body))
	}
	// Two companies have an event with this id: each gets its own.
	answer := i.Get(t, "/v1/events/"+one+"?companyId=c2", apptest.Token(t, access.Analyst, "*"))
	require.Contains(t, string(answer.Body), `"companyId":"c2"`)
	answer = i.Get(t, "/v1/events/"+events[6].ID, b2) // in both rooms
	require.Equal(t, http.StatusOK, answer.Status)

	requireProblem(t, i.Get(t, "/v1/events/"+one, b2), 404, "not_found")
	requireProblem(t, i.Get(t, "/v1/events/"+events[11].ID, c1), 404, "not_found")
	requireProblem(t, i.Get(t, "/v1/events/"+two, c1), 404, "not_found")
	requireProblem(t, i.Get(t, "/v1/events/7", c1), 400, "invalid_parameter")
	requireProblem(t, i.Get(t, "/v1/events/"+one, ""), 401, "unauthenticated")
	requireProblem(t, i.Get(t, "/v1/events/"+one+"?companyId=c2", c1), 403, "forbidden")
	requireProblem(t, i.Get(t, "/v1/events/"+one, apptest.Token(t, access.Service, "*")), 400, "invalid_parameter")
}

// The page is an object whose events are the bytes of the log.
func TestHistory_Page(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")
	answer := i.Get(t, "/v1/events", token)
	require.Equal(t, `{"events":[],"cursor":"1-0","more":false}`, string(answer.Body))
	require.Empty(t, i.Lines(t, "/v1/events", token))
	i.Publish(t, token, "["+status("")+","+status("")+"]")
	lines := i.Lines(t, "/v1/events", token)
	answer = i.Get(t, "/v1/events?limit=1", token)
	require.Equal(t, `{"events":[`+lines[0]+`],"cursor":"1-1","more":true}`, string(answer.Body))
	answer = i.Get(t, "/v1/events", token)
	require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Equal(t, `{"events":[`+lines[0]+","+lines[1]+`],"cursor":"1-2","more":false}`, string(answer.Body))
}
