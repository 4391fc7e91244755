package api_test

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
)

const one, two, three = "0192f0c4-0000-7000-8000-000000000001", "0192f0c4-0000-7000-8000-000000000002", "0192f0c4-0000-7000-8000-000000000003"

// status is an orderStatusUpdate of order 1 at branch b1, with more fields.
func status(fields string) string {
	return `{"namespace":"/orders","type":"orderStatusUpdate",` + fields + `"data":{"orderId":"1","branchId":"b1","status":"ready"}}`
}

func TestPublish_Accepted(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")

	answer := i.Post(t, token, status(`"id":"`+one+`",`))
	require.Equal(t, http.StatusCreated, answer.Status)
	require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
	require.JSONEq(t, `{"events":[{"cursor":"1-1","position":1,"id":"`+one+`","stream":"order:1","version":1,"duplicate":false}]}`, string(answer.Body))

	// A retry gets the old place, and 200 because nothing is new. An id may be
	// written in capitals.
	answer = i.Post(t, token, status(`"id":"`+strings.ToUpper(one)+`",`))
	require.Equal(t, http.StatusOK, answer.Status)
	require.JSONEq(t, `{"events":[{"cursor":"1-1","position":1,"id":"`+one+`","stream":"order:1","version":1,"duplicate":true}]}`, string(answer.Body))

	group := "[" + status(`"id":"`+two+`",`) + `,{"namespace":"/availability","type":"newAlert","id":"` + three + `","data":{"message":"x"}}]`
	for _, status := range []int{http.StatusCreated, http.StatusOK} {
		answer = i.Post(t, token, group)
		require.Equal(t, status, answer.Status)
		duplicate := fmt.Sprint(status == http.StatusOK)
		require.JSONEq(t, `{"events":[{"cursor":"1-2","position":2,"id":"`+two+`","stream":"order:1","version":2,"duplicate":`+duplicate+`},
			{"cursor":"1-3","position":3,"id":"`+three+`","stream":null,"version":null,"duplicate":`+duplicate+`}]}`, string(answer.Body))
	}

	// In a group the expected version is the stream's before the group.
	events := i.Publish(t, token, "["+status(`"expectedVersion":2,`)+","+status("")+","+status(`"expectedVersion":2,`)+"]")
	require.Equal(t, int64(5), *events[2].Version)
	events = i.Publish(t, token, status(`"stream":"anything: at all","expectedVersion":0,`))
	require.Equal(t, "anything: at all", *events[0].Stream)
	require.Equal(t, int64(1), *events[0].Version)

	// What comes without a type is JSON, and so is what says so at length.
	for _, kind := range []string{"", "application/json; charset=utf-8", "APPLICATION/JSON"} {
		answer = i.Do(t, http.MethodPost, "/v1/events", token, status(""), "Content-Type", kind)
		require.Equal(t, http.StatusCreated, answer.Status, kind)
	}
}

