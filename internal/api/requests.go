package api

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// maxRequests is how many requests a listing holds: each comes with two events.
	maxRequests = 1000
	// requestsAtOnce is how many of them are read at once.
	requestsAtOnce = 50
	// maxStory is how many events are looked for that belong to a request.
	maxStory = 1000
	// maxAge bounds olderThan.
	maxAge = 10 * 365 * 24 * time.Hour
)

// ask answers POST /v1/requests.
func (a *api) ask(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.grant(r)
	if err != nil {
		return err
	}
	if err := plain(r); err != nil {
		return err
	}
	if mediaType(r) != typeJSON {
		return problem.New(problem.UnsupportedMedia, "a request is one event, in JSON").With("allowed", []string{typeJSON})
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, a.MaxBody))
	if err != nil {
		return a.bodyError(err)
	}
	asked, err := a.Requester.Ask(grant, func() access.Grant { return grant }, nil, body)
	if err != nil {
		return err
	}
	defer asked.Close()
	if _, err := asked.Published(r.Context()); err != nil {
		return err
	}
	if prefersAsync(r) {
		question, reply, err := asked.Present(r.Context())
		if err != nil {
			return err
		}
		if reply == nil {
			w.Header().Set("Preference-Applied", "respond-async")
			w.Header().Set("Location", "/v1/requests/"+url.PathEscape(question.CorrelationID)+
				"?namespace="+url.QueryEscape(question.Namespace))
			writeJSON(w, http.StatusAccepted, fmt.Appendf(nil, `{"request":%s,"status":%q}`, question.JSON(), eventlog.Pending))
			return nil
		}
		writeJSON(w, http.StatusOK, answered(question, reply))
		return nil
	}
	question, reply, err := asked.Reply(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, answered(question, reply))
	return nil
}

func answered(question, reply *event.Entry) []byte {
	return fmt.Appendf(nil, `{"request":%s,"reply":%s}`, question.JSON(), reply.JSON())
}

// prefersAsync reports whether the client would rather not wait (RFC 7240, section 4.1).
func prefersAsync(r *http.Request) bool {
	return slices.ContainsFunc(r.Header.Values("Prefer"), func(header string) bool {
		return slices.ContainsFunc(strings.Split(header, ","), func(preference string) bool {
			token, _, _ := strings.Cut(preference, ";")
			return strings.EqualFold(strings.TrimSpace(token), "respond-async")
		})
	})
}

// requestParameters are those of a list of requests, and storyParameters those of one.
var (
	requestParameters = []string{"after", "companyId", "limit", "namespace", "olderThan", "room", "status", "type"}
	storyParameters   = []string{"companyId", "namespace"}
)

// listRequests answers GET /v1/requests.
func (a *api) listRequests(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	v, err := values(r, requestParameters)
	if err != nil {
		return err
	}
	q, err := a.requestQuery(ctx, grant, v)
	if err != nil {
		return err
	}
	list, more, err := a.Requests.Requests(ctx, q)
	if err != nil {
		return unreadable(ctx, err)
	}
	return a.writeRequests(ctx, w, grant, list, more)
}

// requestQuery reads the parameters of a list of requests.
func (a *api) requestQuery(ctx context.Context, grant access.Grant, v url.Values) (eventlog.RequestQuery, error) {
	q := eventlog.RequestQuery{Tenant: grant.Tenant, Statuses: distinct(v["status"]), Limit: defaultLimit}
	var err error
	if q.Namespaces, q.Types, q.Rooms, err = a.extent(grant, v); err != nil {
		return q, err
	}
	for _, status := range q.Statuses {
		if !slices.Contains(eventlog.Statuses, status) {
			return q, parameter("status", "status is "+strings.Join(eventlog.Statuses, ", ")).With("allowed", eventlog.Statuses)
		}
	}
	if err := limitParameter(v, maxRequests, &q.Limit); err != nil {
		return q, err
	}
	if age := v.Get("olderThan"); age != "" {
		if q.OlderThan, err = time.ParseDuration(age); err != nil || q.OlderThan < 0 || q.OlderThan > maxAge {
			return q, parameter("olderThan", "olderThan is a duration such as 30s, 5m or 2h")
		}
	}
	if after := v.Get("after"); after != "" && after != "earliest" {
		q.After, err = a.locate(ctx, "after", after)
	}
	return q, err
}

