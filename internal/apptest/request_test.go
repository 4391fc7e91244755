package apptest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// requestState is a request as the listing shows it; of the answer to an asker it has two
// fields.
type requestState struct {
	CorrelationID string            `json:"correlationId"`
	Status        string            `json:"status"`
	Request       json.RawMessage   `json:"request"`
	Reply         json.RawMessage   `json:"reply"`
	ReplyBy       time.Time         `json:"replyBy"`
	Events        []json.RawMessage `json:"events"`
	More          bool              `json:"more"`
}

func decode[T any](t *testing.T, text []byte) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(text, &v), string(text))
	return v
}

// testPrint is the body of a request for a test print.
func testPrint(id, branch, more string) string {
	return fmt.Sprintf(`{"namespace":"/printing-ws","type":"printer:test","id":%q,"data":{"printerId":"p1","branchId":%q}%s}`, id, branch, more)
}

// result is its answer.
func result(correlation, branch string) string {
	return fmt.Sprintf(`{"namespace":"/printing-ws","type":"printer:test:result","correlationId":%q,"data":{"printerId":"p1","branchId":%q,"success":true}}`,
		correlation, branch)
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// ask asks in the background.
func ask(t *testing.T, i *apptest.Instance, token, body string, headers ...string) <-chan apptest.Answer {
	t.Helper()
	answers := make(chan apptest.Answer, 1)
	go func() {
		answer, err := i.Request(context.WithoutCancel(t.Context()), http.MethodPost, "/v1/requests", token, body, headers...)
		if err != nil {
			answer = apptest.Answer{Body: []byte(err.Error())}
		}
		answers <- answer
	}()
	return answers
}

// answerOf waits for what an asker was told.
func answerOf(t *testing.T, answers <-chan apptest.Answer) apptest.Answer {
	t.Helper()
	select {
	case a := <-answers:
		return a
	case <-time.After(apptest.Patience):
		require.Fail(t, "nobody was told anything")
		return apptest.Answer{}
	}
}

// requests lists requests.
func requests(t *testing.T, i *apptest.Instance, token, query string) []requestState {
	t.Helper()
	answer := i.Get(t, "/v1/requests?"+query, token)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	return decode[struct{ Requests []requestState }](t, answer.Body).Requests
}

// awaitRequest waits until a request is listed.
func awaitRequest(t *testing.T, i *apptest.Instance, token, correlation string) {
	t.Helper()
	apptest.Eventually(t, func() bool { return i.Get(t, "/v1/requests/"+correlation, token).Status == http.StatusOK },
		apptest.Patience, 5*time.Millisecond)
}

// Whoever asks on one instance is answered by who answers on another; the bytes are
// those of the log. Who asks again with the same id gets the same at once, and who
// answers again is refused.
func TestRequest_AcrossInstances(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	agent, _ := i[1].Hello(t, app, "now", `[{"namespace":"/printing-ws"}]`)
	agent.Until(t, "live")

	id := newID()
	answers := ask(t, i[0], web, testPrint(id, "b7", ""))
	request := agent.Collect(t, 1)[0]
	require.Equal(t, id, request.ID)
	first := i[1].Publish(t, app, result(request.CorrelationID, "b7"))[0]
	answer := answerOf(t, answers)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	got := decode[requestState](t, answer.Body)
	log := i[1].Lines(t, "/v1/events?namespace=/printing-ws", web)
	require.Equal(t, log, []string{string(got.Request), string(got.Reply)})
	replyBy := decode[struct{ ReplyBy, RecordedAt time.Time }](t, got.Request)
	require.WithinDuration(t, replyBy.RecordedAt.Add(30*time.Second), replyBy.ReplyBy, 5*time.Second, "the catalogue's timeout")

	again := i[1].Do(t, http.MethodPost, "/v1/requests", web, testPrint(id, "b7", ""))
	require.Equal(t, http.StatusOK, again.Status)
	require.JSONEq(t, string(answer.Body), string(again.Body))
	async := i[0].Do(t, http.MethodPost, "/v1/requests", web, testPrint(id, "b7", ""), "Prefer", "respond-async")
	require.Equal(t, http.StatusOK, async.Status, "there is nothing to wait for")
	require.JSONEq(t, string(answer.Body), string(async.Body))

	late := i[0].Post(t, app, result(request.CorrelationID, "b7"))
	require.Equal(t, http.StatusConflict, late.Status, string(late.Body))
	require.Equal(t, "already_answered", late.Code())
	require.Equal(t, first.ID, late.Field("id"))
	require.Equal(t, log, i[0].Lines(t, "/v1/events?namespace=/printing-ws", web), "asked once, answered once")
	require.InDelta(t, 2, i[0].Metric(t, `tailroom_request_waits_total{end="answered"}`)+i[1].Metric(t, `tailroom_request_waits_total{end="answered"}`), 0)
	i[0].AwaitMetric(t, "tailroom_request_waits", 0)
}

// Whoever waits hears of the answer when it is in the log, not when he looks again.
func TestRequest_TheAnswerIsASignal(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	listener, _ := i[0].Hello(t, web, "now", `[{"namespace":"/printing-ws"}]`)
	listener.Until(t, "live")
	var took []time.Duration
	for range 15 {
		id := newID()
		answers := ask(t, i[0], web, testPrint(id, "b7", ""))
		awaitRequest(t, i[1], web, id)
		last := i[1].Publish(t, app, result(id, "b7"))[0].ID
		for heard := ""; heard != last; {
			for _, e := range listener.Next(t).Decoded(t) {
				heard = e.ID
			}
		}
		start := time.Now() // the instance knows it now, however long that took
		require.Equal(t, http.StatusOK, answerOf(t, answers).Status)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	require.Less(t, took[len(took)/2], 300*time.Millisecond, "the table alone is asked every second: %v", took)
}

// An order is placed when the branch has confirmed it, or will not.
func TestRequest_AnOrderIsConfirmed(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web := apptest.Token(t, access.Web, "c1")
	for _, status := range []string{"accepted", "rejected"} {
		id := newID()
		answers := ask(t, i[0], web, fmt.Sprintf(
			`{"namespace":"/orders","type":"newOrder","id":%q,"correlationId":"order/%s","timeoutMs":20000,"data":{"orderId":%q,"branchId":"b7"}}`, id, status, status))
		story := "/v1/requests/order%2F" + status
		apptest.Eventually(t, func() bool { return i[1].Get(t, story, web).Status == http.StatusOK }, apptest.Patience, 5*time.Millisecond)
		update := `{"namespace":"/orders","type":"orderStatusUpdate","correlationId":"order/%s","causationId":%q,"data":{"orderId":%q,"branchId":"b7","status":%q}}`
		i[1].Publish(t, web, fmt.Sprintf(update, status, id, status, "preparing"))
		require.Equal(t, "pending", i[1].Get(t, story, web).Field("status"), "that is no confirmation")
		i[1].Publish(t, web, fmt.Sprintf(update, status, id, status, status))
		answer := answerOf(t, answers)
		require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
		require.Contains(t, string(decode[requestState](t, answer.Body).Reply), fmt.Sprintf(`"status":%q`, status))
	}
	require.Equal(t, http.StatusOK, i[0].Get(t, "/v1/requests?companyId=c1", web).Status)
}

// The waiter's patience ends; the request stays open. A late answer is one.
func TestRequest_TimeoutThenALateAnswer(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2, "TAILROOM_BODY_TIMEOUT=200ms") // which is not the waiter's
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	id := newID()
	answer := i[0].Do(t, http.MethodPost, "/v1/requests", web, testPrint(id, "b7", `,"timeoutMs":700`))
	require.Equal(t, http.StatusGatewayTimeout, answer.Status, string(answer.Body))
	require.Equal(t, "reply_timeout", answer.Code())
	require.Equal(t, id, answer.Field("correlationId"))
	list := requests(t, i[1], web, "status=pending")
	require.Len(t, list, 1)
	require.Equal(t, id, list[0].CorrelationID)
	require.Empty(t, list[0].Reply)

	waiting := ask(t, i[1], web, testPrint(id, "b7", `,"timeoutMs":60000`))
	awaitMetric(t, i[1], "tailroom_request_waits", 1)
	i[0].Publish(t, app, result(id, "b7"))
	require.Equal(t, http.StatusOK, answerOf(t, waiting).Status)
	list = requests(t, i[0], web, "")
	require.Len(t, list, 1)
	require.Equal(t, "answered", list[0].Status)
	require.Contains(t, string(list[0].Reply), `"printer:test:result"`)

	// One that nobody waits for: published as an event, and expired at once.
	expired := newID()
	i[0].Publish(t, web, strings.TrimSuffix(testPrint(expired, "b7", ""), "}")+`,"replyBy":"2026-01-31T18:30:00Z"}`)
	require.Equal(t, "expired", requests(t, i[1], web, "status=expired")[0].Status)
	require.Empty(t, requests(t, i[1], web, "status=pending"))
	i[1].Publish(t, app, result(expired, "b7"))
	require.Equal(t, "answered", i[0].Get(t, "/v1/requests/"+expired, web).Field("status"))
	require.Len(t, requests(t, i[0], web, "status=answered&status=expired&type=printer:test&namespace=/printing-ws&room=branch_b7"), 2)
	require.Empty(t, requests(t, i[0], web, "olderThan=1h"))
}

func TestRequest_RespondAsync(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	web := apptest.Token(t, access.Web, "c1")
	id := newID()
	for range 2 {
		answer := i.Do(t, http.MethodPost, "/v1/requests", web, testPrint(id, "b7", ""), "Prefer", `handling=lenient, Respond-Async; x=1`)
		require.Equal(t, http.StatusAccepted, answer.Status, string(answer.Body))
		require.Equal(t, "respond-async", answer.Header.Get("Preference-Applied"))
		got := decode[requestState](t, answer.Body)
		require.Equal(t, "pending", got.Status)
		require.Equal(t, []string{string(got.Request)}, i.Lines(t, "/v1/events", web))
		require.Equal(t, "pending", i.Get(t, answer.Header.Get("Location"), web).Field("status"))
	}
	i.AwaitMetric(t, "tailroom_request_waits", 0)
}

// Other companies and branches see nothing of it; and who may see the request, but
// not the rooms of the answer, learns no more than that there is one.
func TestRequest_Grants(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web, b7 := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.Web, "c1", "b7")
	b8, c2 := apptest.Token(t, access.Web, "c1", "b8"), apptest.Token(t, access.Web, "c2")
	admin, service := apptest.Token(t, access.Admin, "*"), apptest.Token(t, access.Service, "*")
	id := newID()
	answers := ask(t, i[0], b7, testPrint(id, "b7", ""))
	awaitRequest(t, i[1], b7, id)
	for _, stranger := range []string{b8, c2} {
		require.Empty(t, requests(t, i[1], stranger, ""))
		require.Equal(t, http.StatusNotFound, i[1].Get(t, "/v1/requests/"+id, stranger).Status)
	}
	require.Equal(t, http.StatusForbidden, i[1].Get(t, "/v1/requests?room=branch:b7", b8).Status)
	require.Equal(t, http.StatusForbidden, i[1].Get(t, "/v1/requests?companyId=c1", c2).Status)
	require.Equal(t, http.StatusBadRequest, i[1].Get(t, "/v1/requests", service).Status)
	require.Equal(t, http.StatusUnauthorized, i[1].Get(t, "/v1/requests", "").Status)
	require.Equal(t, http.StatusForbidden, i[1].Do(t, http.MethodPost, "/v1/requests", b8, testPrint(newID(), "b7", "")).Status)
	require.Len(t, requests(t, i[1], service, "companyId=c1"), 1)
	require.Len(t, requests(t, i[1], admin, ""), 1)
	require.Empty(t, requests(t, i[1], admin, "companyId=c2"))

	// Another company's event of that correlation id answers nothing.
	i[1].Publish(t, service, strings.Replace(result(id, "b7"), `{`, `{"companyId":"c2",`, 1))
	require.Equal(t, "pending", i[1].Get(t, "/v1/requests/"+id, b7).Field("status"))
	i[1].Publish(t, service, strings.Replace(result(id, "b8"), `{`, `{"companyId":"c1",`, 1))
	answer := answerOf(t, answers)
	require.Equal(t, http.StatusForbidden, answer.Status, string(answer.Body))
	require.Equal(t, id, answer.Field("correlationId"))
	require.NotContains(t, string(answer.Body), "success")
	async := i[0].Do(t, http.MethodPost, "/v1/requests", b7, testPrint(id, "b7", ""), "Prefer", "respond-async")
	require.Equal(t, http.StatusForbidden, async.Status)
	require.JSONEq(t, string(answer.Body), string(async.Body))
	story := decode[requestState](t, i[1].Get(t, "/v1/requests/"+id, b7).Body)
	require.Equal(t, "answered", story.Status)
	require.Empty(t, story.Reply)
	require.Len(t, story.Events, 1)
	story = decode[requestState](t, i[1].Get(t, "/v1/requests/"+id, web).Body)
	require.NotEmpty(t, story.Reply)
	require.Len(t, story.Events, 2)
}

