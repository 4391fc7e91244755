package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/fair"
)

// hear acts on what the log tells of itself. It is called by the hub, for every
// instance in its turn.
func (a *App) hear(e *event.Event) {
	if e.Revokes() {
		a.revoked.Wake()
	}
	if d, ok := e.Disconnects(); ok {
		a.sessions.Disconnect(d, e.RecordedAt)
	}
}

// Orders wait for the log on connections that live reads need too: so many at a
// time, and of a company so many.
const (
	orderPlaces = 2
	orderShare  = 1
)

// operator carries out what administrators order through this instance. Companies
// take turns.
type operator struct {
	*App

	turns *fair.Gate
}

// Revoke revokes tokens. When it returns they are dead here; every other instance
// comes to read of it.
func (o operator) Revoke(ctx context.Context, r eventlog.Revocation) (time.Time, eventlog.Told, error) {
	if err := o.turns.Enter(ctx, r.Tenant); err != nil {
		return time.Time{}, eventlog.Told{}, err
	}
	defer o.turns.Leave(r.Tenant)
	before, told, err := o.log.Revoke(ctx, r)
	if err != nil {
		return before, told, err
	}
	o.hub.Wake(told.Cursor.Position)
	if err := o.revoked.Refresh(ctx); err != nil { // tried again every second
		slog.WarnContext(ctx, "a revocation is made and not yet in force here", "component", "app", "error", err)
	}
	return before, told, nil
}

// Disconnect ends sessions on every instance, as each comes to read of it.
func (o operator) Disconnect(ctx context.Context, order eventlog.Order, session string) (eventlog.Told, error) {
	if err := o.turns.Enter(ctx, order.Tenant); err != nil {
		return eventlog.Told{}, err
	}
	defer o.turns.Leave(order.Tenant)
	told, err := o.log.Disconnect(ctx, order, session)
	if err == nil {
		o.hub.Wake(told.Cursor.Position)
	}
	return told, err
}
