package api_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

func TestCatalog(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	requireProblem(t, i.Get(t, "/v1/catalog", ""), 401, "unauthenticated")
	for _, token := range []string{apptest.Token(t, access.Web, "c1", "b1"), apptest.Token(t, access.Service, "*")} {
		answer := i.Get(t, "/v1/catalog", token)
		require.Equal(t, http.StatusOK, answer.Status)
		require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
		var catalogue struct {
			Namespaces []struct {
				Name, Description string
				Events            []struct {
					Type, Description string
					SchemaVersion     int
					Schema, Example   map[string]any
					Publish, Rooms    []string
					Stream            *string
					Reply             *struct{ Type string }
				}
			}
		}
		require.NoError(t, json.Unmarshal(answer.Body, &catalogue))
		var names, types []string
		for _, n := range catalogue.Namespaces {
			names = append(names, n.Name)
			require.NotEmpty(t, n.Description)
			for _, e := range n.Events {
				types = append(types, e.Type)
				require.NotEmpty(t, e.Description)
				require.NotEmpty(t, e.Schema)
				require.NotEmpty(t, e.Publish)
				// Each example is valid: it can be published as it is.
				example, err := json.Marshal(map[string]any{"companyId": "c1", "namespace": n.Name, "type": e.Type, "data": e.Example})
				require.NoError(t, err)
				i.Publish(t, apptest.Token(t, access.Service, "*"), string(example))
			}
		}
		require.Equal(t, []string{"/printing-ws", "/orders", "/availability"}, names)
		require.Len(t, types, 13)
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")
	id := i.Publish(t, token, status(""))[0].ID
	for _, path := range []string{"/", "/v1", "/v1/", "/v1/event", "/v1/events/", "/v1/events/" + id + "/", "/v1/events/" + id + "/x", "/v2/events", "/index.html"} {
		requireProblem(t, i.Get(t, path, token), 404, "not_found", path)
	}
	for path, allowed := range map[string]string{
		"/v1/events": "GET, HEAD, POST", "/v1/events/" + id: "GET, HEAD", "/v1/catalog": "GET, HEAD", "/v1/stream": "GET", "/v1/ws": "GET",
		"/healthz": "GET, HEAD", "/readyz": "GET, HEAD", "/metrics": "GET, HEAD",
	} {
		for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, "PURGE"} {
			answer := i.Do(t, method, path, token, "")
			requireProblem(t, answer, 405, "method_not_allowed", method+" "+path)
			require.Equal(t, allowed, answer.Header.Get("Allow"), method+" "+path)
		}
		// HEAD is GET without the body, where it is something.
		head := i.Do(t, http.MethodHead, path, token, "")
		require.Empty(t, head.Body)
		if strings.Contains(allowed, "HEAD") {
			get := i.Get(t, path, token)
			require.Equal(t, get.Status, head.Status, path)
			require.Equal(t, get.Header.Get("Content-Type"), head.Header.Get("Content-Type"), path)
		} else {
			require.Equal(t, http.StatusMethodNotAllowed, head.Status, path)
		}
	}
	require.Equal(t, http.StatusUnauthorized, i.Do(t, http.MethodHead, "/v1/events", "", "").Status)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "INSTANCE_ID=one")[0]
	i.Publish(t, apptest.Token(t, access.Service, "c1"), status(""))
	socket, _ := i.Hello(t, apptest.Token(t, access.Web, "c1"), "", `[{"namespace":"/orders"}]`)
	socket.Until(t, "live")
	for path, status := range map[string]string{"/healthz": "ok", "/readyz": "ready"} {
		answer := i.Get(t, path, "")
		require.Equal(t, http.StatusOK, answer.Status)
		var h struct {
			Status, Instance, Log, Version string
			Position                       int64
			Sessions                       int
			Draining                       bool
		}
		require.NoError(t, json.Unmarshal(answer.Body, &h))
		require.Equal(t, status, h.Status)
		require.Equal(t, "one", h.Instance)
		require.Equal(t, "ok", h.Log)
		require.Equal(t, "test", h.Version)
		require.Equal(t, 1, h.Sessions)
		require.False(t, h.Draining)
	}
}