// writeRequests writes a list of requests as one object, some at a time.
func (a *api) writeRequests(ctx context.Context, w http.ResponseWriter, grant access.Grant, list []eventlog.Request, more bool) error {
	separator, next := `{"requests":[`, ""
	for page := range slices.Chunk(list, requestsAtOnce) {
		found, err := a.Requests.Events(ctx, grant.Tenant, places(page))
		if err != nil && next == "" {
			return unreadable(ctx, err)
		} else if err != nil {
			return abort(ctx, err)
		}
		if next == "" {
			w.Header().Set("Content-Type", typeJSON)
			w.Header().Set("Cache-Control", "no-store")
		}
		for i := range page {
			text := append([]byte(separator), requestFields(grant, &page[i], found)...)
			if _, err := w.Write(append(text, '}')); err != nil {
				return nil // the client is gone
			}
			separator, next = ",", found[page[i].Position].Cursor.String()
		}
	}
	if next == "" {
		writeJSON(w, http.StatusOK, []byte(`{"requests":[],"more":false}`))
		return nil
	}
	end := `],"more":false}`
	if more {
		end = fmt.Sprintf(`],"more":true,"next":%q}`, next)
	}
	_, _ = w.Write([]byte(end))
	return nil
}

// places are the positions of requests and their answers.
func places(list []eventlog.Request) []int64 {
	var positions []int64
	for _, r := range list {
		if positions = append(positions, r.Position); r.Answer > 0 {
			positions = append(positions, r.Answer)
		}
	}
	return positions
}

// requestFields is a request as clients see it, without the end of the object: the
// answer only if the grant covers its rooms.
func requestFields(grant access.Grant, r *eventlog.Request, found map[int64]*event.Entry) []byte {
	b := event.AppendString([]byte(`{"correlationId":`), r.CorrelationID)
	b = fmt.Appendf(b, `,"status":%q,"request":%s`, r.Status, found[r.Position].JSON())
	if reply := found[r.Answer]; reply != nil && grant.Sees(&reply.Event) {
		b = fmt.Appendf(b, `,"reply":%s`, reply.JSON())
	}
	return fmt.Appendf(b, `,"replyBy":%q`, r.ReplyBy.Format(event.TimeLayout))
}

// getRequest answers GET /v1/requests/{correlationId}: of several requests with that
// id the newest, and everything that belongs to it.
func (a *api) getRequest(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	v, err := values(r, storyParameters)
	if err != nil {
		return err
	}
	id := r.PathValue("correlationId")
	if !event.ValidCorrelationID(id) {
		return parameter("correlationId", "correlationId is 1 to 128 printable characters")
	}
	q := eventlog.RequestQuery{Tenant: grant.Tenant, CorrelationID: id, NewestFirst: true, Limit: 1}
	if q.Namespaces, _, q.Rooms, err = a.extent(grant, v); err != nil {
		return err
	}
	list, _, err := a.Requests.Requests(ctx, q)
	if err != nil {
		return unreadable(ctx, err)
	}
	if len(list) == 0 {
		return problem.New(problem.NotFound, "there is no request with this correlation id")
	}
	found, err := a.Requests.Events(ctx, grant.Tenant, places(list))
	if err != nil {
		return unreadable(ctx, err)
	}
	events, more, err := a.Requests.Story(ctx, list[0].Tenant, id, maxStory)
	if err != nil {
		return unreadable(ctx, err)
	}
	body := append(requestFields(grant, &list[0], found), `,"events":[`...)
	separator := ""
	for _, e := range events {
		if a.shows(grant, &e.Event) {
			body = append(append(body, separator...), e.JSON()...)
			separator = ","
		}
	}
	writeJSON(w, http.StatusOK, fmt.Appendf(body, `],"more":%t}`, more))
	return nil
}

func unreadable(ctx context.Context, err error) error {
	slog.WarnContext(ctx, "requests could not be read", "component", "api", "error", err)
	return problem.New(problem.Unavailable, "the log could not be read in time").RetryAfter(time.Second)
}
