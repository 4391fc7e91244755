package hub

import (
	"context"
	"log/slog"

	"github.com/tailroom/tailroom/internal/event"
)

// An event's data may be erased after the window has read them. The log tells of
// it in an event of its own, which every instance reads in its turn, whether it
// was there at the time or not. Both were committed at once, so what is read again
// after that event is what is left.

// renew puts what redactions among the new entries have left in the place of what
// the window holds. The new entries themselves were read as the log is by now.
func (h *Hub) renew(ctx context.Context, news []*event.Entry) error {
	for _, record := range news {
		position, ok := record.Redacts()
		if !ok {
			continue
		}
		h.redactions.Add(1)
		stale := h.window.at(position)
		if stale == nil || stale.ID != record.CausationID.UUID {
			continue
		}
		fresh, err := h.reread(ctx, stale)
		if err != nil {
			return err
		}
		h.replace(stale, fresh)
		h.metrics.redacted.Inc()
		slog.InfoContext(ctx, "the data of an event were erased: the window holds what is left", "component", "hub", "position", position)
	}
	return nil
}

// reread returns the event as it is now. If it is gone, as when retention has
// dropped it meanwhile, its data go.
func (h *Hub) reread(ctx context.Context, stale *event.Entry) (*event.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, tailTimeout)
	defer cancel()
	list, err := h.log.Tail(ctx, stale.Cursor.Position-1, 1)
	if err != nil {
		return nil, err
	}
	if len(list) == 1 && list[0].ID == stale.ID {
		return list[0], nil
	}
	left := stale.Event
	left.Data = []byte("{}")
	return event.NewEntry(left), nil
}

// replace puts one entry in the place of another with the same address.
func (h *Hub) replace(stale, fresh *event.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.window.replace(fresh)
	for _, key := range stale.Topics(nil) {
		h.topics[key].entries.replace(fresh)
	}
	h.bytes += fresh.Size() - stale.Size()
}

// at returns the entry with a position, nil if there is none.
func (d *deque) at(position int64) *event.Entry {
	if list := d.after(position - 1); len(list) > 0 && list[0].Cursor.Position == position {
		return list[0]
	}
	return nil
}

// replace puts e where the entry with its position is: twice where a room was
// named twice.
func (d *deque) replace(e *event.Entry) {
	list := d.after(e.Cursor.Position - 1)
	for i := 0; i < len(list) && list[i].Cursor.Position == e.Cursor.Position; i++ {
		list[i] = e
	}
}
