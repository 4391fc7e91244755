package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/consumer"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// maxConsumers is how many consumers are answered at once. What each has not
	// acknowledged is counted for the answer.
	maxConsumers = 100
	// maxReceipts is how many receipts are.
	maxReceipts = 1000
)

// Consumers reads of consumers, and forgets them.
type Consumers interface {
	List(ctx context.Context, q consumer.Query) ([]consumer.State, error)
	Receipts(ctx context.Context, e *event.Event, s consumer.Scope, after string, limit int) ([]consumer.Receipt, error)
	Erase(ctx context.Context, o eventlog.Order, name string) (eventlog.Told, error)
}

// stateJSON is a consumer as clients see it. What is absent does not apply.
type stateJSON struct {
	Name                   string       `json:"name"`
	CompanyID              string       `json:"companyId"`
	Subject                string       `json:"subject"`
	Role                   string       `json:"role"`
	Connected              bool         `json:"connected"`
	Instance               string       `json:"instance,omitempty"`
	Since                  string       `json:"since"`
	Cursor                 event.Cursor `json:"cursor"`
	LagEvents              int64        `json:"lagEvents"`
	LagIsMore              bool         `json:"lagIsMore,omitempty"`
	LagSeconds             float64      `json:"lagSeconds"`
	OldestUnacknowledgedAt string       `json:"oldestUnacknowledgedAt,omitempty"`
}

// consumers answers GET /v1/consumers.
func (a *api) consumers(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	v, size, err := parametersOf(r, maxConsumers, "after", "companyId", "connected", "limit", "name")
	if err != nil {
		return err
	}
	q := consumer.Query{Scope: consumersOf(grant), Limit: size + 1}
	if after := v.Get("after"); after != "" {
		tenant, name, found := strings.Cut(after, "/")
		if !found || !event.ValidRoomID(tenant) || !event.ValidConsumer(name) {
			return parameter("after", "after is what next of the page before says")
		}
		q.AfterTenant, q.AfterName = tenant, name
	}
	if v.Has("name") {
		if q.Name = v.Get("name"); !event.ValidConsumer(q.Name) {
			return parameter("name", "a consumer's name is 1 to 100 of A-Z a-z 0-9 . _ : @ / | + -")
		}
	}
	if text := v.Get("connected"); text != "" {
		if text != "true" && text != "false" {
			return parameter("connected", "connected is true or false").With("allowed", []string{"true", "false"})
		}
		connected := text == "true"
		q.Connected = &connected
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	list, err := a.Consumers.List(ctx, q)
	if err != nil {
		return unread(ctx, err)
	}
	body := map[string]any{"more": len(list) > size}
	if len(list) > size {
		list = list[:size]
		body["next"] = list[size-1].Tenant + "/" + list[size-1].Name
	}
	states := make([]stateJSON, len(list))
	for i := range list {
		states[i] = stateOf(&list[i])
	}
	body["consumers"] = states
	return answerJSON(w, http.StatusOK, body)
}

func stateOf(s *consumer.State) stateJSON {
	j := stateJSON{
		Name: s.Name, CompanyID: s.Tenant, Subject: s.Subject, Role: s.Role, Connected: s.Connected, Instance: s.Instance,
		Since: stamp(s.Since), Cursor: s.Cursor, LagEvents: s.Lag, LagIsMore: s.LagMore,
		LagSeconds: float64(s.LagTime.Milliseconds()) / 1000,
	}
	if !s.Oldest.IsZero() {
		j.OldestUnacknowledgedAt = stamp(s.Oldest)
	}
	return j
}

func stamp(t time.Time) string { return t.UTC().Format(event.TimeLayout) }

// receiptJSON is a receipt as clients see it.
type receiptJSON struct {
	Name           string `json:"name"`
	Role           string `json:"role"`
	Addressed      bool   `json:"addressed"`
	Acknowledged   bool   `json:"acknowledged"`
	AcknowledgedAt string `json:"acknowledgedAt,omitempty"`
	Reason         string `json:"reason,omitempty"` // why not: offline, behind, joined_later
	Since          string `json:"since,omitempty"`  // since when it is offline
}

// receipts answers GET /v1/events/{id}/receipts.
func (a *api) receipts(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	v, size, err := parametersOf(r, maxReceipts, "after", "companyId", "limit")
	if err != nil {
		return err
	}
	if after := v.Get("after"); after != "" && !event.ValidConsumer(after) {
		return parameter("after", "after is what next of the page before says")
	}
	e, err := a.event(r, grant)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), queryTimeout)
	defer cancel()
	list, err := a.Consumers.Receipts(ctx, &e.Event, consumersOf(grant), v.Get("after"), size+1)
	if err != nil {
		return unread(ctx, err)
	}
	body := map[string]any{"id": e.ID, "cursor": e.Cursor, "more": len(list) > size}
	if len(list) > size {
		list = list[:size]
		body["next"] = list[size-1].Name
	}
	receipts := make([]receiptJSON, len(list))
	for i := range list {
		receipts[i] = receiptOf(&list[i])
	}
	body["receipts"] = receipts
	return answerJSON(w, http.StatusOK, body)
}