// The whole story: what has the correlation id, and what that has caused.
func TestRequest_Story(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	order, job := newID(), newID()
	event := `{"namespace":%q,"type":%q,"id":%q,"correlationId":%q,"causationId":%s,"data":%s}`
	i.Do(t, http.MethodPost, "/v1/requests", service, fmt.Sprintf(
		`{"namespace":"/orders","type":"newOrder","id":%q,"data":{"orderId":"1","branchId":"b7"}}`, order), "Prefer", "respond-async")
	i.Publish(t, service, fmt.Sprintf(event, "/printing-ws", "printJobUpdate", job, "j1", `"`+order+`"`, `{"jobId":"j1","branchId":"b7","status":"queued"}`))
	i.Publish(t, service, fmt.Sprintf(event, "/printing-ws", "printJobUpdate", newID(), "j1", `"`+job+`"`, `{"jobId":"j1","branchId":"b7","status":"printed"}`))
	i.Publish(t, service, fmt.Sprintf(event, "/printing-ws", "printJobUpdate", newID(), "j2", "null", `{"jobId":"j2","branchId":"b7","status":"queued"}`))
	i.Publish(t, service, fmt.Sprintf(event, "/orders", "orderStatusUpdate", newID(), order, `"`+order+`"`, `{"orderId":"1","branchId":"b7","status":"accepted"}`))
	lines := i.Lines(t, "/v1/events", service)
	story := decode[requestState](t, i.Get(t, "/v1/requests/"+order+"?namespace=/orders", service).Body)
	require.Equal(t, "answered", story.Status)
	require.Equal(t, lines[0], string(story.Request))
	require.Equal(t, lines[4], string(story.Reply))
	var events []string
	for _, e := range story.Events {
		events = append(events, string(e))
	}
	require.Equal(t, []string{lines[0], lines[1], lines[2], lines[4]}, events)
	require.False(t, story.More)
	require.Equal(t, http.StatusNotFound, i.Get(t, "/v1/requests/"+order+"?namespace=/printing-ws", service).Status)
	require.Equal(t, http.StatusNotFound, i.Get(t, "/v1/requests/j1", service).Status)
}

