package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/db"
)

// Outbox is what transactions have published with SQL and the relay has not moved
// into the log.
type Outbox struct {
	Waiting       int64      `json:"waiting"`       // rows
	OldestSeconds float64    `json:"oldestSeconds"` // since the first of them was published
	Rejected      int64      `json:"rejected"`      // rows that could not become events
	Rows          []Rejected `json:"rows"`          // some of the rejected ones
}

// Rejected is a row of the outbox that could not become an event.
type Rejected struct {
	Row         int64     `json:"row"` // its number
	ID          uuid.UUID `json:"id"`
	Tenant      string    `json:"companyId"`
	Namespace   string    `json:"namespace"`
	Type        string    `json:"type"`
	Stream      string    `json:"stream,omitempty"`
	Actor       string    `json:"actor"`
	PublishedAt time.Time `json:"publishedAt"`
	RejectedAt  time.Time `json:"rejectedAt"`
	Code        string    `json:"code"` // of the protocol
	Reason      string    `json:"reason"`
}

// Outbox reads the outbox, with up to limit of the rejected rows, those behind a
// number, in order.
func (l *Log) Outbox(ctx context.Context, after int64, limit int) (Outbox, error) {
	state, err := l.sql.OutboxState(ctx, l.pool)
	if err != nil {
		return Outbox{}, fmt.Errorf("reading the outbox: %w", err)
	}
	rows, err := l.sql.RejectedList(ctx, l.pool, db.RejectedListParams{After: after, MaxRows: int32(limit)})
	if err != nil {
		return Outbox{}, fmt.Errorf("reading what was rejected: %w", err)
	}
	o := Outbox{Waiting: state.Waiting, OldestSeconds: state.AgeSeconds, Rejected: state.Rejected, Rows: make([]Rejected, len(rows))}
	for i, r := range rows {
		o.Rows[i] = Rejected{
			Row: r.ID, ID: r.EventID.Bytes, Tenant: r.Tenant, Namespace: r.Namespace, Type: r.Type, Stream: r.Stream,
			Actor: r.Actor, PublishedAt: r.SubmittedAt.UTC(), RejectedAt: r.RejectedAt.UTC(), Code: r.Code, Reason: r.Reason,
		}
	}
	return o, nil
}

// Settlement says which rejected rows are dealt with, and what the log tells of it
// for ever.
type Settlement struct {
	Rows   []int64 // nil is all
	Reason string  // "" or up to 1000 characters
	Actor  string  // 1 to 300 printable characters, not blank
}

// RetryRejected puts rejected rows back into the outbox, behind what waits there,
// and returns those that there were.
func (l *Log) RetryRejected(ctx context.Context, s Settlement) ([]int64, error) {
	done, err := l.sql.RejectedRetry(ctx, l.pool, db.RejectedRetryParams{Ids: s.Rows, Reason: orAbsent(s.Reason), Actor: s.Actor})
	if err != nil {
		return nil, ExplainOrder("putting rejected rows back into the outbox", err)
	}
	return done, nil
}

// DiscardRejected throws rejected rows away, and returns those that there were.
func (l *Log) DiscardRejected(ctx context.Context, s Settlement) ([]int64, error) {
	done, err := l.sql.RejectedDiscard(ctx, l.pool, db.RejectedDiscardParams{Ids: s.Rows, Reason: orAbsent(s.Reason), Actor: s.Actor})
	if err != nil {
		return nil, ExplainOrder("throwing rejected rows away", err)
	}
	return done, nil
}

// MirrorCatalogue makes the event types known to SQL: a JSON array with an object
// for each, of the columns of tailroom.event_types, and the largest data in bytes.
func (l *Log) MirrorCatalogue(ctx context.Context, types []byte, maxEventBytes int64) error {
	err := l.sql.CatalogueMirror(ctx, l.pool, db.CatalogueMirrorParams{Types: types, MaxEventBytes: maxEventBytes})
	if err != nil {
		return fmt.Errorf("mirroring the catalogue: %w", err)
	}
	return nil
}