// What an event says of itself stands; what it leaves out comes from the token
// and the catalogue.
func TestPublish_Defaults(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	platform := apptest.Token(t, access.Service, "*")
	before := time.Now().Add(-time.Minute).UTC().Format("2006-01-02T15:04:05.000000Z")
	bare := i.Publish(t, web, status(""))[0]
	full := i.Publish(t, service, `{"companyId":"c1","namespace":"/orders","type":"orderStatusUpdate","rooms":["branch_x","branch:b2","branch:x"],
		"stream":"other:1","expectedVersion":0,"id":"`+one+`","correlationId":"the call of a customer","causationId":"`+two+`",
		"occurredAt":"2020-02-29T23:59:59.9999999+01:00","replyBy":"2030-01-01T00:00:00Z","schemaVersion":1,"future":{"x":1},
		"data":{"orderId":"1","branchId":"b1","status":"ready"}}`)[0]
	named := i.Publish(t, platform, `{"companyId":"c2","namespace":"/availability","type":"newAlert","data":{"message":"x"}}`)[0]

	var e map[string]any
	answer := i.Get(t, "/v1/events/"+bare.ID, service)
	require.NoError(t, json.Unmarshal(answer.Body, &e))
	for field, value := range map[string]any{
		"companyId": "c1", "rooms": []any{"branch:b1"}, "stream": "order:1", "version": 1.0, "schemaVersion": 1.0, "actor": "user:test-web",
		"correlationId": bare.ID, "causationId": nil, "replyBy": nil, "cursor": "1-1", "position": 1.0, "type": "orderStatusUpdate",
	} {
		require.Equal(t, value, e[field], field)
	}
	require.Greater(t, e["occurredAt"], before)
	require.GreaterOrEqual(t, e["recordedAt"], e["occurredAt"])

	answer = i.Get(t, "/v1/events/"+full.ID, service)
	require.NoError(t, json.Unmarshal(answer.Body, &e))
	for field, value := range map[string]any{
		"rooms": []any{"branch:x", "branch:b2"}, "stream": "other:1", "version": 1.0, "actor": "service:test-service", "id": one,
		"correlationId": "the call of a customer", "causationId": two, "occurredAt": "2020-02-29T22:59:59.999999Z", "replyBy": "2030-01-01T00:00:00.000000Z",
	} {
		require.Equal(t, value, e[field], field)
	}
	require.NotContains(t, e, "future")

	answer = i.Get(t, "/v1/events/"+named.ID+"?companyId=c2", platform)
	require.NoError(t, json.Unmarshal(answer.Body, &e))
	require.Equal(t, "c2", e["companyId"])
	require.Equal(t, []any{"company:c2"}, e["rooms"])
}