func TestRequest_Pages(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service := apptest.Token(t, access.Service, "c1")
	var ids []string
	for n := range 7 {
		ids = append(ids, newID())
		i.Publish(t, service, fmt.Sprintf(`[%s]`, strings.TrimSuffix(testPrint(ids[n], fmt.Sprintf("b%d", n%2), ""), "}")+`,"rooms":["branch:b9","company:c1"],"replyBy":"2100-01-31T18:30:00Z"}`))
	}
	for _, query := range []string{"", "&room=branch:b9", "&room=company:c1&room=branch:b9"} {
		var got []string
		for after := "earliest"; after != ""; {
			answer := i.Get(t, "/v1/requests?limit=3&after="+after+query, service)
			page := decode[struct {
				Requests []requestState
				More     bool
				Next     string
			}](t, answer.Body)
			for _, r := range page.Requests {
				got = append(got, r.CorrelationID)
			}
			require.Equal(t, page.More, page.Next != "")
			after = page.Next
		}
		require.Equal(t, ids, got)
	}
	require.Empty(t, requests(t, i, service, "room=branch:b0"))
}

func TestRequest_Refusals(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1")
	for body, want := range map[string]string{
		`{"namespace":"/orders","type":"driverUpdate","data":{"driverId":"1","branchId":"b7"}}`: "invalid_parameter newOrder",
		`{"namespace":"/orders","type":"nothing","data":{}}`:                                    "unknown_type driverUpdate",
		testPrint(newID(), "b7", `,"timeoutMs":0`):                                              "invalid_parameter timeoutMs",
		testPrint(newID(), "b7", `,"timeoutMs":600001`):                                         "invalid_parameter timeoutMs",
		testPrint(newID(), "b7", `,"timeoutMs":"1s"`):                                           "invalid_parameter timeoutMs",
		testPrint(newID(), "b7", `,"replyBy":"2100-01-31T18:30:00Z"`):                           "invalid_parameter replyBy",
		`[]`: "invalid_parameter object", `{`: "invalid_json", ``: "invalid_json",
	} {
		answer := i.Do(t, http.MethodPost, "/v1/requests", web, body)
		code, hint, _ := strings.Cut(want, " ")
		require.Equal(t, code, answer.Code(), "%s: %s", body, answer.Body)
		require.Contains(t, string(answer.Body), hint)
	}
	require.Equal(t, http.StatusForbidden, i.Do(t, http.MethodPost, "/v1/requests", app, testPrint(newID(), "b7", "")).Status)
	require.Equal(t, http.StatusUnsupportedMediaType,
		i.Do(t, http.MethodPost, "/v1/requests", web, testPrint(newID(), "b7", ""), "Content-Type", "application/x-ndjson").Status)
	for _, query := range []string{"status=open", "limit=0", "limit=1001", "olderThan=5", "olderThan=-1s", "order=desc", "after=x", "room=b7"} {
		require.Contains(t, []int{http.StatusBadRequest, http.StatusUnprocessableEntity}, i.Get(t, "/v1/requests?"+query, web).Status, query)
	}
	require.Empty(t, i.Lines(t, "/v1/events", web), "nothing of it was published")
}

