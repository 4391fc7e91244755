package hub

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// A log can lose its end: a standby that lagged is promoted, a dump or a volume
// is put back. What follows then has positions that were used before. The window
// must give up what did not survive, and readers that are beyond it must be told.
//
// Where PostgreSQL can tell that it is another one, the next append has begun a
// new epoch. Where it cannot, or where the new life does not know of an older one
// that was lost with its end, the window tells: its events have ids. Then the hub
// begins the new epoch itself.

const (
	// forsakeTimeout bounds the opening of an epoch, which may have to take over
	// what was appended behind the loss: some ten thousand events a second, and
	// nothing is appended meanwhile. Cut short it would only begin anew.
	forsakeTimeout = time.Hour
	// rivals is how often in a row somebody else may open an epoch while the hub
	// is about to.
	rivals = 10
)

// unknown reports whether c is of an epoch that was not there when the epochs
// were read.
func (h *Hub) unknown(c event.Cursor) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return c.Epoch > h.epochs.Newest()
}

// verify holds the window against the log, and sees to it that the log's epochs
// refuse every cursor of a past that it has lost. It reports whether the window's
// end was given up, so that the log must be read from further back.
func (h *Hub) verify(ctx context.Context) (rewound bool, err error) {
	for range rivals {
		bounds, epochs, loss, err := h.compare(ctx)
		if err != nil {
			return false, err
		}
		if loss == nil {
			return h.adopt(ctx, bounds, epochs), nil
		}
		if err := h.forsake(ctx, *loss); err != nil {
			return false, err
		}
	}
	return false, errors.New("others keep opening epochs")
}

// compare reads the log's bounds and epochs, and returns a loss that they do not
// tell of.
func (h *Hub) compare(ctx context.Context) (event.Bounds, event.Epochs, *event.Loss, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	// In this order: the epochs must know of the tip's.
	bounds, err := h.log.Bounds(ctx)
	if err != nil {
		return bounds, nil, nil, err
	}
	epochs, err := h.log.Epochs(ctx)
	if err != nil {
		return bounds, nil, nil, err
	}
	// Only the caller's goroutine changes what is read here.
	loss := event.Loss{Survived: h.tip.Position, Known: h.epochs.Newest(), Newest: epochs.Newest()}
	if held := h.window.all(); len(held) > 0 {
		if agreed, err := h.log.Agreed(ctx, held); err != nil {
			return bounds, nil, nil, err
		} else if agreed < held[len(held)-1].Cursor.Position {
			loss.Survived, loss.Reason = agreed, "events that an instance had read are gone"
		}
	}
	if bounds.Tip.Position < loss.Survived {
		loss.Survived, loss.Reason = bounds.Tip.Position, "events that an instance had read are gone"
	}
	if shared := h.epochs.Shared(epochs); shared < len(h.epochs) {
		loss.Reason = "an epoch that an instance had known is gone"
		loss.Survived = min(loss.Survived, h.epochs[shared].Survived)
		if shared < len(epochs) {
			loss.Survived = min(loss.Survived, epochs[shared].Survived)
		}
	}
	if loss.Reason == "" || epochs.Limit(loss.Known) <= loss.Survived {
		return bounds, epochs, nil, nil
	}
	return bounds, epochs, &loss, nil
}

// forsake opens an epoch, unless somebody else is faster.
func (h *Hub) forsake(ctx context.Context, loss event.Loss) error {
	ctx, cancel := context.WithTimeout(ctx, forsakeTimeout)
	defer cancel()
	opened, err := h.log.Forsake(ctx, loss)
	if opened {
		slog.ErrorContext(ctx, "the log had lost its end without knowing: a new epoch was opened", "component", "hub",
			"survived", loss.Survived, "reason", loss.Reason)
	}
	return err
}

// adopt takes over the log's bounds and epochs, and gives up the part of the
// window that did not survive, if any.
func (h *Hub) adopt(ctx context.Context, bounds event.Bounds, epochs event.Epochs) (rewound bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	begun := epochs.Newest() > h.epochs.Newest()
	h.epochs, h.oldest = epochs, epochs.At(bounds.Floor)
	survived, ok := epochs.Holds(h.tip, bounds.Tip)
	if !ok {
		slog.ErrorContext(ctx, "the log has lost its end: it was failed over or restored", "component", "hub",
			"had", h.tip.String(), "survived", survived.String())
		h.metrics.rewinds.Inc()
		h.rewind(survived)
	}
	if bounds.Tip.Position == h.tip.Position {
		h.tip = bounds.Tip // of an epoch, perhaps, in which nothing has happened yet
	}
	h.metrics.window(h.window.len(), h.bytes, h.tip)
	if begun || !ok {
		for r := range h.readers {
			r.signal() // some may have to be told
		}
	}
	return !ok
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
	if after.Epoch >= h.epochs.Newest() { // of a later epoch: the hub has not come that far
		return nil
	}
	resume, ok := h.epochs.Holds(after, h.tip)
	if ok {
		return nil
	}
	return reset(event.Diverged, resume, h.oldest)
}

// reset is a Reset to a cursor, or to the oldest there is.
func reset(reason string, resume, oldest event.Cursor) *event.Reset {
	if resume.Position < oldest.Position {
		resume = oldest
	}
	return &event.Reset{Reason: reason, Oldest: oldest, Resume: resume}
}
