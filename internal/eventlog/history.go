package eventlog

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// historyChunk is how many events are read at once while a listing is walked.
const historyChunk = 100

// Query selects events. Zero fields do not filter.
type Query struct {
	Tenant        string   // "" is every tenant
	Namespaces    []string // at least one
	Rooms         []string // an event in any of them
	Types         []string
	Stream        string
	CorrelationID string
	From, To      time.Time // recorded at or after From, before To
	After         int64     // above this position
	Before        int64     // below this one
	Descending    bool
	Limit         int // at least 1
}

// Listing is the result of a Query: its events are read as they are walked, so
// that it holds little memory however long it is.
type Listing struct {
	Bounds event.Bounds
	More   bool // there are more events than the limit

	log       *Log
	tenant    string
	positions []int64
}

// List finds the events of a query.
func (l *Log) List(ctx context.Context, q Query) (*Listing, error) {
	if q.Before == 0 {
		q.Before = event.MaxPosition
	}
	var row db.EventHistoryRow
	err := l.turn(ctx, q.Tenant, func() (err error) {
		row, err = l.sql.EventHistory(ctx, l.pool, db.EventHistoryParams{
			Tenant: q.Tenant, Namespaces: q.Namespaces, Rooms: q.Rooms, Types: q.Types, Stream: q.Stream,
			CorrelationID: q.CorrelationID, RecordedFrom: orNull(q.From), RecordedTo: orNull(q.To),
			After: q.After, Before: q.Before, Descending: q.Descending, MaxRows: int32(q.Limit + 1),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("querying the log: %w", err)
	}
	list := &Listing{
		Bounds:    event.Bounds{Tip: event.Cursor{Epoch: row.Epoch, Position: row.Tip}, Floor: row.Floor},
		More:      len(row.Positions) > q.Limit,
		log:       l,
		tenant:    q.Tenant,
		positions: row.Positions[:min(len(row.Positions), q.Limit)],
	}
	return list, nil
}

// Len is the number of events in the listing.
func (l *Listing) Len() int { return len(l.positions) }

// Last is the position of the listing's last event, 0 when it is empty.
func (l *Listing) Last() int64 {
	if len(l.positions) == 0 {
		return 0
	}
	return l.positions[len(l.positions)-1]
}

// Events walks the listing in its order. After an error it ends.
func (l *Listing) Events(ctx context.Context) iter.Seq2[*event.Entry, error] {
	return func(yield func(*event.Entry, error) bool) {
		for left := l.positions; len(left) > 0; {
			chunk := left[:min(len(left), historyChunk)]
			var list []*event.Entry
			err := l.log.turn(ctx, l.tenant, func() (err error) {
				list, err = l.chunk(ctx, chunk)
				return err
			})
			if err != nil {
				yield(nil, fmt.Errorf("reading the log: %w", err))
				return
			}
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
			}
			left = left[len(list):]
		}
	}
}

// chunk reads the first of some positions, in their order.
func (l *Listing) chunk(ctx context.Context, positions []int64) ([]*event.Entry, error) {
	if positions[0] <= positions[len(positions)-1] {
		return l.log.at(ctx, positions)
	}
	// What is read is bounded from the lowest position on, so a descending
	// chunk is read in pieces until it is whole.
	ascending := slices.Clone(positions)
	slices.Reverse(ascending)
	var list []*event.Entry
	for len(list) < len(ascending) {
		part, err := l.log.at(ctx, ascending[len(list):])
		if err != nil {
			return nil, err
		}
		list = append(list, part...)
	}
	slices.Reverse(list)
	return list, nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