// A group that would ask and answer at once, or answer twice, is refused before the log
// sees it, and so is a request too many.
func TestRequest_Groups(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, app := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	asking := func(correlation string) string {
		return strings.TrimSuffix(testPrint(newID(), "b7", ""), "}") + fmt.Sprintf(`,"correlationId":%q,"replyBy":"2100-01-31T18:30:00Z"}`, correlation)
	}
	for _, group := range [][]string{{asking("x"), result("x", "b7")}, {result("x", "b7"), result("x", "b7")}} {
		answer := i.Post(t, service, "["+strings.Join(group, ",")+"]")
		require.Equal(t, "invalid_parameter", answer.Code(), string(answer.Body))
		require.Equal(t, "correlationId", answer.Field("path"))
	}
	i.Publish(t, service, "["+asking("x")+","+result("y", "b7")+","+result("z", "b7")+"]")
	i.Publish(t, service, "["+result("x", "b7")+","+asking("x")+"]")
	for range eventlog.MaxOpen - 1 {
		i.Publish(t, service, asking("x"))
	}
	full := i.Post(t, service, asking("x"))
	require.Equal(t, http.StatusRequestEntityTooLarge, full.Status, string(full.Body))
	require.Equal(t, "too_large", full.Code())
	require.Contains(t, string(full.Body), `"limit":16`)
	i.Publish(t, app, result("x", "b7"))
	i.Publish(t, service, asking("x"))
}