func receiptOf(r *consumer.Receipt) receiptJSON {
	j := receiptJSON{Name: r.Name, Role: r.Role, Addressed: r.Addressed, Acknowledged: r.Acknowledged}
	switch {
	case r.Acknowledged && !r.AcknowledgedAt.IsZero():
		j.AcknowledgedAt = stamp(r.AcknowledgedAt)
	case r.Acknowledged:
	case !r.Addressed:
		j.Reason = "joined_later"
	case !r.Connected:
		j.Reason, j.Since = "offline", stamp(r.Since)
	default:
		j.Reason = "behind"
	}
	return j
}

// eraseConsumer answers DELETE /v1/consumers/{name}.
func (a *api) eraseConsumer(w http.ResponseWriter, r *http.Request) error {
	grant, err := a.reader(r)
	if err != nil {
		return err
	}
	if !grant.MayOperate() {
		return problem.New(problem.Forbidden, "only administrators of a whole company, or of all, may do this").
			With("allowed", []access.Role{access.Admin})
	}
	v, _, err := parametersOf(r, 0, "companyId", "reason")
	if err != nil {
		return err
	}
	reason := v.Get("reason")
	if v.Has("reason") {
		if err := judgeReason(&reason); err != nil {
			return err
		}
	}
	name := r.PathValue("name")
	if !event.ValidConsumer(name) {
		return noConsumer()
	}
	if grant.Tenant == "" {
		return parameter("companyId", "consumers belong to a company: name it with companyId")
	}
	if !grant.PlatformWide {
		if err := a.Limits.Order(grant.Tenant); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), orderTimeout)
	defer cancel()
	o := eventlog.Order{Tenant: grant.Tenant, Reason: reason, Actor: grant.Actor()}
	told, err := a.Consumers.Erase(ctx, o, name)
	switch {
	case errors.Is(err, consumer.ErrNotFound):
		return noConsumer()
	case errors.Is(err, consumer.ErrConnected):
		return problem.New(problem.StillConnected,
			"the consumer is connected, and would come back: end its session first, or revoke its token")
	case err != nil:
		return orderFailed(ctx, err)
	}
	return confirm(w, o, told, http.StatusOK, map[string]any{"consumer": name})
}

func noConsumer() error {
	return problem.New(problem.NotFound, "the company has no consumer of this name")
}

// consumersOf is which consumers a grant sees: the company's, or one's own. Who is of
// some branches only sees those that follow one of these.
func consumersOf(grant access.Grant) consumer.Scope {
	s := consumer.Scope{Tenant: grant.Tenant}
	if grant.Role.OwnConsumersOnly() {
		s.Subject = grant.Subject
	} else if !grant.AllBranches {
		for _, branch := range grant.Branches {
			s.Rooms = append(s.Rooms, event.BranchRoom(branch))
		}
	}
	return s
}

// parametersOf reads the query and its limit, which is most at most, and refuses other
// names than these.
func parametersOf(r *http.Request, most int, allowed ...string) (url.Values, int, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, 0, problem.New(problem.InvalidParameter, "the query cannot be read, or has more than 10,000 parameters")
	}
	for name := range v {
		if !slices.Contains(allowed, name) {
			return nil, 0, parameter(name, "there is no such parameter").With("allowed", allowed)
		}
	}
	size := defaultLimit
	if text := v.Get("limit"); text != "" {
		if size, err = strconv.Atoi(text); err != nil || size < 1 || size > most {
			return nil, 0, parameter("limit", "limit is 1 to "+strconv.Itoa(most))
		}
	}
	return v, size, nil
}

func unread(ctx context.Context, err error) error {
	slog.WarnContext(ctx, "consumers could not be read", "component", "api", "error", err)
	return problem.New(problem.Unavailable, "the log could not be read in time").RetryAfter(time.Second)
}

func answerJSON(w http.ResponseWriter, status int, body any) error {
	text, err := json.Marshal(body)
	if err == nil {
		writeJSON(w, status, text)
	}
	return err
}
