package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/state"
)

// statesTimeout is how long a request waits until the states have come as far as
// the cursor it asks for.
const statesTimeout = 2 * time.Second

// maxStates is how many states an answer has at most.
const maxStates = 1000

// States reads the states of streams.
type States interface {
	// Page reads states. An *event.Reset means that the log cannot tell what was at
	// the cursor.
	Page(ctx context.Context, q event.StateQuery) (event.StatePage, error)
	// Await waits until there are states at a cursor, or ctx ends.
	Await(ctx context.Context, at event.Cursor) error
	// PositionAt is the last position that was recorded at a time or before it, or
	// the log's floor, looked for when it is the company's turn.
	PositionAt(ctx context.Context, tenant string, at time.Time) (event.Cursor, error)
}

var stateParameters = []string{"after", "asOf", "companyId", "limit", "namespace", "open", "room", "stream"}

// states answers GET /v1/state.
func (a *api) states(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	v, err := values(r, stateParameters)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	q, err := a.stateQuery(ctx, grant, v)
	if err != nil {
		return err
	}
	if q.At != nil {
		wait, cancel := context.WithTimeout(ctx, statesTimeout)
		err = a.States.Await(wait, *q.At)
		cancel()
	}
	var page event.StatePage
	if err == nil {
		page, err = a.States.Page(ctx, q)
	}
	if reset, ok := errors.AsType[*event.Reset](err); ok {
		return goneAs(reset)
	}
	if err != nil {
		slog.WarnContext(ctx, "the states could not be read", "component", "api", "error", err)
		why := "the log could not be read in time"
		if errors.Is(err, state.ErrBehind) {
			why = "there are no states at this cursor yet: they are behind the log, or are being made anew"
		}
		return problem.New(problem.Unavailable, why).RetryAfter(time.Second)
	}
	writeJSON(w, http.StatusOK, statesJSON(page))
	return nil
}

func (a *api) stateQuery(ctx context.Context, grant access.Grant, v url.Values) (q event.StateQuery, err error) {
	q = event.StateQuery{Tenant: grant.Tenant, Namespaces: distinct(v["namespace"]), Prefix: v.Get("stream"), Limit: defaultLimit}
	if len(q.Namespaces) == 0 {
		q.Namespaces = a.Catalog.Namespaces()
	}
	for _, namespace := range q.Namespaces {
		if err := a.Catalog.Known(namespace); err != nil {
			return q, err
		}
	}
	if strings.ContainsRune(q.Prefix, 0) || len(q.Prefix) > 4*event.MaxStream {
		return q, parameter("stream", fmt.Sprintf(
			"stream is how names of streams begin, such as order: or order:1042; they have %d characters at most", event.MaxStream))
	}
	if q.Rooms, err = a.rooms(grant, v); err != nil {
		return q, err
	}
	if err := limitParameter(v, maxStates, &q.Limit); err != nil {
		return q, err
	}
	switch v.Get("open") {
	case "":
	case "true", "false":
		open := v.Get("open") == "true"
		q.Open = &open
	default:
		return q, parameter("open", "open is true or false").With("allowed", []string{"true", "false"})
	}
	if after := v.Get("after"); after != "" {
		err = readToken(after, &q)
		return q, err
	}
	if asOf := v.Get("asOf"); asOf != "" {
		q.At, err = a.asOf(ctx, grant.Tenant, asOf)
	}
	return q, err
}

// asOf reads a cursor or a time.
func (a *api) asOf(ctx context.Context, tenant, text string) (*event.Cursor, error) {
	if start, err := event.ParseStart(text); err == nil {
		if start.Origin == event.At {
			return &start.Cursor, nil
		}
		position, _, err := a.Locator.Locate(ctx, start)
		if err != nil {
			return nil, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
		}
		return &position, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return nil, parameter("asOf", "asOf is a cursor, {epoch}-{position}, or an RFC 3339 time, such as 2026-01-31T18:30:00Z").
			With("allowed", []string{"{epoch}-{position}", "earliest", "now", "RFC 3339 time"})
	}
	cursor, err := a.States.PositionAt(ctx, tenant, at)
	if err != nil {
		slog.WarnContext(ctx, "a time could not be found in the log", "component", "api", "error", err)
		return nil, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
	}
	oldest, _, err := a.Locator.Locate(ctx, event.Start{Origin: event.Earliest})
	if err != nil {
		return nil, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
	}
	if cursor.Position <= oldest.Position && oldest.Position > 0 { // before what is kept: nobody knows how long before
		return nil, goneAs(&event.Reset{Reason: event.Expired, Oldest: oldest, Resume: oldest})
	}
	return &cursor, nil
}

// token is where the next page begins, and what all pages are true at. It gives
// nobody more than the query that it comes with.
type token struct {
	Epoch     int64  `json:"e"`
	Position  int64  `json:"p"`
	Tenant    string `json:"t"`
	Namespace string `json:"n"`
	Stream    string `json:"s"`
}

func writeToken(page event.StatePage) string {
	text, err := json.Marshal(token{page.Cursor.Epoch, page.Cursor.Position, page.Last.Tenant, page.Last.Namespace, page.Last.Stream})
	if err != nil {
		panic("api: an unencodable token: " + err.Error()) // texts and numbers
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func readToken(text string, q *event.StateQuery) error {
	var t token
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(decoded, &t)
	}
	if err != nil || strings.ContainsRune(t.Tenant+t.Namespace+t.Stream, 0) {
		return parameter("after", "after is the next of an earlier answer")
	}
	q.At = &event.Cursor{Epoch: t.Epoch, Position: t.Position}
	q.After = event.StateKey{Tenant: t.Tenant, Namespace: t.Namespace, Stream: t.Stream}
	return nil
}

func statesJSON(page event.StatePage) []byte {
	b := append([]byte(`{"cursor":"`), page.Cursor.String()...)
	b = append(b, `","states":[`...)
	for i := range page.States {
		if i > 0 {
			b = append(b, ',')
		}
		b = page.States[i].AppendJSON(b)
	}
	if page.More {
		b = append(b, `],"next":"`...)
		b = append(b, writeToken(page)...)
		return append(b, `","more":true}`...)
	}
	return append(b, `],"more":false}`...)
}
