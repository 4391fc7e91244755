package api_test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// everyLimit is every label of tailroom_limited_total.
var everyLimit = []string{
	"message_bytes", "event_bytes", "group_events", "event_rooms", "json_depth", "rooms", "namespaces",
	"frame_rate_per_connection", "frame_rate_per_company", "publish_rate_per_connection", "publish_rate_per_company", "flood",
	"revocations_per_company", "consumers_per_company", "sessions_per_company", "sessions_per_address", "connections",
	"hello_bytes", "hello_timeout", "header_timeout", "body_timeout",
}

func limited(t testing.TB, i *apptest.Instance, name string) float64 {
	t.Helper()
	return i.Metric(t, `tailroom_limited_total{limit="`+name+`"}`)
}

func TestLimits_AreExportedFromTheStart(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, name := range everyLimit {
		require.Zero(t, limited(t, i, name))
	}
	require.Equal(t, len(everyLimit), strings.Count(string(i.Get(t, "/metrics", "").Body), "tailroom_limited_total{"))
	require.Greater(t, i.Metric(t, "tailroom_open_connections_limit"), 50.0)
}

func TestLimits_OfAnEvent(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_EVENT_BYTES=1KiB", "TAILROOM_MAX_MESSAGE_BYTES=1MiB")[0]
	token := apptest.Token(t, access.Service, "c1")
	event := func(rooms, data string) string {
		return `{"namespace":"/availability","type":"bulkAvailabilityUpdate",` + rooms + `"data":` + data + `}`
	}
	for name, test := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"event_bytes":   {event("", `{"x":"`+strings.Repeat("x", 1<<10)+`"}`), 413, "too_large"},
		"message_bytes": {event("", `{"x":"`+strings.Repeat("x", 1<<20)+`"}`), 413, "too_large"},
		"json_depth":    {event("", `{"x":`+strings.Repeat("[", 64)+strings.Repeat("]", 64)+`}`), 422, "schema_violation"},
		"group_events":  {"[" + strings.Repeat(event("", "{}")+",", 1000) + event("", "{}") + "]", 413, "too_large"},
		"event_rooms":   {event(`"rooms":[`+strings.Repeat(`"branch:b1",`, 100)+`"branch:b1"],`, "{}"), 413, "too_large"},
	} {
		fields := requireProblem(t, i.Post(t, token, test.body), test.status, test.code, name)
		require.NotZero(t, fields["limit"], name)
		require.EqualValues(t, 1, limited(t, i, name), name)
	}
	// So deep that it is not even read as JSON.
	requireProblem(t, i.Post(t, token, event("", `{"x":`+strings.Repeat("[", 100_000)+strings.Repeat("]", 100_000)+`}`)), 400, "invalid_json")
	answer := i.PostLines(t, token, status("")+"\n"+strings.Repeat("x", 1<<20)+"\n")
	require.Contains(t, string(answer.Body), `"code":"too_large"`)
	require.EqualValues(t, 2, limited(t, i, "message_bytes"))
}

func TestPublishRate_PerCompany(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_PUBLISH_RATE_PER_COMPANY=20")[0]
	token, platform := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Service, "*")
	named := strings.Replace(status(""), "{", `{"companyId":"c1",`, 1)
	i.Publish(t, token, "["+status("")+strings.Repeat(","+status(""), 999)+"]") // fifty seconds ahead
	for body, token := range map[string]string{status(""): token, "[" + status("") + "]": token, named: platform} {
		answer := i.Post(t, token, body)
		fields := requireProblem(t, answer, 429, "rate_limited", body)
		ms, ok := fields["retryAfterMs"].(float64)
		require.True(t, ok)
		require.Greater(t, ms, 1000.0)
		require.LessOrEqual(t, ms, 50_000.0)
		require.Equal(t, strconv.Itoa(int(math.Ceil(ms/1000))), answer.Header.Get("Retry-After"))
	}
	require.EqualValues(t, 3, limited(t, i, "publish_rate_per_company"))
	require.EqualValues(t, 3, i.Metric(t, `tailroom_publish_refused_total{code="rate_limited"}`))
	i.Publish(t, apptest.Token(t, access.Service, "c2"), status(""))
	require.Len(t, i.Lines(t, "/v1/events?limit=10000", token), 1000)
}

