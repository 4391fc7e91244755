package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

const (
	defaultLimit = 100
	maxLimit     = 10_000
	// queryTimeout bounds a query of the log; a client's patience is shorter.
	queryTimeout = 30 * time.Second
)

// parameters are those of a listing. Another is refused: a filter with a slip of
// the pen would give away more than was asked for.
var parameters = []string{
	"after", "before", "companyId", "correlationId", "from", "limit", "namespace", "order", "room", "stream", "to", "type",
}

// list answers GET /v1/events.
func (a *api) list(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	v, err := values(r, parameters)
	if err != nil {
		return err
	}
	return a.listing(w, r, grant, v)
}

// stream answers GET /v1/streams/{stream}.
func (a *api) stream(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	v, err := values(r, slices.DeleteFunc(slices.Clone(parameters), func(name string) bool { return name == "stream" }))
	if err != nil {
		return err
	}
	v.Set("stream", r.PathValue("stream"))
	return a.listing(w, r, grant, v)
}

// listing answers with the events that some parameters select.
func (a *api) listing(w http.ResponseWriter, r *http.Request, grant access.Grant, v url.Values) error {
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	q, err := a.query(ctx, grant, v)
	if err != nil {
		return err
	}
	listing, err := a.History.List(ctx, q)
	if err != nil {
		slog.WarnContext(ctx, "a query of the log failed", "component", "api", "error", err)
		return problem.New(problem.Unavailable, "the log could not be read in time").RetryAfter(time.Second)
	}
	if after := v.Get("after"); after != "" && after != "earliest" && q.After < listing.Bounds.Floor {
		return a.gone(ctx)
	}
	if strings.Contains(r.Header.Get("Accept"), typeNDJSON) {
		return writeLines(ctx, w, listing)
	}
	return a.writePage(ctx, w, q, listing)
}

// values are the parameters of a request, which all must be known: with one that has a
// slip of the pen, more would be given away than was asked for.
func values(r *http.Request, known []string) (url.Values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, problem.New(problem.InvalidParameter, "the query cannot be read, or has more than 10,000 parameters")
	}
	for name := range v {
		if !slices.Contains(known, name) {
			return nil, parameter(name, "there is no such parameter").With("allowed", known)
		}
	}
	return v, nil
}

// query reads the parameters of a listing.
func (a *api) query(ctx context.Context, grant access.Grant, v url.Values) (eventlog.Query, error) {
	q := eventlog.Query{
		Tenant: grant.Tenant, Stream: v.Get("stream"), CorrelationID: v.Get("correlationId"), Limit: defaultLimit,
	}
	var err error
	if q.Namespaces, q.Types, q.Rooms, err = a.extent(grant, v); err != nil {
		return q, err
	}
	if q.Stream != "" && !event.ValidStream(q.Stream) {
		return q, parameter("stream", "a stream is {category}:{id}")
	}
	if q.CorrelationID != "" && !event.ValidCorrelationID(q.CorrelationID) {
		return q, parameter("correlationId", "correlationId is 1 to 128 printable characters")
	}
	if err := limitParameter(v, maxLimit, &q.Limit); err != nil {
		return q, err
	}
	switch v.Get("order") {
	case "", "asc":
	case "desc":
		q.Descending = true
	default:
		return q, parameter("order", "order is asc or desc").With("allowed", []string{"asc", "desc"})
	}
	if q.From, err = timeParameter(v, "from"); err != nil {
		return q, err
	}
	if q.To, err = timeParameter(v, "to"); err != nil {
		return q, err
	}
	err = a.between(ctx, &q, v)
	return q, err
}

// extent reads the parameters that say what of the log is meant.
func (a *api) extent(grant access.Grant, v url.Values) (namespaces, types, rooms []string, err error) {
	namespaces, types = distinct(v["namespace"]), distinct(v["type"])
	if len(namespaces) == 0 {
		namespaces = a.Catalog.Namespaces()
	}
	for _, namespace := range namespaces {
		if err := a.known(grant, namespace); err != nil {
			return nil, nil, nil, err
		}
	}
	if err := a.knownTypes(namespaces, types); err != nil {
		return nil, nil, nil, err
	}
	rooms, err = a.rooms(grant, v)
	return namespaces, types, rooms, err
}

