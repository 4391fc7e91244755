package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// MaxGroup is how many events an atomic group holds.
	MaxGroup = 1000
	// maxEventRooms is how many rooms one event is addressed to.
	maxEventRooms = 100
)

// refusals are the codes that a publish is refused with.
var refusals = []problem.Code{
	problem.InvalidJSON, problem.InvalidParameter, problem.InvalidRoom, problem.UnknownNamespace, problem.UnknownType,
	problem.SchemaViolation, problem.Forbidden, problem.TooLarge, problem.VersionConflict, problem.IDReused,
	problem.PartialDuplicate, problem.AlreadyAnswered, problem.TokenExpired, problem.TokenRevoked, problem.RateLimited, problem.Overloaded,
	problem.Unavailable, problem.Internal,
}

// Desk takes publishes in. It is safe for concurrent use.
type Desk struct {
	catalog  *catalog.Catalog
	appender *eventlog.Appender
	maxEvent int
	limits   *limit.Limits
	revoked  func(access.Grant) bool
	accepted *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

// NewDesk returns a Desk for events of at most maxEvent bytes of data. Revoked
// reports whether a grant's token is revoked.
func NewDesk(c *catalog.Catalog, a *eventlog.Appender, maxEvent int, limits *limit.Limits, revoked func(access.Grant) bool,
	reg prometheus.Registerer,
) *Desk {
	f := promauto.With(reg)
	d := &Desk{
		catalog: c, appender: a, maxEvent: maxEvent, limits: limits, revoked: revoked,
		accepted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_published_events_total", Help: "Events accepted into the log.",
		}, []string{"namespace"}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "tailroom_publish_refused_total", Help: "Publishes refused, by error code.",
		}, []string{"code"}),
	}
	for _, namespace := range c.Namespaces() {
		d.accepted.WithLabelValues(namespace)
	}
	for _, code := range refusals {
		d.refused.WithLabelValues(string(code))
	}
	return d
}

// Pending is a group that waits for the log.
type Pending struct {
	desk   *Desk
	ticket *eventlog.Ticket
	drafts []event.Draft
}

// Submit judges a group of events, which is published whole or not at all, and
// lets it wait for the log. Groups of one source stay in order.
func (d *Desk) Submit(grant access.Grant, source any, events []json.RawMessage) (*Pending, error) {
	return d.submit(grant, source, len(events), func() ([]event.Draft, error) { return d.drafts(grant, events) })
}

// submit lets so many events wait for the log, when it has their drafts.
func (d *Desk) submit(grant access.Grant, source any, events int, judge func() ([]event.Draft, error)) (*Pending, error) {
	if err := d.Good(grant); err != nil {
		return nil, d.refuse(err)
	}
	if err := d.conceivable(grant, events); err != nil {
		return nil, d.refuse(err)
	}
	// Before they are judged, which is work. Without a company in the grant, only
	// the events tell whose they are.
	if grant.Tenant != "" {
		if err := d.limits.Publish(grant.Tenant, events); err != nil {
			return nil, d.refuse(err)
		}
	}
	drafts, err := judge()
	if err == nil && grant.Tenant == "" {
		err = d.limits.Publish(drafts[0].Tenant, events)
	}
	if err != nil {
		return nil, d.refuse(err)
	}
	ticket, err := d.appender.Submit(source, drafts)
	if err != nil {
		return nil, d.refuse(explain(err, drafts))
	}
	return &Pending{desk: d, ticket: ticket, drafts: drafts}, nil
}

// Good reports what has become of a grant since its token was verified, which may
// be long ago: a session lasts, and so does the body of a request.
func (d *Desk) Good(grant access.Grant) error {
	switch {
	case d.revoked(grant):
		return problem.New(problem.TokenRevoked, "the token was revoked")
	case !time.Now().Before(grant.Expires):
		return problem.New(problem.TokenExpired, "the token has expired")
	}
	return nil
}

