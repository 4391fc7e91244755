package hub

import (
	"context"

	"github.com/tailroom/tailroom/internal/event"
)

// Locate says where a reader that asks for this start begins. When its cursor
// cannot be served the second result says so, and the first is where to go on.
//
// A cursor inside the window costs no SQL. "now" is the log's tip, not the
// hub's: whoever published before he asked must not get his own event.
func (h *Hub) Locate(ctx context.Context, s event.Start) (event.Cursor, *event.Reset, error) {
	if s.Origin == event.At && h.inWindow(s.Cursor) {
		return s.Cursor, nil, nil
	}
	bounds, err := h.fresh.get(ctx)
	if err != nil {
		return event.Cursor{}, nil, err
	}
	if s.Origin == event.Now {
		return bounds.Tip, nil, nil
	}
	epochs, err := h.log.Epochs(ctx)
	if err != nil {
		return event.Cursor{}, nil, err
	}
	oldest := epochs.At(bounds.Floor)
	if s.Origin == event.Earliest {
		return oldest, nil, nil
	}
	if resume, ok := epochs.Holds(s.Cursor, bounds.Tip); !ok {
		told := reset(event.Diverged, resume, oldest)
		return told.Resume, told, nil
	}
	if s.Cursor.Position < bounds.Floor {
		return oldest, reset(event.Expired, oldest, oldest), nil
	}
	return s.Cursor, nil, nil
}

func (h *Hub) inWindow(c event.Cursor) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return c.Epoch == h.tip.Epoch && c.Position >= h.floor && c.Position <= h.tip.Position
}

// expired is the reset of a reader that fell below the floor while it read.
func (h *Hub) expired(ctx context.Context, b event.Bounds) error {
	epochs, err := h.log.Epochs(ctx)
	if err != nil {
		return err
	}
	oldest := epochs.At(b.Floor)
	return reset(event.Expired, oldest, oldest)
}
