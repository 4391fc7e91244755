package eventlog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// The statuses of requests.
const (
	Pending  = "pending"  // its time is not up
	Answered = "answered" // also when the answer came late
	Expired  = "expired"  // its time is up, by the database's clock, without an answer
)

// Statuses lists them.
var Statuses = []string{Pending, Answered, Expired}

// Request is an event that wants an answer, and what has become of it.
type Request struct {
	Position      int64 // of the event
	Tenant        string
	CorrelationID string
	ReplyBy       time.Time
	Status        string
	Answer        int64 // the position of its answer, 0 for none
}

// RequestQuery selects requests. Zero fields do not filter.
type RequestQuery struct {
	Tenant        string   // "" is every tenant
	Namespaces    []string // at least one
	Rooms         []string // a request in any of them
	Types         []string
	Statuses      []string
	CorrelationID string
	OlderThan     time.Duration // made at least so long ago, by the database's clock
	After         int64         // above this position
	NewestFirst   bool
	Limit         int // at least 1
}

// Requests finds requests in order, and reports whether there are more than the
// limit.
func (l *Log) Requests(ctx context.Context, q RequestQuery) (list []Request, more bool, err error) {
	var rows []db.RequestListRow
	err = l.turn(ctx, q.Tenant, func() (err error) {
		rows, err = l.sql.RequestList(ctx, l.pool, db.RequestListParams{
			Tenant: q.Tenant, Namespaces: q.Namespaces, Rooms: q.Rooms, Types: q.Types, Statuses: q.Statuses,
			CorrelationID: q.CorrelationID, OlderThanSeconds: q.OlderThan.Seconds(), After: q.After,
			NewestFirst: q.NewestFirst, MaxRows: int32(q.Limit + 1),
		})
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("listing requests: %w", err)
	}
	if more = len(rows) > q.Limit; more {
		rows = rows[:q.Limit]
	}
	for _, r := range rows {
		list = append(list, Request{
			Position: r.Position, Tenant: r.Tenant, CorrelationID: r.CorrelationID, ReplyBy: r.ReplyBy.UTC(),
			Status: r.Status, Answer: r.Answer,
		})
	}
	return list, more, nil
}

// Place is where an event is, for who must not take another for it.
type Place struct {
	Position int64
	ID       uuid.UUID
}

// Answers returns where the answers to some requests are, by the requests' positions:
// at 0 where there is none yet. A request that is not among the result is not in the log: it has lost
// its end.
func (l *Log) Answers(ctx context.Context, requests []Place) (map[int64]Place, error) {
	var p db.RequestAnswersParams
	for _, r := range requests {
		p.Positions = append(p.Positions, r.Position)
		p.Ids = append(p.Ids, pgtype.UUID{Bytes: r.ID, Valid: true})
	}
	rows, err := l.sql.RequestAnswers(ctx, l.pool, p)
	if err != nil {
		return nil, fmt.Errorf("looking for answers: %w", err)
	}
	answers := make(map[int64]Place, len(rows))
	for _, r := range rows {
		answers[r.Position] = Place{Position: r.Answer, ID: r.AnswerID.Bytes}
	}
	return answers, nil
}

// Events reads the events at some positions, in any order and with repetitions, on
// behalf of a tenant. The error is ErrDetached when one of them is gone.
func (l *Log) Events(ctx context.Context, tenant string, positions []int64) (map[int64]*event.Entry, error) {
	left := slices.Compact(slices.Sorted(slices.Values(positions)))
	found := make(map[int64]*event.Entry, len(left))
	for len(left) > 0 {
		var list []*event.Entry
		err := l.turn(ctx, tenant, func() (err error) {
			list, err = l.at(ctx, left)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("reading events: %w", err)
		}
		for _, e := range list {
			found[e.Cursor.Position] = e
		}
		left = left[len(list):]
	}
	return found, nil
}

// Story finds what belongs to a correlation id of a tenant: the events that have it,
// and those that they caused, and so on. There may be more than the limit.
func (l *Log) Story(ctx context.Context, tenant, correlationID string, limit int) (list []*event.Entry, more bool, err error) {
	var positions []int64
	err = l.turn(ctx, tenant, func() (err error) {
		positions, err = l.sql.EventStory(ctx, l.pool, db.EventStoryParams{
			Tenant: tenant, CorrelationID: correlationID, MaxRows: int32(limit + 1),
		})
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("looking for what belongs together: %w", err)
	}
	if more = len(positions) > limit; more {
		positions = positions[:limit]
	}
	found, err := l.Events(ctx, tenant, positions)
	if err != nil {
		return nil, false, err
	}
	for _, position := range positions {
		list = append(list, found[position])
	}
	return list, more, nil
}