// Over a WebSocket many requests wait at once, while the connection is read on.
func TestRequest_WebSocket(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	s, _ := i[0].Hello(t, web, "now", `[]`)
	s.Until(t, "live")
	send := func(ref int, id, more string) {
		s.Send(t, fmt.Sprintf(`{"type":"request","ref":%d,"event":"printer:test","namespace":"/printing-ws","id":%q,"data":{"printerId":"<p1>","branchId":"b7"}%s}`,
			ref, id, more))
	}
	const most = 64
	var ids []string
	for ref := range most {
		ids = append(ids, newID())
		send(ref, ids[ref], "")
	}
	for _, id := range ids {
		awaitRequest(t, i[1], web, id)
	}
	send(most, newID(), "")
	refused := s.Next(t)
	require.Equal(t, "overloaded", refused.Code, string(refused.Raw))
	require.Equal(t, "64", string(refused.Ref))
	s.Send(t, `{"type":"ping","ref":"alive"}`)
	require.Equal(t, "pong", s.Next(t).Type)

	for n := most - 1; n >= 0; n-- {
		i[1].Publish(t, app, result(ids[n], "b7"))
	}
	told := map[string]bool{}
	for range most {
		m := s.Next(t)
		require.True(t, m.OK, string(m.Raw))
		got := decode[struct {
			Request, Reply json.RawMessage
			Events         []apptest.Receipt
		}](t, m.Raw)
		id := decode[apptest.Event](t, got.Request).ID
		require.Equal(t, fmt.Sprint(indexOf(ids, id)), string(m.Ref))
		require.Equal(t, id, got.Events[0].ID)
		require.Equal(t, id, decode[apptest.Event](t, got.Reply).CorrelationID)
		require.Equal(t, string(i[1].Get(t, "/v1/events/"+id, web).Body), string(got.Request))
		told[id] = true
	}
	require.Len(t, told, most)

	send(1, newID(), `,"timeoutMs":50`)
	late := s.Next(t)
	require.Equal(t, "reply_timeout", late.Code, string(late.Raw))
	s.Send(t, `{"type":"request","ref":2,"namespace":"/printing-ws","data":{}}`)
	require.Equal(t, "invalid_parameter", s.Next(t).Code)
	for _, name := range []string{"event", "request"} { // as a whole
		s.Send(t, fmt.Sprintf(`{"type":"request","ref":2,%q:%s}`, name, testPrint(newID(), "b7", `,"timeoutMs":50`)))
		require.Equal(t, "reply_timeout", s.Next(t).Code, name)
	}

	i[0].AwaitMetric(t, "tailroom_request_waits", 0)
	send(3, newID(), "")
	i[0].AwaitMetric(t, "tailroom_request_waits", 1)
	require.NoError(t, s.Conn.CloseNow())
	awaitMetric(t, i[0], `tailroom_request_waits_total{end="gone"}`, 1)
	apptest.Eventually(t, func() bool { return i[0].Metric(t, "tailroom_request_waits") == 0 }, apptest.Patience, 5*time.Millisecond)
}

func indexOf(list []string, wanted string) int {
	for i, s := range list {
		if s == wanted {
			return i
		}
	}
	return -1
}

