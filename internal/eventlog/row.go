package eventlog

import (
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// row is an event as any of the queries reads it: the same columns in each.
type row = db.EventTailRow

func entries[R db.EventTailRow | db.EventListByPositionRow | db.EventGetByIDRow](rows []R) []*event.Entry {
	list := make([]*event.Entry, len(rows))
	for i := range rows {
		list[i] = event.NewEntry(fromRow(row(rows[i])))
	}
	return list
}

func fromRow(r row) event.Event {
	return event.Event{
		Cursor:        event.Cursor{Epoch: r.Epoch, Position: r.Position},
		ID:            uuid.UUID(r.ID.Bytes),
		Tenant:        r.Tenant,
		Namespace:     r.Namespace,
		Type:          r.Type,
		SchemaVersion: int(r.SchemaVersion),
		Rooms:         r.Rooms,
		Stream:        orZero(r.Stream),
		Version:       orZero(r.Version),
		OccurredAt:    r.OccurredAt,
		RecordedAt:    r.RecordedAt,
		Actor:         orZero(r.Actor),
		CorrelationID: r.CorrelationID,
		CausationID:   uuid.NullUUID{UUID: r.CausationID.Bytes, Valid: r.CausationID.Valid},
		ReplyBy:       orZero[time.Time](r.ReplyBy),
		Data:          event.Compact(r.Data),
	}
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
