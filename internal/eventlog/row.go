package eventlog

import (
	"time"

	"github.com/google/uuid"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

func entries(rows []db.Event) []*event.Entry {
	list := make([]*event.Entry, len(rows))
	for i := range rows {
		list[i] = event.NewEntry(fromRow(&rows[i]))
	}
	return list
}

func fromRow(r *db.Event) event.Event {
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
