package sse_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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

func alert(text string) string {
	return fmt.Sprintf(`{"namespace":"/availability","type":"newAlert","rooms":["branch:b1"],"data":{"message":%q}}`, text)
}

func TestStream_IsWhatAnEventSourceReads(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_HEARTBEAT=300ms")[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	next := func(s *apptest.Stream) apptest.Block {
		for {
			b, err := s.Next(t)
			require.NoError(t, err)
			if b.Raw != ":\n\n" { // a heartbeat
				return b
			}
		}
	}
	i.Publish(t, service, alert("before"))
	i.Reach(t, 1)
	s := i.Stream(t, token, "namespace=/availability&namespace=/printing-ws&cursor=earliest")
	require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
	require.Equal(t, "no-store", s.Header.Get("Cache-Control"))
	require.Equal(t, "no", s.Header.Get("X-Accel-Buffering"))
	require.Empty(t, s.Header.Get("Content-Encoding"))

	retry := next(s)
	require.Equal(t, "retry: "+retry.Retry+"\n\n", retry.Raw)
	pause, err := strconv.Atoi(retry.Retry)
	require.NoError(t, err)
	require.GreaterOrEqual(t, pause, 500)

	logged := i.Lines(t, "/v1/events", token)
	require.Equal(t, "id: 1-1\nevent: newAlert\ndata: "+logged[0]+"\n\n", next(s).Raw)
	// The id is moved by the event already: a control event carries none.
	require.Equal(t, "event: tailroom.live\ndata: {\"cursor\":\"1-1\",\"heartbeatMs\":300}\n\n", next(s).Raw)

	i.Publish(t, service, `{"namespace":"/printing-ws","type":"printer:test","rooms":["branch:b1"],"data":{"printerId":"a\nb\r\n\u2028c","text":"data: id: \n\n"}}`)
	b := next(s)
	require.Equal(t, "printer:test", b.Event)
	require.Equal(t, "1-2", b.ID)
	require.Equal(t, i.Lines(t, "/v1/events", token)[1], b.Data)

	// A bookmark is an id by itself, which an EventSource dispatches as nothing.
	i.Publish(t, apptest.Token(t, access.Service, "c2"), "["+alert("of another company")+","+alert("two")+"]")
	require.Equal(t, "id: 1-4\n\n", next(s).Raw)
}

func TestStream_WhereItBegins(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	i.Publish(t, service, "["+alert("1")+","+alert("2")+","+alert("3")+"]")
	i.Reach(t, 3)
	for name, test := range map[string]struct {
		query  string
		lastID string
		blocks []string // their ids and events
	}{
		"now, and its id":       {"", "", []string{"1-3 tailroom.live"}},
		"now, in words":         {"cursor=now", "", []string{"1-3 tailroom.live"}},
		"a cursor":              {"cursor=1-1", "", []string{"1-2 newAlert", "1-3 newAlert", " tailroom.live"}},
		"Last-Event-ID":         {"", "1-2", []string{"1-3 newAlert", " tailroom.live"}},
		"Last-Event-ID wins":    {"cursor=1-0", "1-2", []string{"1-3 newAlert", " tailroom.live"}},
		"it wins over nonsense": {"cursor=x", "1-3", []string{" tailroom.live"}},
		"at the tip":            {"cursor=1-3", "", []string{" tailroom.live"}},
		// The id moves with the reset, or the client would be reset again when it comes back.
		"a reset":    {"cursor=1-9", "", []string{"1-3 tailroom.reset", " tailroom.live"}},
		"two resets": {"cursor=1-1", "7-3", []string{"1-3 tailroom.reset", " tailroom.live"}},
	} {
		headers := []string{}
		if test.lastID != "" {
			headers = append(headers, "Last-Event-ID", test.lastID)
		}
		s := i.Stream(t, token, test.query, headers...)
		_, err := s.Next(t) // retry
		require.NoError(t, err)
		for _, want := range test.blocks {
			b, err := s.Next(t)
			require.NoError(t, err)
			require.Equal(t, want, b.ID+" "+b.Event, name)
			if b.Event == "tailroom.reset" {
				require.JSONEq(t, `{"reason":"diverged","oldest":"1-0","resume":"1-3","snapshot":"/v1/state"}`, b.Data)
			}
		}
		s.Close()
	}
}

