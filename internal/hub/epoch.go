package hub

import (
	"context"
	"log/slog"

	"github.com/tailroom/tailroom/internal/event"
)

// A log can lose its end: a standby that lagged is promoted, a backup is
// restored. What follows then has positions that were used before, in a new
// epoch. The window must give up what did not survive, and readers that are
// beyond it must be told.

// unknown reports whether c is of an epoch that was not there when the epochs
// were read.
func (h *Hub) unknown(c event.Cursor) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.epochs) == 0 || c.Epoch > h.epochs[len(h.epochs)-1].Number
}

// verify reads the epochs and holds the window against them. It reports
// whether the window's end was given up, so that the log must be read from
// further back.
func (h *Hub) verify(ctx context.Context) (rewound bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	// In this order: the epochs must know of the tip's.
	bounds, err := h.log.Bounds(ctx)
	if err != nil {
		return false, err
	}
	epochs, err := h.log.Epochs(ctx)
	if err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	begun := len(epochs) > len(h.epochs)
	h.epochs, h.oldest = epochs, epochs.At(bounds.Floor)
	survived, ok := epochs.Holds(h.tip, bounds.Tip)
	if ok && bounds.Tip.Position == h.tip.Position {
		h.tip = bounds.Tip // of an epoch, perhaps, in which nothing has happened yet
	}
	if !ok {
		slog.ErrorContext(ctx, "the log has lost its end: it was failed over or restored", "component", "hub",
			"had", h.tip.String(), "survived", survived.String())
		h.rewind(survived)
	}
	if begun || !ok {
		for r := range h.readers {
			r.signal() // some may have to be told
		}
	}
	return !ok, nil
}

// rewind gives up the window behind a cursor. The caller holds h.mu.
func (h *Hub) rewind(to event.Cursor) {
	var keys []event.Topic
	for h.window.len() > 0 && h.window.back().Cursor.Position > to.Position {
		e := h.window.back()
		h.window.popBack()
		h.bytes -= e.Size()
		keys = e.Topics(keys[:0])
		for _, key := range keys {
			t := h.topics[key]
			t.entries.popBack()
			h.forget(t)
		}
	}
	h.tip, h.floor = to, min(h.floor, to.Position)
	h.position.Store(to.Position)
	h.hinted.Store(0)
}

// diverged returns the Reset of a reader whose cursor speaks of a past that the
// log no longer has, or nil. The caller holds h.mu.
func (h *Hub) diverged(after event.Cursor) *event.Reset {
	if after.Epoch == h.tip.Epoch {
		return nil
	}
	resume, ok := h.epochs.Holds(after, h.tip)
	if ok || after.Epoch > h.tip.Epoch { // of a later epoch: the hub has not come that far
		return nil
	}
	return &event.Reset{Reason: event.Diverged, Oldest: h.oldest, Resume: resume}
}