// Who may publish nothing, or more at once than can be, uses up nobody's rate.
func TestPublishRate_OfWhatCannotBe(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_PUBLISH_RATE_PER_COMPANY=100", "TAILROOM_PUBLISH_RATE_PER_CONNECTION=100")[0]
	service := apptest.Token(t, access.Service, "c1")
	group := func(events int) string { return "[1" + strings.Repeat(",1", events-1) + "]" }
	requireProblem(t, i.Post(t, apptest.Token(t, access.Web, "c1", "b1"), group(100_000)), 413, "too_large")
	requireProblem(t, i.Post(t, apptest.Token(t, access.Analyst, "c1"), group(1000)), 403, "forbidden")
	i.Publish(t, service, "["+status("")+strings.Repeat(","+status(""), 99)+"]")
}

// Orders have the company's rate, beside its events: a flood of those does not keep
// out the order that ends it.
func TestPublishRate_Orders(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_PUBLISH_RATE_PER_COMPANY=1")[0]
	token, one, two := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Admin, "c1"), apptest.Token(t, access.Admin, "c2")
	platform := apptest.Token(t, access.Admin, "*")
	i.Publish(t, token, "["+status("")+strings.Repeat(","+status(""), 999)+"]") // a quarter of an hour ahead
	requireProblem(t, i.Post(t, token, status("")), 429, "rate_limited")
	order := func(path, token string) apptest.Answer {
		return i.Do(t, http.MethodPost, path, token, `{"subject":"x"}`)
	}
	hits := limited(t, i, "publish_rate_per_company")
	requireProblem(t, i.Do(t, http.MethodPost, "/v1/revocations", one, `{}`), 400, "invalid_parameter")
	require.Equal(t, http.StatusCreated, order("/v1/revocations", one).Status)
	refused := 0
	for n := 0; refused < 2; n++ { // it takes longer than a second when the machine is busy
		require.Less(t, n, 100)
		for _, path := range []string{"/v1/revocations", "/v1/disconnections"} {
			if answer := order(path, one); answer.Status != http.StatusCreated {
				fields := requireProblem(t, answer, 429, "rate_limited", path)
				require.LessOrEqual(t, fields["retryAfterMs"], 1000.0)
				require.Equal(t, "1", answer.Header.Get("Retry-After"))
				refused++
			}
		}
	}
	require.Equal(t, hits+float64(refused), limited(t, i, "publish_rate_per_company"))
	require.Equal(t, http.StatusCreated, order("/v1/revocations", two).Status)
	for range 3 {
		answer := i.Do(t, http.MethodPost, "/v1/disconnections", platform, `{"subject":"x","companyId":"c1"}`)
		require.Equal(t, http.StatusCreated, answer.Status)
	}
}

// Many lines are not refused for coming quickly: they are read more slowly.
func TestPublishRate_LinesWait(t *testing.T) {
	t.Parallel()
	// The body has come long before its time is over; the lines wait longer.
	i := apptest.Cluster(t, 1, "TAILROOM_PUBLISH_RATE_PER_COMPANY=2", "TAILROOM_BODY_TIMEOUT=300ms")[0]
	token := apptest.Token(t, access.Service, "c1")
	since := time.Now()
	answer := i.PostLines(t, token, strings.Repeat(status("")+"\n", 5))
	require.Equal(t, 5, strings.Count(string(answer.Body), `"status":201`), string(answer.Body))
	require.GreaterOrEqual(t, time.Since(since), 1400*time.Millisecond)
	require.Positive(t, limited(t, i, "publish_rate_per_company"))
}

