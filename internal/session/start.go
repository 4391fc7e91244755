package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// locateTimeout bounds the look-up of a start that is not in the window.
const locateTimeout = 5 * time.Second

// Locator says where a reader may begin: the hub.
type Locator interface {
	Locate(ctx context.Context, s event.Start) (event.Cursor, *event.Reset, error)
}

// Beginning is where a session begins.
type Beginning struct {
	Asked  event.Start
	Cursor event.Cursor
	Reset  *event.Reset // why that is not where the client wanted to, or nil
}

// Begin reads the cursor that a client sent as the named parameter, and finds
// where that is. The error is a *problem.Error.
func Begin(ctx context.Context, log Locator, parameter, cursor string) (Beginning, error) {
	start, err := event.ParseStart(cursor)
	if err != nil {
		return Beginning{}, problem.New(problem.InvalidCursor, err.Error()).With("path", parameter).
			With("allowed", []string{"{epoch}-{position}", "earliest", "now"})
	}
	ctx, cancel := context.WithTimeout(ctx, locateTimeout)
	defer cancel()
	b := Beginning{Asked: start}
	if b.Cursor, b.Reset, err = log.Locate(ctx, start); err != nil {
		slog.WarnContext(ctx, "a cursor could not be located", "component", "session", "error", err)
		return Beginning{}, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
	}
	return b, nil
}