// The start is fixed before the headers are sent: whoever has them hears all
// that is published from then on.
func TestStream_NowIsWhenTheHeadersCome(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	for n := range int64(10) {
		s := cluster[0].Stream(t, token, "namespace=/availability")
		cluster[1].Publish(t, service, alert("at once"))
		for {
			b, err := s.Next(t)
			require.NoError(t, err)
			if b.Event == "newAlert" {
				require.Equal(t, fmt.Sprintf("1-%d", n+1), b.ID)
				break
			}
		}
		s.Close()
	}
}

func TestStream_RefusedBeforeItStarts(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	for name, test := range map[string]struct {
		token, query string
		headers      []string
		status       int
		code         string
	}{
		"no token":               {"", "", nil, 401, "unauthenticated"},
		"a token in the address": {"", "token=" + token + "&access_token=" + token, nil, 401, "unauthenticated"},
		"garbage":                {"x", "", nil, 401, "unauthenticated"},
		"expired":                {apptest.TokenUntil(t, time.Now().Add(-time.Hour), access.Web, "c1"), "", nil, 401, "token_expired"},
		"web for all":            {apptest.Token(t, access.Web, "*"), "", nil, 403, "forbidden"},
		"service for which":      {apptest.Token(t, access.Service, "*"), "", nil, 400, "invalid_parameter"},
		"another company":        {token, "companyId=c2", nil, 403, "forbidden"},
		"another branch":         {token, "room=branch:b2", nil, 403, "forbidden"},
		"another company's room": {token, "room=company:c2", nil, 403, "forbidden"},
		"no room":                {token, "room=user:1", nil, 422, "invalid_room"},
		"no query":               {token, "room=%zz", nil, 400, "invalid_parameter"},
		"no namespace":           {token, "namespace=/orders&namespace=/nowhere", nil, 422, "unknown_namespace"},
		"a malformed cursor":     {token, "cursor=1", nil, 400, "invalid_cursor"},
		"a malformed id":         {token, "cursor=1-0", []string{"Last-Event-ID", "1-0 "}, 400, "invalid_cursor"},
		"too many rooms":         {apptest.Token(t, access.Web, "c1"), strings.Repeat("room=branch:x&", 1) + rooms(1001), nil, 413, "too_large"},
	} {
		if name == "a malformed id" {
			test.headers = []string{"Last-Event-ID", "1-0x"} // HTTP trims spaces
		}
		answer := i.Do(t, http.MethodGet, "/v1/stream?"+test.query, test.token, "", test.headers...)
		require.Equal(t, test.status, answer.Status, name)
		require.Equal(t, test.code, answer.Code(), name)
		require.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), name)
		require.NotContains(t, string(answer.Body), token)
	}
	for _, method := range []string{http.MethodHead, http.MethodPost} {
		answer := i.Do(t, method, "/v1/stream", token, "")
		require.Equal(t, http.StatusMethodNotAllowed, answer.Status)
		require.Equal(t, "GET", answer.Header.Get("Allow"))
	}
}

func rooms(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "&room=branch:b%d", i)
	}
	return b.String()
}