func TestPublish_Refused(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_EVENT_BYTES=1KiB", "TAILROOM_MAX_MESSAGE_BYTES=512KiB")[0]
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	i.Publish(t, service, status(`"id":"`+one+`",`))
	order := func(fields, data string) string {
		return `{"namespace":"/orders","type":"newOrder",` + fields + `"data":` + data + `}`
	}
	good := `{"orderId":"1","branchId":"b1"}`
	for name, test := range map[string]struct {
		token, body string
		status      int
		code        string
		with        string // a part of the body
	}{
		"no token":               {"", status(""), 401, "unauthenticated", ""},
		"garbage for a token":    {"a.b.c", status(""), 401, "unauthenticated", ""},
		"expired token":          {apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"), status(""), 401, "token_expired", ""},
		"empty":                  {service, "", 400, "invalid_json", ""},
		"blank":                  {service, " \n", 400, "invalid_json", ""},
		"no JSON":                {service, `{"namespace":`, 400, "invalid_json", "at byte"},
		"two values":             {service, status("") + status(""), 400, "invalid_json", ""},
		"no UTF-8":               {service, order("", "{\"orderId\":\"\xff\",\"branchId\":\"b1\"}"), 400, "invalid_json", ""},
		"too deep for JSON":      {service, strings.Repeat("[", 11_000), 400, "invalid_json", ""},
		"a text":                 {service, `"text"`, 400, "invalid_parameter", ""},
		"a list in a group":      {service, `[[]]`, 400, "invalid_parameter", ""},
		"an empty group":         {service, `[]`, 400, "invalid_parameter", ""},
		"too many":               {service, "[" + strings.Repeat(status("")+",", 1000) + status("") + "]", 413, "too_large", `"limit":1000`},
		"too large":              {service, strings.Repeat(" ", 512<<10) + "{}", 413, "too_large", `"limit":524288`},
		"too large an event":     {service, order("", `{"orderId":"1","branchId":"b1","x":"`+strings.Repeat("x", 1000)+`"}`), 413, "too_large", `"limit":1024`},
		"too many rooms":         {service, order(`"rooms":["company:c1"`+strings.Repeat(`,"branch:b"`, 100)+`],`, good), 413, "too_large", `"limit":100`},
		"no namespace":           {service, `{"type":"newOrder","data":{}}`, 422, "unknown_namespace", `"allowed":["/printing-ws","/orders","/availability"]`},
		"a namespace with none":  {service, `{"namespace":"orders","type":"newOrder","data":{}}`, 422, "unknown_namespace", `"allowed"`},
		"the system's":           {service, `{"namespace":"/system","type":"alert","data":{}}`, 422, "unknown_namespace", ""},
		"no type":                {service, `{"namespace":"/orders","data":{}}`, 422, "unknown_type", `"allowed":["newOrder"`},
		"a type of another":      {service, `{"namespace":"/orders","type":"newAlert","data":{}}`, 422, "unknown_type", ""},
		"a role that may not":    {web, `{"namespace":"/availability","type":"newAlert","data":{"message":"x"}}`, 403, "forbidden", `"allowed":["service","admin"]`},
		"an analyst":             {apptest.Token(t, access.Analyst, "c1"), status(""), 403, "forbidden", ""},
		"another company":        {service, order(`"companyId":"c2",`, good), 403, "forbidden", `"allowed":["c1"]`},
		"all companies":          {apptest.Token(t, access.Service, "*"), order("", good), 400, "invalid_parameter", `"path":"companyId"`},
		"admin of all":           {apptest.Token(t, access.Admin, "*"), order("", good), 400, "invalid_parameter", `"path":"companyId"`},
		"no such company":        {apptest.Token(t, access.Service, "*"), order(`"companyId":"c 1",`, good), 400, "invalid_parameter", `"path":"companyId"`},
		"another branch":         {web, order("", `{"orderId":"1","branchId":"b2"}`), 403, "forbidden", `"allowed":["company:c1","branch:b1"]`},
		"another company's room": {service, order(`"rooms":["company:c2"],`, good), 403, "forbidden", ""},
		"no room":                {service, order(`"rooms":[],`, good), 422, "invalid_room", `"allowed"`},
		"no such room":           {service, order(`"rooms":["user:1"],`, good), 422, "invalid_room", `"allowed"`},
		"a room of no form":      {service, order(`"rooms":["branch:a b"],`, good), 422, "invalid_room", ""},
		"rooms of no form":       {service, order(`"rooms":"branch:b1",`, good), 400, "invalid_parameter", `"path":"rooms"`},
		"data that is no room":   {service, order("", `{"orderId":"1","branchId":"b 1"}`), 422, "schema_violation", `"errors":[{"path":"/branchId"`},
		"data without a room":    {service, order("", `{"orderId":"1"}`), 422, "schema_violation", `"errors":[{"path":"/branchId"`},
		"no data":                {service, `{"namespace":"/orders","type":"newOrder"}`, 422, "schema_violation", `"errors":[{"path":""`},
		"null data":              {service, order("", `null`), 422, "schema_violation", `"errors":[{"path":""`},
		"data that is no object": {service, order("", `[]`), 422, "schema_violation", `"errors":[{"path":""`},
		"the schema":             {service, order("", `{"orderId":1.5,"branchId":"b1","lines":[{"quantity":0}]}`), 422, "schema_violation", `"path":"/lines/0/quantity"`},
		"NUL":                    {service, order("", `{"orderId":"1","branchId":"b1","x":["\u0000"]}`), 422, "schema_violation", `"path":"/x/0"`},
		"half a surrogate pair":  {service, order("", `{"orderId":"1","branchId":"b1","\ud800":1}`), 422, "schema_violation", ""},
		"a huge number":          {service, order("", `{"orderId":"1","branchId":"b1","x":1e131071}`), 422, "schema_violation", `"path":"/x"`},
		"too deep":               {service, order("", `{"orderId":"1","branchId":"b1","x":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+`}`), 422, "schema_violation", ""},
		"a bad id":               {service, order(`"id":"1",`, good), 400, "invalid_parameter", `"path":"id"`},
		"the nil id":             {service, order(`"id":"00000000-0000-0000-0000-000000000000",`, good), 400, "invalid_parameter", `"path":"id"`},
		"an id of a wrong type":  {service, order(`"id":7,`, good), 400, "invalid_parameter", `"path":"id"`},
		"a bad correlation":      {service, order(`"correlationId":"",`, good), 400, "invalid_parameter", `"path":"correlationId"`},
		"a long correlation":     {service, order(`"correlationId":"`+strings.Repeat("é", 129)+`",`, good), 400, "invalid_parameter", `"path":"correlationId"`},
		"an unprintable one":     {service, order(`"correlationId":"a\u0000",`, good), 400, "invalid_parameter", `"path":"correlationId"`},
		"a bad cause":            {service, order(`"causationId":"x",`, good), 400, "invalid_parameter", `"path":"causationId"`},
		"a bad time":             {service, order(`"occurredAt":"yesterday",`, good), 400, "invalid_parameter", `"path":"occurredAt"`},
		"a time beyond 9999":     {service, order(`"occurredAt":"9999-12-31T23:59:59-01:00",`, good), 400, "invalid_parameter", `"path":"occurredAt"`},
		"a time before year 1":   {service, order(`"replyBy":"0001-01-01T00:00:00+01:00",`, good), 400, "invalid_parameter", `"path":"replyBy"`},
		"a bad stream":           {service, order(`"stream":"order",`, good), 400, "invalid_parameter", `"path":"stream"`},
		"a long stream":          {service, order(`"stream":"a:`+strings.Repeat("é", 199)+`",`, good), 400, "invalid_parameter", `"path":"stream"`},
		"a stream with a line":   {service, order(`"stream":"a:\n",`, good), 400, "invalid_parameter", `"path":"stream"`},
		"a negative version":     {service, order(`"expectedVersion":-1,`, good), 400, "invalid_parameter", `"path":"expectedVersion"`},
		"a version of nothing":   {service, `{"namespace":"/availability","type":"newAlert","expectedVersion":1,"data":{"message":"x"}}`, 400, "invalid_parameter", `"path":"expectedVersion"`},
		"half a version":         {service, order(`"expectedVersion":1.5,`, good), 400, "invalid_parameter", `"path":"expectedVersion"`},
		"another schema":         {service, order(`"schemaVersion":2,`, good), 400, "invalid_parameter", `"allowed":[1]`},
		"two versions expected":  {service, "[" + status(`"expectedVersion":1,`) + "," + status(`"expectedVersion":2,`) + "]", 400, "invalid_parameter", `"index":1`},
		"a version on the second": {
			service, "[" + status("") + "," + status(`"expectedVersion":2,`) + "]", 409, "version_conflict",
			`"conflicts":[{"index":0,"namespace":"/orders","stream":"order:1","expectedVersion":2,"currentVersion":1}]`,
		},
		"the same id twice": {service, "[" + status(`"id":"`+two+`",`) + "," + status(`"id":"`+two+`",`) + "]", 400, "invalid_parameter", `"index":1`},
		"two companies": {
			apptest.Token(t, access.Service, "*"), "[" + order(`"companyId":"c1",`, good) + "," + order(`"companyId":"c2",`, good) + "]", 400, "invalid_parameter", `"index":1`,
		},
		"the second is wrong": {service, "[" + status("") + "," + order("", `{}`) + "]", 422, "schema_violation", `"index":1`},
		"another version": {
			service, "[" + status("") + "," + order(`"expectedVersion":4,"stream":"new:1",`, good) + "," + order(`"stream":"new:1",`, good) + "]", 409, "version_conflict",
			`"conflicts":[{"index":1,"namespace":"/orders","stream":"new:1","expectedVersion":4,"currentVersion":0}],"currentVersion":0`,
		},
		"two other versions": {
			service, "[" + status(`"expectedVersion":0,`) + "," + order(`"expectedVersion":9,"stream":"new:1",`, good) + "]", 409, "version_conflict",
			`"conflicts":[{"index":0,"namespace":"/orders","stream":"order:1","expectedVersion":0,"currentVersion":1},` +
				`{"index":1,"namespace":"/orders","stream":"new:1","expectedVersion":9,"currentVersion":0}]`,
		},
		"a reused id":      {service, order(`"id":"`+one+`",`, good), 409, "id_reused", ""},
		"part of it known": {service, "[" + status(`"id":"`+one+`",`) + "," + status(`"id":"`+two+`",`) + "]", 409, "partial_duplicate", ""},
	} {
		answer := i.Post(t, test.token, test.body)
		requireProblem(t, answer, test.status, test.code, name)
		require.Contains(t, string(answer.Body), test.with, name)
	}
	for _, kind := range []string{"text/plain", "application/xml", "multipart/form-data; boundary=x", ";", "application/jsonx"} {
		answer := i.Do(t, http.MethodPost, "/v1/events", service, status(""), "Content-Type", kind)
		requireProblem(t, answer, 415, "unsupported_media_type", kind)
	}
	require.Len(t, i.Lines(t, "/v1/events", service), 1, "what was refused is in the log")
}

func TestPublish_Lines(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_MESSAGE_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=32KiB")[0]
	token := apptest.Token(t, access.Service, "c1")
	order := func(id string) string {
		return `{"namespace":"/orders","type":"newOrder","data":{"orderId":"` + id + `","branchId":"b1"}}`
	}
	body := strings.Join([]string{
		order("1"),
		"[" + order("2") + "," + order("3") + "]",
		"",
		`{"nonsense"`,
		" \t" + order("4") + "\r",
		`[` + order("5") + `,{"namespace":"/orders","type":"newOrder","data":{}}]`,
		status(`"expectedVersion":1,`),
		status(`"expectedVersion":1,`),
		status(`"id":"` + one + `",`),
		status(`"id":"` + one + `",`),
		`[]`,
		order("6"),
	}, "\n") + "\n"
	answer := i.PostLines(t, token, body)
	require.Equal(t, http.StatusOK, answer.Status)
	require.Equal(t, "application/x-ndjson", answer.Header.Get("Content-Type"))
	type line struct {
		Line   int
		Status int
		Code   string
		Index  *int
		Events []apptest.Receipt
	}
	read := func(body []byte) []line {
		var list []line
		for text := range strings.Lines(string(body)) {
			var l line
			require.NoError(t, json.Unmarshal([]byte(text), &l), text)
			list = append(list, l)
		}
		return list
	}
	lines := read(answer.Body)
	require.Len(t, lines, 11)
	type short struct {
		line, status int
		code         string
		first        int64 // position
		events       int
	}
	want := []short{
		{1, 201, "", 1, 1},
		{2, 201, "", 2, 2},
		{4, 400, "invalid_json", 0, 0},
		{5, 201, "", 4, 1},
		{6, 422, "schema_violation", 0, 0},
		{7, 201, "", 5, 1},
		{8, 409, "version_conflict", 0, 0},
		{9, 201, "", 6, 1},
		{10, 200, "", 6, 1},
		{11, 400, "invalid_parameter", 0, 0},
		{12, 201, "", 7, 1},
	}
	for n, l := range lines {
		got := short{l.Line, l.Status, l.Code, 0, len(l.Events)}
		if len(l.Events) > 0 {
			got.first = l.Events[0].Position
		}
		require.Equal(t, want[n], got)
	}
	require.Equal(t, 1, *lines[4].Index)
	require.True(t, lines[8].Events[0].Duplicate)

	// Many lines keep their order, with one at the end that is too large: it
	// and what follows is not read, and the answer says so.
	var b strings.Builder
	for n := range 1500 {
		b.WriteString(order(fmt.Sprint("many-", n)) + "\n")
	}
	b.WriteString(`{"x":"` + strings.Repeat("x", 64<<10) + "\"}\n" + order("never read"))
	lines = read(i.PostLines(t, token, b.String()).Body)
	require.Len(t, lines, 1501)
	for n, l := range lines[:1500] {
		require.Equal(t, n+1, l.Line)
		require.Equal(t, 201, l.Status)
		require.Equal(t, int64(n+8), l.Events[0].Position)
	}
	require.Equal(t, line{Line: 1501, Status: 413, Code: "too_large"}, lines[1500])

	require.Empty(t, i.PostLines(t, token, "").Body)
	requireProblem(t, i.PostLines(t, "", order("1")), 401, "unauthenticated")
}