// conceivable refuses what nobody with this grant could publish, whatever the
// events are: such attempts do not count, or one who may not publish could use up
// the rate of all his company.
func (d *Desk) conceivable(grant access.Grant, events int) error {
	switch publishers := access.Publishers(); {
	case !slices.Contains(publishers, grant.Role):
		return problem.New(problem.Forbidden, "the role "+string(grant.Role)+" publishes nothing").With("allowed", publishers)
	case events == 0:
		return invalid("", "there are no events")
	case events > MaxGroup:
		d.limits.Hit(limit.GroupEvents)
		return problem.New(problem.TooLarge, fmt.Sprintf("a group holds at most %d events", MaxGroup)).With("limit", MaxGroup)
	}
	return nil
}

// Wait returns the receipts of the group, in the order of its events.
func (p *Pending) Wait(ctx context.Context) ([]event.Receipt, error) {
	receipts, err := p.ticket.Wait(ctx)
	if err != nil {
		return nil, p.desk.refuse(explain(err, p.drafts))
	}
	for i, r := range receipts {
		if !r.Duplicate {
			p.desk.accepted.WithLabelValues(p.drafts[i].Namespace).Inc()
		}
	}
	return receipts, nil
}

func (d *Desk) refuse(err error) error {
	d.refused.WithLabelValues(string(problem.From(err).Code)).Inc()
	return err
}

// drafts judges every event of a group and the group as such.
func (d *Desk) drafts(grant access.Grant, events []json.RawMessage) ([]event.Draft, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	drafts := make([]event.Draft, len(events))
	for i, raw := range events {
		err := d.draft(grant, raw, now, &drafts[i])
		if p, ok := errors.AsType[*problem.Error](err); ok && len(events) > 1 {
			err = p.With("index", i)
		}
		if err != nil {
			return nil, err
		}
	}
	return drafts, checkGroup(drafts)
}

// talk is what requests have in common that one event answers.
type talk struct{ namespace, correlationID, replyType string }

// checkGroup refuses what no single event shows, and puts each stream's
// expected version, given with any of its events, on the first of them.
func checkGroup(drafts []event.Draft) error {
	if len(drafts) == 1 {
		return nil
	}
	ids := make(map[[16]byte]bool, len(drafts))
	first := map[[2]string]*event.Draft{} // by namespace and stream
	answered := map[talk]bool{}
	for i := range drafts {
		draft := &drafts[i]
		if draft.Tenant != drafts[0].Tenant {
			return invalid("companyId", "a group is of one company").With("index", i)
		}
		if ids[draft.ID] {
			return invalid("id", "the group has this id twice").With("index", i)
		}
		ids[draft.ID] = true
		if draft.MayAnswer {
			own := talk{draft.Namespace, draft.CorrelationID, draft.Type}
			if answered[own] {
				return invalid("correlationId", "a group neither answers twice with one correlation id nor asks and answers: "+
					"publish the events one by one").With("index", i)
			}
			answered[own] = true
		}
		if draft.Asks() {
			answered[talk{draft.Namespace, draft.CorrelationID, draft.Awaits.Type}] = true
		}
		key := [2]string{draft.Namespace, draft.Stream}
		if first[key] == nil {
			first[key] = draft
		}
		if !draft.ExpectedVersion.Set {
			continue
		}
		if known := first[key].ExpectedVersion; known.Set && known != draft.ExpectedVersion {
			return invalid("expectedVersion",
				"expectedVersion is the stream's version before the group: it cannot be two").With("index", i)
		}
		first[key].ExpectedVersion = draft.ExpectedVersion
	}
	return nil
}

// Result is one event of the answer to a publish.
type Result struct {
	Cursor    event.Cursor `json:"cursor"`
	Position  int64        `json:"position"`
	ID        string       `json:"id"`
	Stream    *string      `json:"stream"`
	Version   *int64       `json:"version"`
	Duplicate bool         `json:"duplicate"`
}

// Results shows receipts as publishers see them.
func Results(receipts []event.Receipt) []Result {
	list := make([]Result, len(receipts))
	for i, r := range receipts {
		list[i] = Result{Cursor: r.Cursor, Position: r.Cursor.Position, ID: r.ID.String(), Duplicate: r.Duplicate}
		if r.Stream != "" {
			list[i].Stream, list[i].Version = &receipts[i].Stream, &receipts[i].Version
		}
	}
	return list
}