// All rooms that are granted, in every namespace there is.
func TestStream_OfEverything(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	s := i.Stream(t, apptest.Token(t, access.Web, "c1", "b1"), "cursor=earliest")
	all := i.Stream(t, apptest.Token(t, access.Analyst, "*"), "cursor=earliest")
	one := i.Stream(t, apptest.Token(t, access.Analyst, "*"), "cursor=earliest&companyId=c2&room=branch_b1")
	i.Publish(t, service, `[{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}},
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b2"}},
		{"namespace":"/printing-ws","type":"printer:test","data":{"printerId":"1","branchId":"b1"}},
		{"namespace":"/availability","type":"newAlert","data":{"message":"for all"}}]`)
	i.Publish(t, apptest.Token(t, access.Service, "c2"), alert("5"))
	for stream, want := range map[*apptest.Stream][]string{
		s: {"1-1", "1-3", "1-4"}, all: {"1-1", "1-2", "1-3", "1-4", "1-5"}, one: {"1-5"},
	} {
		var got []string
		for len(got) < len(want) {
			b, err := stream.Next(t)
			require.NoError(t, err)
			if b.Data != "" && !strings.HasPrefix(b.Event, "tailroom.") {
				got = append(got, b.ID)
			}
		}
		require.Equal(t, want, got)
	}
}

// A stream ends in good order, so that its connection can be used again.
func TestStream_EndsOverAKeptConnection(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=200ms")[0]
	expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
	token := apptest.TokenUntil(t, expires, access.Web, "c1")
	conn, err := apptest.Dial(t.Context(), "tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.SetDeadline(time.Now().Add(apptest.Patience)))
	in := bufio.NewReader(conn)
	ask := func(path string) *http.Response {
		_, err := io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer "+token+"\r\n\r\n")
		require.NoError(t, err)
		response, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		return response
	}
	response := ask("/v1/stream")
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err, "the stream ended as if it had been cut")
	require.True(t, strings.HasSuffix(string(body), "event: tailroom.goaway\ndata: {\"delayMs\":0,\"reason\":\"token_expired\"}\n\n"), string(body))
	response = ask("/healthz")
	require.Equal(t, http.StatusOK, response.StatusCode)
	require.NoError(t, response.Body.Close())
}

func TestStream_DrainingInstance(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn, "TAILROOM_DRAIN_TIMEOUT=6s")
	token := apptest.Token(t, access.Web, "c1", "b1")
	streams := make([]*apptest.Stream, 16)
	for n := range streams {
		streams[n] = i.Stream(t, token, "")
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		i.Stop()
	}()
	var longest int64
	for _, s := range streams { // each leaves at a moment of its own
		for {
			b, err := s.Next(t)
			require.NoError(t, err)
			if b.Event == "tailroom.goaway" {
				var said struct {
					Reason  string `json:"reason"`
					DelayMS int64  `json:"delayMs"`
				}
				require.NoError(t, json.Unmarshal([]byte(b.Data), &said))
				require.Equal(t, "draining", said.Reason)
				require.Empty(t, b.ID)
				longest = max(longest, said.DelayMS)
				break
			}
		}
	}
	require.Greater(t, longest, int64(200), "all would come back at once")
	for _, path := range []string{"/v1/stream", "/v1/ws"} {
		answer := i.Get(t, path, token)
		require.Equal(t, http.StatusServiceUnavailable, answer.Status)
		require.Equal(t, "draining", answer.Code())
		require.NotEmpty(t, answer.Header.Get("Retry-After"))
	}
	answer := i.Get(t, "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, answer.Status)
	require.Equal(t, "draining", answer.Field("status"))
	require.Equal(t, http.StatusOK, i.Get(t, "/healthz", "").Status)
	for _, s := range streams {
		for {
			if _, err := s.Next(t); err != nil {
				require.ErrorIs(t, err, io.EOF)
				break
			}
		}
	}
	<-stopped
}

