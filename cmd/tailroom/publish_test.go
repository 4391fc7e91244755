package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const order = `{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b7"}}` + "\n"

func TestPublish_OneEvent(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	publish := func(data string, more ...string) (string, error) {
		args := append([]string{
			"publish", "--url", server.URL, "--token", serviceToken(t), "--company", "c1", "/orders", "newOrder", data,
		}, more...)
		stdout, _, err := tailroom(t.Context(), nil, args...)
		return stdout, err
	}
	const id = "0192a1c0-0000-7000-8000-000000000001"
	flags := []string{
		"--id", id, "--correlation-id", "till-3", "--causation-id", "0192a1c0-0000-7000-8000-000000000002",
		"--room", "branch:b8", "--room", "company:c1", "--stream", "order:one", "--expected-version", "0",
	}
	receipt, err := publish(`{"orderId":"1"}`, flags...)
	require.NoError(t, err)
	require.JSONEq(t, `{"cursor":"1-1","position":1,"id":"`+id+`","stream":"order:one","version":1,"duplicate":false}`, receipt)
	again, err := publish(`{"orderId":"1"}`, flags...)
	require.NoError(t, err)
	require.Equal(t, strings.Replace(receipt, "false", "true", 1), again)

	event := logged(t, server, "c1")
	require.Contains(t, event, `"rooms":["branch:b8","company:c1"]`)
	require.Contains(t, event, `"correlationId":"till-3","causationId":"0192a1c0-0000-7000-8000-000000000002"`)

	_, err = publish(`{"orderId":"1"}`, "--stream", "order:one", "--room", "branch:b8", "--expected-version", "0")
	require.ErrorContains(t, err, "version_conflict")
	_, err = publish(`{"branchId":"b7"}`)
	require.ErrorContains(t, err, "schema_violation: data/orderId is required")
	_, err = publish(`{orderId:1}`)
	require.ErrorContains(t, err, "DATA is not JSON")
}

func TestPublish_Lines(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	var input strings.Builder
	for i := range 2500 { // three requests
		fmt.Fprintf(&input, order, i)
	}
	input.WriteString("\nrubbish\n") // 2502
	input.WriteString(`[{"namespace":"/orders","type":"newOrder","data":{"orderId":"a","branchId":"b7"}},` +
		`{"namespace":"/orders","type":"newOrder","data":{"branchId":"b7"}}]` + "\n") // 2503
	input.WriteString(`[{"namespace":"/orders","type":"newOrder","data":{"orderId":"b","branchId":"b7"}},` +
		`{"namespace":"/orders","type":"newOrder","data":{"orderId":"c","branchId":"b7"}}]`)

	args := []string{"publish", "--url", server.URL, "--token", serviceToken(t), "--company", "c1", "--"}
	_, stderr, err := tailroom(t.Context(), strings.NewReader(input.String()), args...)
	require.EqualError(t, err, "2 of 2503 lines were refused")
	require.Contains(t, stderr, "line 2502: invalid_json")
	require.Contains(t, stderr, "line 2503: schema_violation")
	require.Contains(t, stderr, "2503 lines: 2502 events published, 0 lines known before, 2 refused\n")

	events := logged(t, server, "c1")
	require.Equal(t, 2502, strings.Count(events, "\n"))
	require.NotContains(t, events, `"orderId":"a"`, "a line is published whole or not at all")
	require.Less(t, strings.Index(events, `"orderId":"1999"`), strings.Index(events, `"orderId":"2000"`), "in order")
}

// A front that loses the first answer and refuses the second request.
func TestPublish_TriesAgainWithTheSameIDs(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	target, err := url.Parse(server.URL)
	require.NoError(t, err)
	behind := httputil.NewSingleHostReverseProxy(target)
	var requests atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch requests.Add(1) {
		case 1:
			behind.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		case 2:
			http.Error(w, "restarting", http.StatusBadGateway)
		default:
			behind.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)

	_, stderr, err := tailroom(t.Context(), strings.NewReader(fmt.Sprintf(order, 1)),
		"publish", "--url", front.URL, "--token", serviceToken(t), "--company", "c1")
	require.NoError(t, err)
	require.EqualValues(t, 3, requests.Load())
	require.Contains(t, stderr, "1 lines: 0 events published, 1 lines known before, 0 refused")
	require.Equal(t, 1, strings.Count(logged(t, server, "c1"), "\n"))
}

