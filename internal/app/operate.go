package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
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

// operator carries out what administrators order through this instance.
type operator struct{ *App }

// Revoke revokes tokens. When it returns they are dead here; every other instance
// comes to read of it.
func (o operator) Revoke(ctx context.Context, r eventlog.Revocation) (time.Time, eventlog.Told, error) {
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
	told, err := o.log.Disconnect(ctx, order, session)
	if err == nil {
		o.hub.Wake(told.Cursor.Position)
	}
	return told, err
}