// Two answer at once on two instances, again and again: the asker gets the one that
// counts, and the other is told which that is.
func TestRequest_TwoAnswersAtOnce(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	for round := range 20 {
		id := newID()
		answers := ask(t, i[round%2], web, testPrint(id, "b7", ""))
		awaitRequest(t, i[0], web, id)
		var g errgroup.Group
		told := make([]apptest.Answer, 2)
		for n := range told {
			g.Go(func() (err error) {
				told[n], err = i[n].Request(t.Context(), http.MethodPost, "/v1/events", app, result(id, "b7"))
				return err
			})
		}
		require.NoError(t, g.Wait())
		if told[0].Status == http.StatusConflict {
			told[0], told[1] = told[1], told[0]
		}
		require.Equal(t, http.StatusCreated, told[0].Status)
		require.Equal(t, "already_answered", told[1].Code())
		first := decode[struct{ Events []apptest.Receipt }](t, told[0].Body).Events[0].ID
		require.Equal(t, first, told[1].Field("id"))
		require.Equal(t, first, decode[apptest.Event](t, decode[requestState](t, answerOf(t, answers).Body).Reply).ID)
	}
}

// The instance that a requester waits on is killed. He asks again elsewhere, with the
// same id, and nobody is asked twice.
func TestRequest_TheInstanceIsKilled(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	p, err := load.Start(t.Context(), load.Build(t), apptest.Log, "DATABASE_URL="+pgtest.Writer(dsn), "JWT_SECRET="+apptest.Secret, "PORT=0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Stop() })
	killed, other := &apptest.Instance{URL: p.URL}, apptest.Start(t, dsn)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	id := newID()
	answers := ask(t, killed, web, testPrint(id, "b7", ""))
	awaitRequest(t, other, web, id)
	p.Signal(syscall.SIGKILL)
	require.Zero(t, answerOf(t, answers).Status, "the line broke")

	answers = ask(t, other, web, testPrint(id, "b7", ""))
	awaitMetric(t, other, "tailroom_request_waits", 1)
	other.Publish(t, app, result(id, "b7"))
	require.Equal(t, http.StatusOK, answerOf(t, answers).Status)
	require.Len(t, other.Lines(t, "/v1/events", web), 2)
}

// The database is away while somebody waits; the answer comes meanwhile, by another
// way. He gets it when the instance can read the log again.
func TestRequest_DatabaseAway(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	proxy := pgproxy.Start(t, dsn)
	cutOff, other := apptest.Start(t, pgtest.Writer(proxy.DSN())), apptest.Start(t, dsn)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	id := newID()
	answers := ask(t, cutOff, web, testPrint(id, "b7", ""))
	awaitRequest(t, other, web, id)
	awaitMetric(t, cutOff, "tailroom_request_waits", 1)
	proxy.Refuse(true)
	proxy.Cut()
	apptest.Eventually(t, func() bool { return cutOff.Get(t, "/healthz", "").Field("log") != "ok" }, apptest.Patience, 10*time.Millisecond)
	other.Publish(t, app, result(id, "b7"))
	proxy.Refuse(false)
	answer := answerOf(t, answers)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
}

// A log that has lost its end may have lost the request. Whoever waits is told, though
// no event says so.
func TestRequest_Lost(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	web := apptest.Token(t, access.Web, "c1")
	id := newID()
	answers := ask(t, i, web, testPrint(id, "b7", ""))
	awaitRequest(t, i, web, id)
	// The maintenance, which takes in what the table lacks, has nothing more to do.
	execute(t, dsn, "UPDATE tailroom.log SET requests_from = NULL", "DELETE FROM tailroom.requests")
	answer := answerOf(t, answers)
	require.Equal(t, "unavailable", answer.Code(), string(answer.Body))
	require.Equal(t, id, answer.Field("id"))
	awaitMetric(t, i, `tailroom_request_waits_total{end="lost"}`, 1)
}

// Nobody knows whether it was published: whoever gave no id learns what to ask again with.
func TestRequest_TheLogIsHeldUp(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	impatient, i := apptest.Start(t, dsn, "TAILROOM_PUBLISH_TIMEOUT=200ms"), apptest.Start(t, dsn)
	web := apptest.Token(t, access.Web, "c1")
	release := holdAppends(t, dsn)
	answer := impatient.Do(t, http.MethodPost, "/v1/requests", web,
		`{"namespace":"/printing-ws","type":"printer:test","correlationId":"x","data":{"printerId":"p1","branchId":"b7"}}`)
	require.Equal(t, "unavailable", answer.Code(), string(answer.Body))
	require.Equal(t, "x", answer.Field("correlationId"))
	id := answer.Field("id")
	require.NoError(t, uuid.Validate(id))
	release()
	waiting := ask(t, i, web, testPrint(id, "b7", `,"correlationId":"x"`))
	awaitRequest(t, i, web, "x")
	i.Publish(t, apptest.Token(t, access.DesktopApp, "c1", "b7"), result("x", "b7"))
	require.Equal(t, http.StatusOK, answerOf(t, waiting).Status)
	require.Len(t, requests(t, i, web, ""), 1)
}

// An event that asked for no answer cannot be asked again.
func TestRequest_ItWasNone(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	web := apptest.Token(t, access.Web, "c1")
	id := newID()
	i.Publish(t, web, testPrint(id, "b7", ""))
	for _, prefer := range []string{"", "respond-async"} {
		answer := i.Do(t, http.MethodPost, "/v1/requests", web, testPrint(id, "b7", ""), "Prefer", prefer)
		require.Equal(t, "id_reused", answer.Code(), string(answer.Body))
		require.Equal(t, id, answer.Field("id"))
	}
}

// Whoever renews his token while he waits gets his answer when the old one has ended.
func TestRequest_RenewedToken(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	ends := time.Now().Add(8 * time.Second).Truncate(time.Second) // he has renewed it by then
	s, _ := i.Hello(t, apptest.TokenUntil(t, ends, access.Web, "c1"), "now", `[]`)
	s.Until(t, "live")
	id := newID()
	s.Send(t, fmt.Sprintf(`{"type":"request","ref":1,"event":"printer:test","namespace":"/printing-ws","id":%q,"data":{"printerId":"p1","branchId":"b7"}}`, id))
	app := apptest.Token(t, access.DesktopApp, "c1", "b7")
	awaitRequest(t, i, app, id)
	s.Send(t, fmt.Sprintf(`{"type":"auth","ref":2,"token":%q}`, apptest.Token(t, access.Web, "c1")))
	renewed := s.Until(t, "reply")
	require.True(t, renewed[len(renewed)-1].OK, string(renewed[len(renewed)-1].Raw))
	require.Eventually(t, func() bool { return time.Now().After(ends) }, apptest.Patience, 10*time.Millisecond)
	i.Publish(t, app, result(id, "b7"))
	m := s.Until(t, "reply")
	require.True(t, m[len(m)-1].OK, string(m[len(m)-1].Raw))
}

// Whoever's token is revoked while he waits, over HTTP or a WebSocket, learns no answer.
func TestRequest_RevokedWhileWaiting(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2)
	mallory, app := tokenOf(t, "mallory", time.Minute, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	id, other := newID(), newID()
	answers := ask(t, i[0], mallory, testPrint(id, "b7", ""))
	s, _ := i[0].Hello(t, mallory, "now", `[]`)
	s.Send(t, fmt.Sprintf(`{"type":"request","ref":1,"event":"printer:test","namespace":"/printing-ws","id":%q,"data":{"printerId":"p1","branchId":"b7"}}`, other))
	awaitRequest(t, i[1], app, id)
	awaitRequest(t, i[1], app, other)
	operate(t, i[1], "/v1/revocations", "c1", `{"subject":"mallory"}`)
	awaitMetric(t, i[0], "tailroom_revocations", 1)
	i[1].Publish(t, app, result(id, "b7"))
	i[1].Publish(t, app, result(other, "b7"))
	answer := answerOf(t, answers)
	require.Equal(t, "token_revoked", answer.Code(), string(answer.Body))
	require.Equal(t, id, answer.Field("id"))
	for _, m := range s.Until(t, "goaway") {
		require.NotContains(t, string(m.Raw), "success")
	}
}

// An instance that goes away lets nobody wait.
func TestRequest_Drain(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 2, "TAILROOM_DRAIN_TIMEOUT=1m") // so that hardly a session leaves at once
	web := apptest.Token(t, access.Web, "c1")
	id, over := newID(), newID()
	answers := ask(t, i[0], web, testPrint(id, "b7", ""))
	s, _ := i[0].Hello(t, web, "now", `[]`)
	s.Send(t, fmt.Sprintf(`{"type":"request","ref":1,"event":"printer:test","namespace":"/printing-ws","id":%q,"data":{"printerId":"p1","branchId":"b7"}}`, over))
	awaitMetric(t, i[0], "tailroom_request_waits", 2)
	awaitRequest(t, i[1], web, id)
	awaitRequest(t, i[1], web, over)
	var stopped sync.WaitGroup
	stopped.Go(i[0].Stop)
	answer := answerOf(t, answers)
	require.Equal(t, http.StatusServiceUnavailable, answer.Status, string(answer.Body))
	require.Equal(t, "draining", answer.Code())
	require.Equal(t, id, answer.Field("id"))
	m := s.Until(t, "reply")
	require.Equal(t, "draining", m[len(m)-1].Code)
	require.NoError(t, s.Conn.CloseNow())
	stopped.Wait()
	require.Len(t, requests(t, i[1], web, "status=pending"), 2)
}

