package client

import (
	"context"
	"fmt"
	"time"
)

// keepEvery is how often the cursor is kept while there is always something to
// do, and how often it is acknowledged at most.
const keepEvery = time.Second

// dispatch hands over what is in the queue until ctx ends or a callback fails.
func (c *Client) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		i, more := c.queue.pop()
		if more {
			if err := c.take(ctx, i); err != nil {
				return err
			}
		} else {
			c.catchUp()
		}
		again, err := c.keep.now(ctx, !more)
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case <-c.queue.changed:
		case <-again:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// take hands over one item. Its cursor counts when that has gone well.
func (c *Client) take(ctx context.Context, i item) error {
	switch {
	case i.event != nil:
		e, err := parseEvent(i.event)
		if err != nil {
			return fmt.Errorf("an event cannot be read: %w", err)
		}
		if err := c.cfg.Handler(ctx, e); err != nil {
			return err
		}
		if i.cursor == "" {
			i.cursor = e.Cursor
		}
	case i.reset != nil:
		if c.cfg.OnReset == nil {
			return &ResetError{*i.reset}
		}
		if err := c.cfg.OnReset(ctx, *i.reset); err != nil {
			return err
		}
	case i.snapshot != nil:
		if err := c.cfg.OnSnapshot(ctx, *i.snapshot); err != nil {
			return err
		}
	}
	if i.cursor != "" {
		c.mu.Lock()
		c.handled = i.cursor
		c.mu.Unlock()
	}
	if i.status != "" {
		c.report(i.from, Status{Phase: i.status, Cursor: i.cursor, Reason: i.reason})
	}
	return nil
}

// catchUp ends a connection that stopped following because the handler was too
// far behind: the handler has caught up, and the next one follows again.
func (c *Client) catchUp() {
	if k := c.current(); k != nil && k.behind.Load() {
		k.end(errBehind)
	}
}

// keeper keeps the cursor of what was handled.
type keeper struct {
	client *Client
	kept   string // in the file, or acknowledged on the connection
	on     *conn
	at     time.Time
}

// now keeps the cursor if it is time to. Otherwise it returns what to wait for.
func (k *keeper) now(ctx context.Context, idle bool) (again <-chan time.Time, err error) {
	handled := k.client.Cursor()
	wait := keepEvery - time.Since(k.at)
	switch {
	case k.client.cfg.CursorFile != "":
		if handled == k.kept || !idle && wait > 0 {
			return nil, nil
		}
		err = saveCursor(k.client.cfg.CursorFile, handled)
	case k.client.cfg.Consumer != "":
		on := k.client.current()
		if handled == "" || on == nil || handled == k.kept && on == k.on {
			return nil, nil
		}
		if wait > 0 {
			return time.After(wait), nil
		}
		if failed := on.post(ctx, map[string]any{"type": "ack", "cursor": handled}); failed != nil {
			return nil, nil //nolint:nilerr // it is acknowledged on the next connection
		}
		k.on = on
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("keeping the cursor: %w", err)
	}
	k.kept, k.at = handled, time.Now()
	return nil, nil
}

// last keeps the cursor when nothing more will be handled.
func (k *keeper) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goodbye)
	defer cancel()
	k.at = time.Time{}
	_, err := k.now(ctx, true)
	return err
}