// A reader that takes nothing is cut; nobody else waits for it.
func TestStream_SlowReader(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=2s")[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	stuck, quick := i.Stream(t, token, ""), i.Stream(t, token, "")
	text := strings.Repeat("what no buffer holds ", 9000)
	const n = 15
	for k := range n {
		i.Publish(t, service, alert(text))
		for id := ""; id != fmt.Sprintf("1-%d", k+1); {
			b, err := quick.Next(t)
			require.NoError(t, err)
			id = b.ID
		}
	}
	require.Eventually(t, func() bool {
		return strings.Contains(string(i.Get(t, "/metrics", "").Body), "tailroom_sessions_closed_total{reason=\"slow\"} 1\n")
	}, apptest.Patience, 20*time.Millisecond)
	for blocks := 0; ; blocks++ {
		if _, err := stuck.Next(t); err != nil {
			require.False(t, errors.Is(err, io.EOF), "it must not look like an end in good order")
			require.Less(t, blocks, n)
			break
		}
	}
}

// A reader that takes a little now and then is never slow; an operator gets rid of it all
// the same.
func TestStream_SlowReaderThatIsDisconnected(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=6s", "TAILROOM_MAX_EVENT_BYTES=8MiB", "TAILROOM_MAX_MESSAGE_BYTES=16MiB")[0]
	conn, err := apptest.Dial(t.Context(), "tcp", strings.TrimPrefix(i.URL, "http://"))
	require.NoError(t, err)
	_, err = io.WriteString(conn, "GET /v1/stream HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer "+apptest.Token(t, access.Web, "c1")+"\r\n\r\n")
	require.NoError(t, err)
	const sessions = `tailroom_connections{role="web",transport="sse"}`
	i.AwaitMetric(t, sessions, 1)
	i.Publish(t, apptest.Token(t, access.Service, "c1"), alert(strings.Repeat("x", 7<<20)))
	_, err = io.CopyN(io.Discard, conn, 1<<20) // it is being written
	require.NoError(t, err)
	apptest.Trickle(t, conn, 62<<10)
	require.EqualValues(t, 1, i.Metric(t, sessions), "it was slow")
	answer := i.Do(t, http.MethodPost, "/v1/disconnections", apptest.Token(t, access.Admin, "c1"), `{"subject":"test-web"}`)
	require.Equal(t, http.StatusCreated, answer.Status)
	i.AwaitMetric(t, sessions, 0)
	i.AwaitMetric(t, `tailroom_sessions_closed_total{reason="slow"}`, 1)
}

// A short query must not become a long list: here thousands of namespaces, each
// with thousands of rooms.
func TestStream_ManyNamespacesTimesManyRooms(t *testing.T) { //nolint:paralleltest // it measures what the process allocates
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1")
	numbered := func(n int, format string) string {
		var b strings.Builder
		for k := range n {
			fmt.Fprintf(&b, format, k)
		}
		return b.String()
	}
	for query, test := range map[string]struct {
		status int
		code   string
	}{
		strings.Repeat("namespace=/orders&", 3000) + numbered(4000, "room=branch:%d&"):    {413, "too_large"},
		strings.Repeat("namespace=/orders&", 3000) + strings.Repeat("room=user:1&", 4000): {422, "invalid_room"},
		strings.Repeat("namespace&", 5000) + strings.Repeat("room&", 4999):                {422, "unknown_namespace"},
		strings.Repeat("namespace&", 5000) + strings.Repeat("room&", 10_000):              {400, "invalid_parameter"},
		numbered(4999, "namespace=%d&") + numbered(5000, "room=%d&"):                      {413, "too_large"},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		answer := i.Get(t, "/v1/stream?"+query, token)
		runtime.ReadMemStats(&after)
		require.Equal(t, test.status, answer.Status, "%.40s: %s", query, answer.Body)
		require.Equal(t, test.code, answer.Code(), "%.40s", query)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(32<<20), "%.40s", query)
	}
	// Repetitions are none the worse.
	s := i.Stream(t, token, strings.Repeat("namespace=/orders&room=branch:b1&", 1500))
	require.Equal(t, "text/event-stream", s.Header.Get("Content-Type"))
}