func TestPublish_CompressedBody(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")
	var body strings.Builder
	w := gzip.NewWriter(&body)
	_, err := io.WriteString(w, status("")+strings.Repeat(" ", 10<<20))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	answer := i.Do(t, http.MethodPost, "/v1/events", token, body.String(), "Content-Type", "application/json", "Content-Encoding", "gzip")
	fields := requireProblem(t, answer, 415, "unsupported_media_type")
	require.Equal(t, []any{"identity"}, fields["allowed"])
	answer = i.Do(t, http.MethodPost, "/v1/events", token, status(""), "Content-Type", "application/json", "Content-Encoding", "identity")
	require.Equal(t, http.StatusCreated, answer.Status)
}

// raw is a connection on which requests are written by hand.
func raw(t testing.TB, i *apptest.Instance, text string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := apptest.Dial(t.Context(), "tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(apptest.Patience)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	return conn, bufio.NewReader(conn)
}

// answered reads an answer, and its whole body.
func answered(t testing.TB, in *bufio.Reader) apptest.Answer {
	t.Helper()
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return apptest.Answer{Status: response.StatusCode, Header: response.Header, Body: body}
}

// drip writes a byte now and then, until the connection is closed.
func drip(t testing.TB, conn net.Conn, text string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			if _, err := io.WriteString(conn, text); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
}

func requireCut(t testing.TB, in *bufio.Reader) {
	t.Helper()
	rest, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Empty(t, string(rest))
}

// requireEnded reads until the server has closed or reset the connection.
func requireEnded(t testing.TB, in *bufio.Reader) {
	t.Helper()
	_, err := io.Copy(io.Discard, in)
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the connection is open")
}

func TestSlow_Header(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_HEADER_TIMEOUT=2s")[0]
	_, silent := raw(t, i, "")
	_, half := raw(t, i, "GET /healthz HTTP/1.1\r\nHost: x\r\n")
	conn, dripping := raw(t, i, "GET /healthz HTTP/1.1\r\nHost: x\r\n")
	drip(t, conn, "X: y\r\n")
	conn, second := raw(t, i, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, http.StatusOK, answered(t, second).Status)
	_, err := io.WriteString(conn, "GET /hea")
	require.NoError(t, err)
	for _, in := range []*bufio.Reader{silent, half, second} {
		_, err := io.Copy(io.Discard, in) // half a header gets a 400 from net/http
		require.NoError(t, err)
	}
	requireEnded(t, dripping) // a reset, when bytes were on their way
	require.EqualValues(t, 4, limited(t, i, "header_timeout"))
	// A connection between two requests is not late.
	conn, kept := raw(t, i, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	require.Equal(t, http.StatusOK, answered(t, kept).Status)
	<-time.After(2500 * time.Millisecond)
	_, err = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answered(t, kept).Status)
	require.EqualValues(t, 4, limited(t, i, "header_timeout"))
}

func TestHeader_TooLarge(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	answer := i.Do(t, http.MethodGet, "/healthz", "", "", "X-Large", strings.Repeat("x", 120<<10))
	require.Equal(t, http.StatusOK, answer.Status)
	answer = i.Do(t, http.MethodGet, "/healthz", "", "", "X-Large", strings.Repeat("x", 140<<10))
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, answer.Status)
}

