package hub

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

const (
	// coldSlots is how many pages are read from the log at once. PostgreSQL has
	// the same cores whether ten readers ask or a thousand. Companies take turns,
	// and none has more than coldShare of them.
	coldSlots = 4
	coldShare = 2
	// coldRows is the size of a page. A reader that is blocked on a full socket
	// holds one, so it is also what a slow reader costs.
	coldRows = 200
	// coldTimeout bounds the reading of one page, not the wait for a slot.
	coldTimeout = 30 * time.Second
)

// readCold reads a page older than the window. Whoever asks for a page that is
// being read gets the same one, unless it may hold what was erased meanwhile.
func (h *Hub) readCold(ctx context.Context, keys []event.Topic, after event.Cursor) (event.Batch, error) {
	name := strconv.FormatInt(h.redactions.Load(), 10) + "\x00" + coldKey(keys, after)
	result := h.cold.DoChan(name, func() (any, error) {
		tenant := "" // of all the topics: a session is of one company, or of every
		if len(keys) > 0 {
			tenant = keys[0].Tenant
		}
		if err := h.slots.Enter(h.life, tenant); err != nil {
			return nil, err
		}
		defer h.slots.Leave(tenant)
		readCtx, cancel := context.WithTimeout(h.life, coldTimeout)
		defer cancel()
		h.metrics.coldReads.Inc()
		return h.log.Page(readCtx, keys, after.Position, coldRows)
	})
	select {
	case <-ctx.Done():
		return event.Batch{}, ctx.Err()
	case r := <-result:
		if r.Err != nil {
			return event.Batch{}, r.Err
		}
		page := r.Val.(event.Page) //nolint:forcetypeassert // it is what the function above returns
		if h.foreign(after, page.Bounds.Tip) {
			h.Wake(0)
			return event.Batch{}, errForeign
		}
		if after.Position < page.Bounds.Floor {
			return event.Batch{}, h.expired(ctx, page.Bounds)
		}
		return event.Batch{Entries: page.Entries, Next: page.Next}, nil
	}
}

// errForeign holds a reader up until the hub has looked at the log.
var errForeign = errors.New("the log may have lost its end")

// foreign reports whether a page is of a log that the hub does not know yet: of a
// later life, or shorter than its reader has come. He may have a past that it
// does not, and then he must be told before he gets any of it.
func (h *Hub) foreign(after, tip event.Cursor) bool {
	return tip.Epoch > 1 && h.unknown(tip) || tip.Position < after.Position
}

// coldKey names a page: the topics, whatever their order, and where it begins.
func coldKey(keys []event.Topic, after event.Cursor) string {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Tenant + "\x00" + k.Namespace + "\x00" + k.Room
	}
	slices.Sort(names)
	return strconv.FormatInt(after.Position, 10) + "\x00" + strings.Join(names, "\x01")
}