// rooms are those that a query names, or else all that the grant covers: none where
// that is every room.
func (a *api) rooms(grant access.Grant, v url.Values) ([]string, error) {
	named := distinct(v["room"])
	if len(named) > a.MaxRooms {
		a.Limits.Hit(limit.Rooms)
		return nil, problem.New(problem.TooLarge,
			fmt.Sprintf("a listing names at most %d rooms; leave rooms out to list all that the token covers", a.MaxRooms)).
			With("limit", a.MaxRooms)
	}
	var rooms []string
	for _, name := range named {
		room, err := grant.Room(name)
		if err != nil {
			return nil, err
		}
		rooms = append(rooms, room)
	}
	if rooms == nil && !grant.AllBranches {
		rooms = grant.Rooms()
	}
	return rooms, nil
}

// limitParameter reads how many are wanted at most.
func limitParameter(v url.Values, most int, into *int) error {
	size := v.Get("limit")
	if size == "" {
		return nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 1 || n > most {
		return parameter("limit", fmt.Sprintf("limit is 1 to %d", most))
	}
	*into = n
	return nil
}

// known returns unknown_namespace for a namespace that there is not for who asks:
// what the log says of itself is the administrators'.
func (a *api) known(grant access.Grant, namespace string) error {
	if namespace == event.System && grant.MayOperate() {
		return nil
	}
	return a.Catalog.Known(namespace)
}

// knownTypes returns unknown_type for a type that none of the namespaces has.
func (a *api) knownTypes(namespaces, types []string) error {
	if len(types) == 0 {
		return nil
	}
	var allowed []string
	for _, n := range a.Catalog.All() {
		if slices.Contains(namespaces, n.Name) {
			for _, t := range n.Types {
				allowed = append(allowed, t.Name)
			}
		}
	}
	if slices.Contains(namespaces, event.System) {
		allowed = append(allowed, event.SystemTypes...)
	}
	for _, name := range types {
		if !slices.Contains(allowed, name) {
			return problem.New(problem.UnknownType, fmt.Sprintf("there is no event type %.100q in these namespaces", name)).
				With("allowed", allowed)
		}
	}
	return nil
}

// distinct returns each of the names once. A query can repeat them thousands of times.
func distinct(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }

// between reads the cursors that a listing lies between.
func (a *api) between(ctx context.Context, q *eventlog.Query, v url.Values) error {
	if before := v.Get("before"); before != "" {
		position, err := a.locate(ctx, "before", before)
		if err != nil {
			return err
		}
		q.Before = position
		if position == 0 {
			q.Before = -1 // nothing lies before the first event; 0 would not limit
		}
	}
	after := v.Get("after")
	if after == "" || after == "earliest" {
		return nil
	}
	var err error
	q.After, err = a.locate(ctx, "after", after)
	return err
}

// locate returns the position of a cursor, which the log must be able to serve.
func (a *api) locate(ctx context.Context, name, value string) (int64, error) {
	begin, err := session.Begin(ctx, a.Locator, name, value)
	if err != nil {
		return 0, err
	}
	if begin.Reset != nil {
		return 0, goneAs(begin.Reset)
	}
	return begin.Cursor.Position, nil
}

// gone answers for a cursor below the log's floor. The window may still hold
// what comes after it, but a listing is read from the log.
func (a *api) gone(ctx context.Context) error {
	oldest, _, err := a.Locator.Locate(ctx, event.Start{Origin: event.Earliest})
	if err != nil {
		slog.WarnContext(ctx, "the oldest cursor could not be located", "component", "api", "error", err)
		return problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
	}
	return goneAs(&event.Reset{Reason: event.Expired, Oldest: oldest, Resume: oldest})
}

func goneAs(r *event.Reset) *problem.Error {
	code, detail := problem.CursorExpired, "the log no longer goes back to this cursor: take a snapshot, or go on from resume"
	if r.Reason == event.Diverged {
		code, detail = problem.CursorDiverged, "the log was failed over or restored and has no such past: "+
			"take a snapshot, then go on from resume"
	}
	return problem.New(code, detail).With("reason", r.Reason).With("oldest", r.Oldest).
		With("resume", r.Resume).With("snapshot", session.SnapshotPath)
}

func timeParameter(v url.Values, name string) (time.Time, error) {
	s := v.Get(name)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return time.Time{}, parameter(name, name+" is an RFC 3339 time, such as 2026-01-31T18:30:00Z")
	}
	return t, nil
}