func TestSlow_Body(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_BODY_TIMEOUT=2s", "TAILROOM_PUBLISH_TIMEOUT=1m")[0]
	post := "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + apptest.Token(t, access.Service, "c1") + "\r\n"

	_, in := raw(t, i, post+"Content-Length: 1000\r\n\r\n{")
	requireProblem(t, answered(t, in), 408, "request_timeout")
	requireCut(t, in)
	conn, in := raw(t, i, post+"Content-Length: 1000\r\n\r\n{")
	drip(t, conn, " ")
	requireProblem(t, answered(t, in), 408, "request_timeout")

	// A line must be at its end in time, a whole body need not.
	conn, in = raw(t, i, post+"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
	line := status("")
	for range 4 {
		_, err := fmt.Fprintf(conn, "%x\r\n%s\n\r\n", len(line)+1, line)
		require.NoError(t, err)
		<-time.After(600 * time.Millisecond)
	}
	drip(t, conn, "1\r\n{\r\n")
	answer := answered(t, in)
	require.Equal(t, 4, strings.Count(string(answer.Body), `"status":201`), string(answer.Body))
	require.Contains(t, string(answer.Body), `{"code":"request_timeout","line":5,`)
	require.EqualValues(t, 3, limited(t, i, "body_timeout"))
}

// What nobody asked for is read by the server, so that the connection can go on;
// but it is not waited for without end.
func TestSlow_BodyThatNobodyReads(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_BODY_TIMEOUT=300ms")[0]
	for _, request := range []string{"POST /v1/catalog", "GET /healthz", "POST /nowhere", "POST /v1/events", "OPTIONS *"} {
		_, in := raw(t, i, request+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
		require.NotZero(t, answered(t, in).Status, request)
		requireCut(t, in)
	}
}

// The deadline of a body is not one for the answer.
func TestSlow_AnswerToAQuickBody(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn, "TAILROOM_BODY_TIMEOUT=100ms", "TAILROOM_PUBLISH_TIMEOUT=1m")
	lock, err := pgtest.Pool(t, dsn).Begin(t.Context()) // nothing can be appended
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1952541036, 1)")
	require.NoError(t, err)
	token := apptest.Token(t, access.Service, "c1")
	answers := make(chan apptest.Answer, 2)
	go func() { answers <- i.Post(t, token, status("")) }()
	go func() { answers <- i.PostLines(t, token, status("")+"\n") }()
	<-time.After(400 * time.Millisecond)
	require.NoError(t, lock.Rollback(t.Context()))
	for range 2 {
		answer := <-answers
		require.Contains(t, string(answer.Body), `"version"`, "%d", answer.Status)
	}
}

