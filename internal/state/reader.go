package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

const (
	// pageBytes is what the states of a page come to: it ends with the one with which
	// they have so much.
	pageBytes = 1 << 20
	// refolds is how many states of a page are made of the log at once.
	refolds = 16
	// awaitPeriod is how often it is looked how far the states have come, while
	// somebody waits for that.
	awaitPeriod = 20 * time.Millisecond
	// seeTimeout bounds one such look.
	seeTimeout = 5 * time.Second
)

// Config is what a Reader needs.
type Config struct {
	Pool *pgxpool.Pool
	// Turn calls a function when it is a company's turn to use the pool.
	Turn   func(ctx context.Context, tenant string, fn func() error) error
	Closes Closes
}

// Reader reads states. It is safe for concurrent use.
type Reader struct {
	Config

	mu   sync.Mutex
	look *look // that is being taken
}

// NewReader returns a Reader.
func NewReader(c Config) *Reader { return &Reader{Config: c} }

// Page reads states, all true at one cursor. The error is an *event.Reset when the
// log cannot tell what was at q.At, and ErrBehind when the states have not come
// that far, or are being made anew.
//
// It is one short transaction: whoever reads the next page at the same cursor gets
// what belongs to this one, whatever has happened in between.
func (r *Reader) Page(ctx context.Context, q event.StateQuery) (page event.StatePage, err error) {
	err = r.Turn(ctx, q.Tenant, func() error {
		return snapshot(ctx, r.Pool, func(tx pgx.Tx) error {
			h, err := readHead(ctx, tx)
			if err != nil {
				return err
			}
			page, err = r.page(ctx, tx, &h, q)
			return err
		})
	})
	return page, err
}

func (r *Reader) page(ctx context.Context, tx pgx.Tx, h *head, q event.StateQuery) (event.StatePage, error) {
	at := h.checkpoint
	if q.At != nil {
		at = *q.At
	}
	if err := h.serves(at); err != nil {
		return event.StatePage{}, err
	}
	params := db.StatePageParams{
		Generation: h.generation, Checkpoint: h.checkpoint.Position, Asof: at.Position, Tenant: q.Tenant,
		Namespaces: slices.Sorted(slices.Values(q.Namespaces)), Rooms: q.Rooms, Prefix: q.Prefix, Open: q.Open,
		AfterTenant: q.After.Tenant, AfterNamespace: q.After.Namespace, AfterStream: q.After.Stream,
		MaxRows: int32(q.Limit + 1), MaxBytes: pageBytes,
	}
	rows, err := db.New().StatePage(ctx, tx, params)
	if err != nil {
		return event.StatePage{}, fmt.Errorf("reading states: %w", err)
	}
	page := event.StatePage{Cursor: at, Last: q.After, More: len(rows) > q.Limit}
	rows = rows[:min(len(rows), q.Limit)]
	size := 0
	var stale []int
	var list []event.StateKey
	for i := range rows {
		row := &rows[i]
		key := event.StateKey{Tenant: row.Tenant, Namespace: row.Namespace, Stream: row.Stream}
		page.Last = key
		size += int(row.Size)
		if row.Position > at.Position {
			stale, list = append(stale, i), append(list, key)
		}
		page.States = append(page.States, stored{
			Version: row.Version, State: row.State, Open: row.Open, Incomplete: row.Incomplete, Rooms: row.Rooms, Heard: row.Heard,
			Position: row.Position, UpdatedAt: row.UpdatedAt,
		}.state(key))
	}
	if !page.More && size >= pageBytes { // it may have been cut for its size
		params.AfterTenant, params.AfterNamespace, params.AfterStream = page.Last.Tenant, page.Last.Namespace, page.Last.Stream
		params.MaxRows = 1
		next, err := db.New().StatePage(ctx, tx, params)
		if err != nil {
			return event.StatePage{}, fmt.Errorf("reading states: %w", err)
		}
		page.More = len(next) > 0
	}
	for part := range slices.Chunk(list, refolds) {
		befores := slices.Repeat([]int64{noVersion}, len(part))
		then, err := r.Closes.past(ctx, tx, h.generation, at.Position, part, befores, nil)
		if err != nil {
			return event.StatePage{}, err
		}
		for i := range then {
			page.States[stale[i]] = then[i]
		}
		if cut(&page, stale[len(then)-1]+1) {
			break
		}
		stale = stale[len(then):]
	}
	page.States = slices.DeleteFunc(page.States, func(s event.State) bool { return !matches(&s, q) })
	return page, nil
}

// cut ends a page with the state with which it has pageBytes, if that is among the
// first n, which are what they are to be.
func cut(page *event.StatePage, n int) bool {
	size := 0
	for i := range page.States[:n] {
		if size += len(page.States[i].Data); size >= pageBytes && i+1 < len(page.States) {
			page.States, page.Last, page.More = page.States[:i+1], page.States[i].StateKey, true
			return true
		}
	}
	return false
}

// matches judges what was made of the log: it was something else then.
func matches(s *event.State, q event.StateQuery) bool {
	heard := len(q.Rooms) == 0 || hears(q.Rooms, s.Heard)
	return s.Version > 0 && heard && (q.Open == nil || *q.Open == s.Open) && strings.HasPrefix(s.Stream, q.Prefix)
}

// Checkpoint is the newest cursor that there are states at. The error is ErrBehind
// when there is none.
func (r *Reader) Checkpoint(ctx context.Context) (event.Cursor, error) {
	h, err := r.see(ctx)
	if err == nil && !h.usable() {
		err = ErrBehind
	}
	return h.checkpoint, err
}

// Await waits until there are states at a cursor. The error is an *event.Reset when
// there cannot be, and ErrBehind when there are none when ctx ends.
func (r *Reader) Await(ctx context.Context, at event.Cursor) error {
	for {
		h, err := r.see(ctx)
		if err == nil {
			if err = h.serves(at); !errors.Is(err, ErrBehind) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			if err == nil || ctx.Err() != nil {
				return ErrBehind
			}
			return err
		case <-time.After(awaitPeriod):
		}
	}
}

// PositionAt is the last position that was recorded at a time or before it, looked
// for when it is the company's turn. It is the log's floor when that is older than
// all there is.
func (r *Reader) PositionAt(ctx context.Context, tenant string, at time.Time) (cursor event.Cursor, err error) {
	err = r.Turn(ctx, tenant, func() error {
		position, err := db.New().StatePositionAt(ctx, r.Pool, at)
		if err != nil {
			return fmt.Errorf("looking for the time in the log: %w", err)
		}
		h, err := readHead(ctx, r.Pool)
		cursor = h.epochs.At(position)
		return err
	})
	return cursor, err
}

// look is one reading of the head, for all who want to know at that moment.
type look struct {
	done chan struct{}
	head head
	err  error
}

// see reads the head, or waits for who is reading it.
func (r *Reader) see(ctx context.Context) (head, error) {
	r.mu.Lock()
	l := r.look
	if l == nil {
		l = &look{done: make(chan struct{})}
		r.look = l
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), seeTimeout)
			defer cancel()
			l.head, l.err = readHead(ctx, r.Pool)
			r.mu.Lock()
			r.look = nil
			r.mu.Unlock()
			close(l.done)
		}()
	}
	r.mu.Unlock()
	select {
	case <-l.done:
		return l.head, l.err
	case <-ctx.Done():
		return head{}, ctx.Err()
	}
}