func parameter(name, detail string) *problem.Error {
	return problem.New(problem.InvalidParameter, detail).With("path", name)
}

// writePage writes a listing as one object, event by event.
func (a *api) writePage(ctx context.Context, w http.ResponseWriter, q eventlog.Query, l *eventlog.Listing) error {
	w.Header().Set("Content-Type", typeJSON)
	w.Header().Set("Cache-Control", "no-store")
	separator := `{"events":[`
	last := event.Cursor{Epoch: l.Bounds.Tip.Epoch, Position: max(q.After, l.Bounds.Floor)}
	for e, err := range l.Events(ctx) {
		if err != nil {
			return abort(ctx, err)
		}
		if _, err := w.Write(append([]byte(separator), e.JSON()...)); err != nil {
			return nil // the client is gone
		}
		separator, last = ",", e.Cursor
	}
	if l.Len() == 0 {
		_, _ = w.Write([]byte(separator))
	}
	// Where a listing without an end is complete, the next one begins at the tip.
	if !l.More && !q.Descending && q.Before == 0 && q.To.IsZero() && l.Bounds.Tip.Position > last.Position {
		last = l.Bounds.Tip
	}
	_, _ = w.Write(fmt.Appendf(nil, `],"cursor":%q,"more":%t}`, last, l.More)) //nolint:gosec // numbers
	return nil
}

func writeLines(ctx context.Context, w http.ResponseWriter, l *eventlog.Listing) error {
	w.Header().Set("Content-Type", typeNDJSON)
	w.Header().Set("Cache-Control", "no-store")
	for e, err := range l.Events(ctx) {
		if err != nil {
			return abort(ctx, err)
		}
		if _, err := w.Write(append(e.JSON(), '\n')); err != nil {
			return nil // the client is gone
		}
	}
	return nil
}

// abort cuts an answer that has begun: a client must not take half of it for
// the whole.
func abort(ctx context.Context, err error) error {
	slog.WarnContext(ctx, "a listing broke off", "component", "api", "error", err)
	panic(http.ErrAbortHandler)
}

// get answers GET /v1/events/{id}. What the grant does not cover is not found; what
// the log says of itself is the administrators'.
func (a *api) get(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	e, err := a.event(r, grant)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, e.JSON())
	return nil
}

// event is the one that the path names, if the grant covers it.
func (a *api) event(r *http.Request, grant access.Grant) (*event.Entry, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return nil, parameter("id", "an event's id is a UUID")
	}
	e, err := a.History.Get(r.Context(), eventlog.Lookup{Tenant: grant.Tenant, ID: id})
	if errors.Is(err, eventlog.ErrNotFound) || err == nil && !a.shows(grant, &e.Event) {
		return nil, problem.New(problem.NotFound, "there is no event with this id")
	}
	if err != nil {
		slog.WarnContext(r.Context(), "an event could not be read", "component", "api", "error", err)
		return nil, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
	}
	return e, nil
}

func (a *api) shows(grant access.Grant, e *event.Event) bool {
	return a.known(grant, e.Namespace) == nil && grant.Sees(e)
}
