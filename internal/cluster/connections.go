package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/session"
)

const (
	// showPause is between two times that changes are shown.
	showPause = time.Second
	// showPeriod is how long nothing changes until it is looked whether the database
	// still knows what it was shown.
	showPeriod = 5 * time.Second
	// showTimeout bounds one try.
	showTimeout = 2 * time.Second
	// maxShown is how many sessions are shown at once.
	maxShown = 2000
)

var errUnknown = errors.New("the database does not know this instance at present")

// Connections shows the sessions of this instance to all. Run must be running. Its methods
// are safe for concurrent use.
type Connections struct {
	pool     db.DBTX
	sql      *db.Queries
	instance pgtype.UUID
	review   func()
	wake     chan struct{} // capacity 1: something has changed
	turn     chan struct{} // capacity 1: full while changes are being shown
	showing  int64         // the last that was tried; for who has the turn
	first    int64         // the first that the database is known to know; for him as well

	mu      sync.Mutex
	changed map[int64]session.Report // since it was shown
}

// NewConnections returns the Connections of an instance that has joined. It calls review to
// be told of all its sessions again. While the database is away, what has changed waits: a
// hundred bytes for a session that has ended, and none begin.
func NewConnections(pool db.DBTX, incarnation uuid.UUID, review func()) *Connections {
	return &Connections{
		pool: pool, sql: db.New(), instance: pgtype.UUID{Bytes: incarnation, Valid: true}, review: review,
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), changed: map[int64]session.Report{},
	}
}

// Watch notes how a session is. See session.Registry.
func (c *Connections) Watch(r session.Report) {
	c.mu.Lock()
	c.changed[r.Number] = r
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// Run shows what changes until ctx ends: at once, and then every second.
func (c *Connections) Run(ctx context.Context) error {
	away := false
	for {
		err := c.Show(ctx)
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				slog.WarnContext(ctx, "the connections of this instance cannot be shown", "component", "cluster", "error", err)
			} else {
				slog.InfoContext(ctx, "the connections of this instance are shown again", "component", "cluster")
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(showPause):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-time.After(showPeriod - showPause):
		}
	}
}

// Show shows what has changed until now.
func (c *Connections) Show(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		batch := c.take()
		if err := c.show(ctx, batch); err != nil {
			c.putBack(batch)
			return fmt.Errorf("showing who is connected: %w", err)
		}
		if len(batch) < maxShown {
			return nil
		}
	}
}

// show shows a batch. It does not end with ctx: a reader who leaves would cost the
// database a connection each time, and the instance the answer.
func (c *Connections) show(ctx context.Context, batch []session.Report) error {
	ended, present := []int64{}, []session.Report{}
	for _, r := range batch {
		if r.Ended {
			ended = append(ended, r.Number)
		} else {
			present = append(present, r)
		}
	}
	sessions, err := json.Marshal(present)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), showTimeout)
	defer cancel()
	c.showing++
	first, err := c.sql.ConnectionsShow(ctx, c.pool, db.ConnectionsShowParams{
		Incarnation: c.instance, Showing: c.showing, Ended: ended, Sessions: sessions,
	})
	switch {
	case err != nil:
		return err
	case first == 0:
		return errUnknown
	case first != c.first: // of which the answer may have been lost
		c.first = first
		c.review()
	}
	return nil
}

// take takes out what has changed, so many at most.
func (c *Connections) take() []session.Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := make([]session.Report, 0, min(len(c.changed), maxShown))
	for number, r := range c.changed {
		if len(batch) == maxShown {
			break
		}
		batch = append(batch, r)
		delete(c.changed, number)
	}
	return batch
}

// putBack notes what could not be shown, unless it has changed again.
func (c *Connections) putBack(batch []session.Report) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range batch {
		if _, newer := c.changed[r.Number]; !newer {
			c.changed[r.Number] = r
		}
	}
}