// A server that takes only the second of two lines at first.
func TestPoster_SendsAgainOnlyWhatWasPutOff(t *testing.T) {
	t.Parallel()
	bodies := make(chan string, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		if strings.Count(string(body), "\n") == 2 {
			fmt.Fprintln(w, `{"line":1,"status":503,"code":"overloaded","message":"later"}`)
			fmt.Fprintln(w, `{"line":2,"status":201,"events":[{}]}`)
			return
		}
		fmt.Fprintln(w, `{"line":1,"status":201,"events":[{}]}`)
	}))
	t.Cleanup(server.Close)

	p := poster{url: server.URL, token: func(context.Context) (string, error) { return "any", nil }, patience: time.Minute}
	var settled []int
	err := p.post(t.Context(), []line{{7, []byte(`{"a":1}`)}, {8, []byte(`{"b":2}`)}}, func(l line, a answer) {
		require.Equal(t, http.StatusCreated, a.Status)
		settled = append(settled, l.number)
	})
	require.NoError(t, err)
	require.Equal(t, []int{8, 7}, settled)
	require.Equal(t, "{\"a\":1}\n{\"b\":2}\n", <-bodies)
	require.Equal(t, "{\"a\":1}\n", <-bodies)
}

func TestPublish_GivesUp(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // nobody is there
	_, _, err := tailroom(t.Context(), strings.NewReader(fmt.Sprintf(order, 1)),
		"publish", "--url", server.URL, "--token", "any", "--retry-for", "1ms")
	require.ErrorContains(t, err, "of lines 1 to 1, which were under way, 1 have no answer: given up after 1ms")
}

// What comes slowly is not held back until a request is full.
func TestPublish_DoesNotWaitForMore(t *testing.T) {
	t.Parallel()
	came := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, `{"line":1,"status":201,"events":[{}]}`)
		came <- struct{}{}
	}))
	t.Cleanup(server.Close)
	input, typed := io.Pipe()
	done := make(chan error)
	go func() {
		_, _, err := tailroom(t.Context(), input, "publish", "--url", server.URL, "--token", "any")
		done <- err
	}()
	for i := range 3 {
		fmt.Fprintf(typed, order, i)
		<-came
	}
	require.NoError(t, typed.Close())
	require.NoError(t, <-done)
}

func TestPublish_RefusesFlagsThatMeanNothing(t *testing.T) {
	t.Parallel()
	_, _, err := tailroom(t.Context(), strings.NewReader(""), "publish", "--token", "any", "--room", "branch:b7")
	require.ErrorContains(t, err, "--room is for an event given as arguments")
	_, _, err = tailroom(t.Context(), nil, "publish", "--token", "any", "/orders", "newOrder")
	require.ErrorContains(t, err, "want NAMESPACE TYPE DATA")
}

func TestNewLine_FillsInWhatIsMissing(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"id":"x","n":1e400}`:             `{"companyId":"c1","id":"x","n":1e400}`, // not rounded
		`{"id":"x","companyId":"c2"}`:      `{"companyId":"c2","id":"x"}`,
		`[{"id":"x"},{"id":"y"}]`:          `[{"companyId":"c1","id":"x"},{"companyId":"c1","id":"y"}]`,
		`[null,{"id":"x"}]`:                `[null,{"companyId":"c1","id":"x"}]`,
		`null`:                             `null`,
		`rubbish`:                          `rubbish`,
		`{"id":"x"} {}`:                    `{"id":"x"} {}`,
		`{"id":"x","companyId":null}`:      `{"companyId":"c1","id":"x"}`,
		`{"id":"x","data":{"a":"\u0000"}}`: `{"companyId":"c1","data":{"a":"\u0000"},"id":"x"}`,
	} {
		require.Equal(t, want, string(newLine(1, []byte(text), "c1").json))
	}
	made := string(newLine(1, []byte(`{"id":null}`), "").json)
	require.Regexp(t, `^{"id":"[0-9a-f-]{14}7[0-9a-f-]{21}"}$`, made)
}
