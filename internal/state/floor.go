package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// pruneRows is how much of what a floor has replaced is deleted at once.
const pruneRows = 2000

// RaiseFloor writes the states at a new floor of the log, and raises the floor to it
// at the same moment, so that no state loses what retention drops. The states are
// folded from those at the present floor and the events that are about to go, step
// by step: interrupted, it goes on where it was. On an error the floor is where it
// was. The connection's role must have the rights of tailroom_owner, and only one
// may do this at a time.
func (closes Closes) RaiseFloor(ctx context.Context, conn *pgx.Conn, floor int64) error {
	sql := db.New()
	h, err := readHead(ctx, conn)
	if err != nil {
		return err
	}
	if !h.usable() || h.checkpoint.Position < floor {
		return fmt.Errorf("the states have come to %s and not to position %d yet: retention waits for them", h.checkpoint, floor)
	}
	p, err := sql.StateFloorProgress(ctx, conn)
	if err != nil {
		return fmt.Errorf("reading how far the states of the next floor are: %w", err)
	}
	if floor <= p.Floor {
		return nil
	}
	if err := prune(ctx, conn); err != nil { // an earlier try was interrupted before, or in the middle of it
		return fmt.Errorf("forgetting what the present floor has replaced: %w", err)
	}
	if p.Target != floor || p.Position < p.Floor {
		p.Target, p.Position, p.Redacted = floor, p.Floor, p.NewestRedaction
		if err := beginFloor(ctx, conn, db.StateFloorBeginParams{Target: floor, Position: p.Position, Redacted: p.Redacted}); err != nil {
			return err
		}
	}
	for at := p.Position; at < floor; {
		if at, err = closes.advanceFloor(ctx, conn, at, floor, p.Redacted); err != nil {
			return err
		}
	}
	if err := swapFloor(ctx, conn, floor); err != nil {
		return err
	}
	if err := prune(ctx, conn); err != nil {
		return fmt.Errorf("the floor is raised; forgetting what it has replaced: %w", err)
	}
	return nil
}

// prune deletes, in pages, what the present floor has replaced: of the streams alone
// that it has written.
func prune(ctx context.Context, conn *pgx.Conn) error {
	sql := db.New()
	params := db.StateFloorPruneParams{MaxRows: pruneRows}
	for {
		last, err := sql.StateFloorPrune(ctx, conn, params)
		if err != nil {
			return err
		}
		if len(last) == 0 {
			break
		}
		params.Tenant, params.Namespace, params.Stream = last[0].Tenant, last[0].Namespace, last[0].Stream
	}
	for {
		if gone, err := sql.StateKeyframePrune(ctx, conn, pruneRows); err != nil || gone == 0 {
			return err
		}
	}
}

// beginFloor begins the states of a new floor, without what an earlier try has left
// that was interrupted on its way to another floor.
func beginFloor(ctx context.Context, conn *pgx.Conn, p db.StateFloorBeginParams) error {
	if err := db.New().StateFloorForget(ctx, conn); err != nil {
		return fmt.Errorf("forgetting what an earlier try has written: %w", err)
	}
	return db.New().StateFloorBegin(ctx, conn, p)
}

// advanceFloor folds some more events onto the states of the next floor, and
// returns how far that is.
func (closes Closes) advanceFloor(ctx context.Context, conn *pgx.Conn, after, floor, redacted int64) (int64, error) {
	s, err := readStretch(ctx, conn, floorStates, after, floor, stepEvents)
	if err != nil {
		return after, err
	}
	to := s.to.Position
	if s.events == 0 {
		to = floor // holes, or nothing
	}
	states := make([]event.State, len(s.keys))
	for i, key := range s.keys {
		states[i].StateKey = key
	}
	sql, k := db.New(), keysOf(s.keys)
	rows, err := sql.StateFloorList(ctx, conn, db.StateFloorListParams{
		Numbers: k.numbers, Tenants: k.tenants, Namespaces: k.namespaces, Streams: k.streams,
	})
	if err != nil {
		return after, fmt.Errorf("reading the states at the floor: %w", err)
	}
	for _, r := range rows {
		states[r.Number] = stored(r).state(s.keys[r.Number])
	}
	closes.onto(&s, states, nil)
	var c columns
	c.add(states)
	write := c.StateFloorWriteParams
	write.Target, write.Tenants, write.Namespaces, write.Streams = floor, c.tenants, c.namespaces, c.streams
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := sql.StateFloorWrite(ctx, tx, write); err != nil {
			return err
		}
		return sql.StateFloorBegin(ctx, tx, db.StateFloorBeginParams{Target: floor, Position: to, Redacted: redacted})
	})
	if err != nil {
		return after, fmt.Errorf("writing the states of the next floor: %w", err)
	}
	return to, nil
}

// swapFloor raises the floor, unless an event was redacted whose old data may be in
// the states. Redacting holds the append lock, so nothing comes between.
func swapFloor(ctx context.Context, conn *pgx.Conn, floor int64) error {
	sql, raised := db.New(), int64(0)
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) (err error) {
		if err = sql.AppendLock(ctx, tx); err == nil {
			raised, err = sql.StateFloorRaise(ctx, tx, floor)
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("raising the log's floor: %w", err)
	case raised == 0: // the next try is to begin anew
		return errors.Join(errRedacted, sql.StateFloorBegin(ctx, conn, db.StateFloorBeginParams{}))
	}
	return nil
}

// errRedacted makes the states of the next floor anew.
var errRedacted = errors.New("an event was redacted while its state was written for the floor: it is written anew")
