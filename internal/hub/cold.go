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

// coldRead is a page that is being read, or waits for its turn to be.
type coldRead struct {
	askers  int // guarded by Hub.coldMu
	abandon context.CancelFunc
	done    chan struct{}
	page    event.Page
	err     error
}

// readCold reads a page older than the window. Whoever asks for a page that is
// being read gets the same one, unless it may hold what was erased meanwhile.
func (h *Hub) readCold(ctx context.Context, keys []event.Topic, after event.Cursor) (event.Batch, error) {
	name := strconv.FormatInt(h.redactions.Load(), 10) + "\x00" + coldKey(keys, after)
	r := h.ask(name, keys, after)
	defer h.unask(name, r)
	select {
	case <-ctx.Done():
		return event.Batch{}, ctx.Err()
	case <-r.done:
	}
	if r.err != nil {
		return event.Batch{}, r.err
	}
	if h.foreign(after, r.page.Bounds.Tip) {
		h.Wake(0)
		return event.Batch{}, errForeign
	}
	if after.Position < r.page.Bounds.Floor {
		return event.Batch{}, h.expired(ctx, r.page.Bounds)
	}
	return event.Batch{Entries: r.page.Entries, Next: r.page.Next}, nil
}

// ask returns the page of this name that others ask for, or begins to read it.
func (h *Hub) ask(name string, keys []event.Topic, after event.Cursor) *coldRead {
	h.coldMu.Lock()
	defer h.coldMu.Unlock()
	r := h.cold[name]
	if r == nil {
		wait, abandon := context.WithCancel(h.life)
		r = &coldRead{abandon: abandon, done: make(chan struct{})}
		h.cold[name] = r
		go func() {
			defer close(r.done)
			r.page, r.err = h.readPage(wait, keys, after)
			h.coldMu.Lock()
			defer h.coldMu.Unlock()
			h.dropCold(name, r)
		}()
	}
	r.askers++
	return r
}

// unask ends the wait for a page that nobody asks for any more. One that is
// being read is read to its end: to break a query off costs its connection.
func (h *Hub) unask(name string, r *coldRead) {
	h.coldMu.Lock()
	defer h.coldMu.Unlock()
	if r.askers--; r.askers == 0 {
		r.abandon()
		h.dropCold(name, r)
	}
}

// dropCold lets whoever asks from now on begin anew. The caller holds coldMu.
func (h *Hub) dropCold(name string, r *coldRead) {
	if h.cold[name] == r {
		delete(h.cold, name)
	}
}

// readPage reads a page when its company has its turn, if wait has not ended by then.
func (h *Hub) readPage(wait context.Context, keys []event.Topic, after event.Cursor) (event.Page, error) {
	tenant := "" // of all the topics: a session is of one company, or of every
	if len(keys) > 0 {
		tenant = keys[0].Tenant
	}
	if err := h.slots.Enter(wait, tenant); err != nil {
		return event.Page{}, err
	}
	defer h.slots.Leave(tenant)
	ctx, cancel := context.WithTimeout(h.life, coldTimeout)
	defer cancel()
	h.metrics.coldReads.Inc()
	return h.log.Page(ctx, keys, after.Position, coldRows)
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