func TestConnections(t *testing.T) {
	t.Parallel()
	// Whoever comes by a proxy has no address to be counted by.
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_CONNECTIONS=3", "TAILROOM_BODY_TIMEOUT=1h", "TRUSTED_PROXIES=127.0.0.1")[0]
	token := apptest.Token(t, access.Service, "c1")
	require.EqualValues(t, 3, i.Metric(t, "tailroom_open_connections_limit"))
	held := []net.Conn{}
	hold := func() *bufio.Reader {
		conn, in := raw(t, i, unfinished)
		held = append(held, conn)
		return in
	}
	for range 3 {
		hold()
	}
	i.AwaitMetric(t, "tailroom_open_connections", 4)
	before := limited(t, i, "connections")
	for _, path := range []string{"/v1/stream", "/v1/ws"} {
		answer := i.Do(t, http.MethodGet, path, token, "", "Connection", "Upgrade", "Upgrade", "websocket",
			"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
		requireProblem(t, answer, 503, "overloaded", path)
		require.Equal(t, "5", answer.Header.Get("Retry-After"))
	}
	require.Greater(t, limited(t, i, "connections"), before+1)
	// What is short is served, and its connection closed.
	require.Equal(t, http.StatusOK, i.Get(t, "/healthz", "").Status)
	body := status("")
	_, in := raw(t, i, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+"\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\n\r\n"+body)
	require.Equal(t, http.StatusCreated, answered(t, in).Status)
	requireCut(t, in)
	// And if those who come are too many even to be told, they are cut.
	for range 64 {
		hold()
	}
	for range 5 {
		requireEnded(t, hold())
	}
	for _, conn := range held {
		require.NoError(t, conn.Close())
	}
	// Until the instance has seen enough of them go, it cuts us as well.
	i.AwaitMetric(t, "tailroom_open_connections", 1)
	i.Stream(t, token, "")
}

// Connections that are kept for another request keep nobody out, however many one
// client has of them, and whatever it does with them.
func TestConnections_IdleOnesMakeRoom(t *testing.T) {
	t.Parallel()
	const most = 8
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_CONNECTIONS=8", "TAILROOM_HEADER_TIMEOUT=1h")[0]
	token := apptest.Token(t, access.Service, "c1")
	const ask = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
	idle := func() (net.Conn, *bufio.Reader) {
		conn, in := raw(t, i, ask)
		require.Equal(t, http.StatusOK, answered(t, in).Status)
		return conn, in
	}
	open := func() float64 { return i.Metric(t, "tailroom_open_connections") }

	_, oldest := idle()
	conn, begun := idle()
	_, err := io.WriteString(conn, "G") // it is idle all the same
	require.NoError(t, err)
	for range most + 64 {
		idle()
	}
	requireEnded(t, oldest)
	requireEnded(t, begun)
	require.LessOrEqual(t, open(), float64(most))
	require.GreaterOrEqual(t, limited(t, i, "connections"), 60.0)

	// Whoever comes finds room, and drives out nobody who does something.
	var streams []*apptest.Stream
	for range 6 {
		streams = append(streams, i.Stream(t, token, "namespace=/orders"))
	}
	_, in := raw(t, i, ask)
	require.Equal(t, http.StatusOK, answered(t, in).Status)
	requireCut(t, in) // in a crowd none is kept
	i.Publish(t, token, status(""))
	for _, s := range streams {
		for b, err := s.Next(t); b.Event != "orderStatusUpdate"; b, err = s.Next(t) {
			require.NoError(t, err)
		}
		s.Close()
	}
	i.AwaitMetric(t, "tailroom_open_connections", 1)

	// One that has been used lately outlives those that have not.
	_, first := idle()
	conn, in = idle()
	for range 2 * most {
		idle()
		_, err := io.WriteString(conn, ask)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answered(t, in).Status)
	}
	requireEnded(t, first)
}

// What a query repeats is not looked up again and again, and no error is made for
// each namespace that a type is not of.
func TestHistory_HostileQuery(t *testing.T) { //nolint:paralleltest // it measures what the process allocates
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_ROOMS=10")[0]
	token := apptest.Token(t, access.Web, "c1")
	numbered := func(n int, format string) string {
		var b strings.Builder
		for k := range n {
			fmt.Fprintf(&b, format, k)
		}
		return b.String()
	}
	get := func(query string) apptest.Answer {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		answer := i.Get(t, "/v1/events?"+strings.TrimSuffix(query, "&"), token)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "%.40s", query)
		return answer
	}
	for query, test := range map[string]struct {
		status int
		code   string
	}{
		strings.Repeat("namespace=/orders&", 3000) + "namespace=/printing-ws&" + strings.Repeat("type=printer:test&", 3000): {200, ""},
		strings.Repeat("namespace=/orders&", 3000) + numbered(5000, "type=%d&"):                                             {422, "unknown_type"},
		numbered(5000, "namespace=%d&") + numbered(5000, "type=%d&"):                                                        {422, "unknown_namespace"},
		strings.Repeat("room=branch:b1&", 5000):                                                                             {200, ""},
		strings.Repeat("type&", 10_001):                                                                                     {400, "invalid_parameter"},
	} {
		answer := get(query)
		require.Equal(t, test.status, answer.Status, "%.40s: %s", query, answer.Body)
		require.Equal(t, test.code, answer.Code(), "%.40s", query)
	}
	require.Equal(t, http.StatusOK, get(numbered(10, "room=branch:b%d&")).Status)
	fields := requireProblem(t, get(numbered(11, "room=branch:b%d&")), 413, "too_large")
	require.EqualValues(t, 10, fields["limit"])
	require.EqualValues(t, 1, limited(t, i, "rooms"))
}