// Figures are there from the start, as zeros.
func TestMetrics(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, name := range []string{
		"tailroom_published_events_total{namespace=\"/orders\"}", "tailroom_publish_refused_total{code=\"schema_violation\"}",
		"tailroom_delivered_events_total{transport=\"websocket\"}", "tailroom_delivered_events_total{transport=\"sse\"}",
		"tailroom_connections{role=\"web\",transport=\"sse\"}", "tailroom_sessions_total{transport=\"websocket\"}",
		"tailroom_sessions_closed_total{reason=\"slow\"}", "tailroom_hub_position",
	} {
		require.Zero(t, i.Metric(t, name), name)
	}
	token := apptest.Token(t, access.Service, "c1")
	i.Publish(t, token, "["+status("")+","+status("")+"]")
	i.Post(t, token, `{"namespace":"/orders","type":"newOrder","data":{}}`)
	require.EqualValues(t, 2, i.Metric(t, "tailroom_published_events_total{namespace=\"/orders\"}"))
	require.EqualValues(t, 1, i.Metric(t, "tailroom_publish_refused_total{code=\"schema_violation\"}"))
	for line := range strings.Lines(string(i.Get(t, "/metrics", "").Body)) {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE "), " ")
		require.Regexp(t, `^(tailroom|go|process)_`, name, "a figure of another's name")
	}
}

// What is large goes compressed to who accepts that, and is the same.
func TestCompression(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")
	large := fmt.Sprintf(`{"namespace":"/availability","type":"newAlert","data":{"message":%q}}`, strings.Repeat("many words ", 2000))
	small := i.Publish(t, token, status(""))[0].ID
	id := i.Publish(t, token, large)[0].ID
	for path, compressed := range map[string]bool{
		"/v1/events": true, "/v1/events/" + id: true, "/v1/catalog": true, "/v1/events?limit=1": false, "/v1/events/" + small: false, "/healthz": false,
	} {
		for _, accept := range []string{"application/json", "application/x-ndjson"} {
			plain := i.Do(t, http.MethodGet, path, token, "", "Accept-Encoding", "identity", "Accept", accept)
			require.Empty(t, plain.Header.Get("Content-Encoding"))
			answer := i.Do(t, http.MethodGet, path, token, "", "Accept-Encoding", "gzip", "Accept", accept)
			require.Equal(t, compressed, answer.Header.Get("Content-Encoding") == "gzip", "%s, %d bytes", path, len(plain.Body))
			body := answer.Body
			if compressed {
				require.Contains(t, answer.Header.Values("Vary"), "Accept-Encoding")
				r, err := gzip.NewReader(bytes.NewReader(body))
				require.NoError(t, err)
				body, err = io.ReadAll(r)
				require.NoError(t, err)
			}
			if !strings.Contains(path, "health") {
				require.Equal(t, string(plain.Body), string(body), path)
			}
		}
	}
}

// While the log is away everything says so, and afterwards a publish with the
// same ids is safe.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	proxy := pgproxy.Start(t, pgtest.Database(t))
	i := apptest.Start(t, proxy.DSN(), "TAILROOM_PUBLISH_TIMEOUT=1s", "TAILROOM_POLL_INTERVAL=100ms")
	token := apptest.Token(t, access.Service, "c1")
	i.Publish(t, token, status(""))
	proxy.Refuse(true)

	fields := requireProblem(t, i.Post(t, token, "["+status(`"id":"`+one+`",`)+","+status("")+"]"), 503, "unavailable")
	ids, ok := fields["ids"].([]any)
	require.True(t, ok)
	require.Len(t, ids, 2)
	require.Equal(t, one, ids[0])
	answer := i.PostLines(t, token, status("")+"\n"+`{}`)
	require.Equal(t, http.StatusOK, answer.Status)
	lines := strings.Split(string(answer.Body), "\n")
	require.Contains(t, lines[0], `"status":503`)
	require.Contains(t, lines[1], `"status":422`)
	for _, path := range []string{"/v1/events", "/v1/events?after=1-9", "/v1/events/" + one, "/v1/stream", "/v1/stream?cursor=1-9"} {
		requireProblem(t, i.Get(t, path, token), 503, "unavailable", path)
	}
	require.Eventually(t, func() bool { return i.Get(t, "/readyz", "").Status == http.StatusServiceUnavailable }, apptest.Patience, tick)
	require.Equal(t, http.StatusOK, i.Get(t, "/healthz", "").Status)

	proxy.Refuse(false)
	require.Eventually(t, func() bool { return i.Get(t, "/readyz", "").Status == http.StatusOK }, apptest.Patience, tick)
	group := "[" + status(`"id":"`+one+`",`) + "," + status(fmt.Sprintf(`"id":%q,`, ids[1])) + "]"
	events := i.Publish(t, token, group)
	require.Equal(t, []int64{2, 3}, []int64{events[0].Position, events[1].Position})
	again := i.Publish(t, token, group)
	require.True(t, again[0].Duplicate)
	require.Equal(t, int64(3), again[1].Position)
	require.Len(t, i.Lines(t, "/v1/events", token), 3)
}
