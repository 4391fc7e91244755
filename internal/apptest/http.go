package apptest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Event is an event as clients get it.
type Event struct {
	Cursor        string          `json:"cursor"`
	Position      int64           `json:"position"`
	ID            string          `json:"id"`
	Namespace     string          `json:"namespace"`
	Type          string          `json:"type"`
	CompanyID     string          `json:"companyId"`
	Rooms         []string        `json:"rooms"`
	Stream        *string         `json:"stream"`
	Version       *int64          `json:"version"`
	RecordedAt    string          `json:"recordedAt"`
	CorrelationID string          `json:"correlationId"`
	Data          json.RawMessage `json:"data"`
}

// Answer is an HTTP answer.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Code is the code of a problem.
func (a Answer) Code() string { return a.Field("code") }

// Field is a text at the top of a JSON answer, "" when there is none.
func (a Answer) Field(name string) string {
	var fields map[string]any
	if json.Unmarshal(a.Body, &fields) != nil {
		return ""
	}
	text, ok := fields[name].(string)
	if !ok {
		return ""
	}
	return text
}

// Do sends a request with a token ("" is none). The headers come in pairs.
func (i *Instance) Do(t testing.TB, method, path, token, body string, headers ...string) Answer {
	t.Helper()
	answer, err := i.Request(t.Context(), method, path, token, body, headers...)
	require.NoError(t, err)
	return answer
}

// Request is Do for goroutines beside the test's own, which may not end it.
func (i *Instance) Request(ctx context.Context, method, path, token, body string, headers ...string) (answer Answer, err error) {
	r, err := http.NewRequestWithContext(ctx, method, i.URL+path, strings.NewReader(body))
	if err != nil {
		return answer, err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	for n := 0; n+1 < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	response, err := i.client().Do(r)
	if err != nil {
		return answer, err
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	return Answer{Status: response.StatusCode, Header: response.Header, Body: text}, err
}

// Get reads a path.
func (i *Instance) Get(t testing.TB, path, token string) Answer {
	t.Helper()
	return i.Do(t, http.MethodGet, path, token, "")
}

// Post publishes a JSON body.
func (i *Instance) Post(t testing.TB, token, body string) Answer {
	t.Helper()
	return i.Do(t, http.MethodPost, "/v1/events", token, body, "Content-Type", "application/json")
}

// PostLines publishes NDJSON.
func (i *Instance) PostLines(t testing.TB, token, body string) Answer {
	t.Helper()
	return i.Do(t, http.MethodPost, "/v1/events", token, body, "Content-Type", "application/x-ndjson")
}

// Receipt is one event of the answer to a publish.
type Receipt struct {
	Cursor    string  `json:"cursor"`
	Position  int64   `json:"position"`
	ID        string  `json:"id"`
	Stream    *string `json:"stream"`
	Version   *int64  `json:"version"`
	Duplicate bool    `json:"duplicate"`
}

// Publish publishes a JSON body, which must be accepted.
func (i *Instance) Publish(t testing.TB, token, body string) []Receipt {
	t.Helper()
	answer := i.Post(t, token, body)
	require.Contains(t, []int{http.StatusOK, http.StatusCreated}, answer.Status, string(answer.Body))
	var published struct {
		Events []Receipt `json:"events"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &published))
	return published.Events
}

// History reads GET /v1/events with a query.
func (i *Instance) History(t testing.TB, token, query string) (events []Event, cursor string, more bool) {
	t.Helper()
	answer := i.Get(t, "/v1/events?"+query, token)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	var page struct {
		Events []Event `json:"events"`
		Cursor string  `json:"cursor"`
		More   bool    `json:"more"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &page))
	return page.Events, page.Cursor, page.More
}

// Lines reads a path as NDJSON: the events as they came, byte for byte.
func (i *Instance) Lines(t testing.TB, path, token string) []string {
	t.Helper()
	answer := i.Do(t, http.MethodGet, path, token, "", "Accept", "application/x-ndjson")
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	require.Equal(t, "application/x-ndjson", answer.Header.Get("Content-Type"))
	var lines []string
	for line := range strings.Lines(string(answer.Body)) {
		require.True(t, strings.HasSuffix(line, "\n"), "the answer ended within a line")
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
	return lines
}

// Metric is a figure of GET /metrics; its name comes with the labels, if any,
// as it is printed.
func (i *Instance) Metric(t testing.TB, name string) float64 {
	t.Helper()
	figure, err := i.TryMetric(t.Context(), name)
	require.NoError(t, err)
	return figure
}

// TryMetric is Metric for conditions that are waited for, in which a test cannot be
// ended, and for instances that may refuse to answer.
func (i *Instance) TryMetric(ctx context.Context, name string) (float64, error) {
	answer, err := i.Request(ctx, http.MethodGet, "/metrics", "", "")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(answer.Body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("there is no figure %s", name)
}

// AwaitMetric waits until a figure is what it should be.
func (i *Instance) AwaitMetric(t testing.TB, name string, want float64) {
	t.Helper()
	require.Eventually(t, func() bool {
		figure, err := i.TryMetric(t.Context(), name)
		return err == nil && figure == want
	}, Patience, 10*time.Millisecond, name)
}

// Reach waits until the instance has read the log up to a position. What it
// acknowledges it has not read yet: a session can be caught up without it.
func (i *Instance) Reach(t testing.TB, position int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		reached, err := i.TryMetric(t.Context(), "tailroom_hub_position")
		return err == nil && reached >= float64(position)
	}, Patience, 10*time.Millisecond)
}
