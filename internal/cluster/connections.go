package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	// maxShown is how many sessions are shown at once, and maxShownRooms how many rooms
	// they have joined: about a megabyte, which is written long before showTimeout.
	maxShown      = 2000
	maxShownRooms = 20_000
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
	changed changes // since it was shown
}

// changes are sessions by their numbers, each with who says how it is; nil: it has ended.
type changes map[int64]func() session.Report

// NewConnections returns the Connections of an instance that has joined. It calls review to
// be told of all its sessions again. While the database is away, what has changed waits:
// some fifty bytes for a session, also for one that has ended.
func NewConnections(pool db.DBTX, incarnation uuid.UUID, review func()) *Connections {
	return &Connections{
		pool: pool, sql: db.New(), instance: pgtype.UUID{Bytes: incarnation, Valid: true}, review: review,
		wake: make(chan struct{}, 1), turn: make(chan struct{}, 1), changed: changes{},
	}
}

// Watch notes that a session has changed. See session.Registry.
func (c *Connections) Watch(number int64, report func() session.Report) {
	c.mu.Lock()
	c.changed[number] = report
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
		if err != nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-time.After(showPeriod - showPause):
		}
	}
}

// Show shows what has changed until now. What changes meanwhile is for the next time.
func (c *Connections) Show(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	due := c.take()
	for {
		err := ctx.Err()
		if err == nil {
			err = c.show(ctx, due)
		}
		if err != nil {
			c.putBack(due)
			return fmt.Errorf("showing who is connected: %w", err)
		}
		if len(due) == 0 {
			return nil
		}
	}
}

// show shows some of what is due, and takes it out. It does not end with ctx: a reader who
// leaves would cost the database a connection each time, and the instance the answer.
func (c *Connections) show(ctx context.Context, due changes) error {
	ended, present := due.some()
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
	for _, number := range ended {
		delete(due, number)
	}
	for _, r := range present {
		delete(due, r.Number)
	}
	return nil
}

// some are those that are shown at once: at least one, if there is any.
func (c changes) some() (ended []int64, present []session.Report) {
	ended, present = []int64{}, []session.Report{}
	rooms := 0
	for number, report := range c {
		if report == nil {
			ended = append(ended, number)
		} else {
			r := report()
			present = append(present, r)
			for _, joined := range r.Rooms {
				rooms += len(joined)
			}
		}
		if len(ended)+len(present) == maxShown || rooms >= maxShownRooms {
			break
		}
	}
	return ended, present
}

// take takes out what has changed.
func (c *Connections) take() changes {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.changed
	c.changed = changes{}
	return due
}

// putBack notes what could not be shown, unless it has changed again.
func (c *Connections) putBack(due changes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(due, c.changed)
	c.changed = due
}