// SQL asks and answers as well, and is refused the second answer: at once, or in the
// outbox.
func TestRequest_SQL(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i, pool := apptest.Start(t, dsn), pgtest.Pool(t, dsn)
	web, app := apptest.Token(t, access.Web, "c1"), apptest.Token(t, access.DesktopApp, "c1", "b7")
	const answer = `SELECT tailroom.%s('c1', '/printing-ws', 'printer:test:result', '{"printerId":"p1","branchId":"b7"}', correlation_id => $1)`
	for _, by := range []string{"publish", "append"} {
		id := newID()
		answers := ask(t, i, web, testPrint(id, "b7", ""))
		awaitRequest(t, i, web, id)
		_, err := pool.Exec(t.Context(), fmt.Sprintf(answer, by), id)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, answerOf(t, answers).Status)
		_, err = pool.Exec(t.Context(), fmt.Sprintf(answer, "append"), id)
		require.ErrorContains(t, err, "TR019")
		require.Equal(t, "already_answered", i.Post(t, app, result(id, "b7")).Code())
	}
	_, err := pool.Exec(t.Context(), fmt.Sprintf(answer, "publish"), requests(t, i, web, "")[0].CorrelationID)
	require.NoError(t, err)
	apptest.Eventually(t, func() bool {
		return query[int](t, dsn, "SELECT count(*) FROM tailroom.outbox_rejected WHERE code = 'already_answered'") == 1
	}, apptest.Patience, 10*time.Millisecond)

	// One of a transaction is no event, because its id was used before: then the other
	// is the answer.
	open := newID()
	i.Publish(t, web, strings.TrimSuffix(testPrint(open, "b7", ""), "}")+`,"replyBy":"2100-01-31T18:30:00Z"}`)
	second := newID()
	_, err = pool.Exec(t.Context(), strings.Replace(fmt.Sprintf(answer, "publish"), "$1", "$1, id => $2", 1)+
		","+strings.Replace(strings.TrimPrefix(fmt.Sprintf(answer, "publish"), "SELECT"), "$1", "$1, id => $3", 1), open, open, second)
	require.NoError(t, err)
	apptest.Eventually(t, func() bool {
		return query[int](t, dsn, "SELECT count(*) FROM tailroom.outbox_rejected WHERE code = 'id_reused'") == 1
	}, apptest.Patience, 10*time.Millisecond)
	require.Equal(t, second, query[string](t, dsn, "SELECT answer_id::text FROM tailroom.requests WHERE correlation_id = '"+open+"'"))

	for n, by := range []string{"publish", "append"} {
		id := newID()
		_, err := pool.Exec(t.Context(), fmt.Sprintf(`SELECT tailroom.%s('c1', '/printing-ws', 'printer:test', '{"printerId":"p1","branchId":"b7"}',
			id => $1, reply_by => clock_timestamp() + interval '1 hour')`, by), id)
		require.NoError(t, err)
		awaitRequest(t, i, web, id)
		require.Equal(t, "pending", i.Get(t, "/v1/requests/"+id, web).Field("status"))
		i.Publish(t, app, result(id, "b7"))
		require.Len(t, requests(t, i, web, "status=answered"), 4+n)
	}
	for range eventlog.MaxOpen {
		i.Publish(t, web, strings.TrimSuffix(testPrint(newID(), "b8", ""), "}")+`,"correlationId":"full","replyBy":"2100-01-31T18:30:00Z"}`)
	}
	for by, rejected := range map[string]int{"append": 0, "publish": 1} {
		_, err := pool.Exec(t.Context(), fmt.Sprintf(`SELECT tailroom.%s('c1', '/printing-ws', 'printer:test', '{"printerId":"p1","branchId":"b8"}',
			correlation_id => 'full', reply_by => clock_timestamp() + interval '1 hour')`, by))
		require.Equal(t, rejected == 0, err != nil && strings.Contains(err.Error(), "TR014"), "%v", err)
		apptest.Eventually(t, func() bool {
			return query[int](t, dsn, "SELECT count(*) FROM tailroom.outbox_rejected WHERE code = 'too_large'") >= rejected
		}, apptest.Patience, 10*time.Millisecond)
	}
	// Without a time it asks nobody, and a type that has no reply cannot.
	_, err = pool.Exec(t.Context(), `SELECT tailroom.append('c1', '/printing-ws', 'printer:test', '{"printerId":"p1","branchId":"b7"}'),
		tailroom.append('c1', '/printing-ws', 'printJobUpdate', '{"jobId":"j1","status":"queued","branchId":"b7"}', reply_by => now())`)
	require.NoError(t, err)
	require.Len(t, requests(t, i, web, "room=branch:b7"), 5)
	require.Len(t, requests(t, i, web, ""), 5+eventlog.MaxOpen)
}
