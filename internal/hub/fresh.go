package hub

import (
	"context"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

// freshTimeout bounds one read of the bounds.
const freshTimeout = 5 * time.Second

// fresh reads the log's bounds for whoever asks, in one query for all who ask
// at once. Unlike a single flight's joiner, nobody gets an answer to a query
// that was sent before he asked: it could miss what he knows is committed.
type fresh struct {
	life context.Context //nolint:containedctx // the hub's
	read func(context.Context) (event.Bounds, error)

	mu     sync.Mutex
	flying bool
	next   *flight // for those who asked while one is under way
}

type flight struct {
	done   chan struct{}
	bounds event.Bounds
	err    error
}

func (f *fresh) get(ctx context.Context) (event.Bounds, error) {
	f.mu.Lock()
	if f.next == nil {
		f.next = &flight{done: make(chan struct{})}
	}
	mine := f.next
	if !f.flying {
		f.flying = true
		go f.fly()
	}
	f.mu.Unlock()
	select {
	case <-ctx.Done():
		return event.Bounds{}, ctx.Err()
	case <-mine.done:
		return mine.bounds, mine.err
	}
}

// fly reads for those who wait, until nobody does.
func (f *fresh) fly() {
	for {
		f.mu.Lock()
		present := f.next
		f.next = nil
		f.flying = present != nil
		f.mu.Unlock()
		if present == nil {
			return
		}
		ctx, cancel := context.WithTimeout(f.life, freshTimeout)
		present.bounds, present.err = f.read(ctx)
		cancel()
		close(present.done)
	}
}
