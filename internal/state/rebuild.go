package state

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// seedRows is how many states of the floor are copied at once.
const seedRows = 2000

// Progress says how far a rebuild has come.
type Progress struct {
	Step   string // what is being done
	Number int    // from 1
	Steps  int
	Done   int64
	Total  int64 // 0 as long as it is not known
}

// The steps of a rebuild.
var rebuildSteps = []string{"states at the floor", "events", "the old states"}

// Rebuilt is what a rebuild has come to.
type Rebuilt struct {
	Generation int64
	Cursor     event.Cursor // what the states were true at when they were made live
	Seeded     int64        // states at the floor
	Events     int64        // that were folded
	Removed    int64        // rows of generations before
	Took       time.Duration
}

// Rebuild makes all states anew: of the states at the floor and the log. The
// present ones are served, and folded on, until the new ones have come as far; then
// these are live in one transaction, and the others are removed piece by piece. It
// may be interrupted at any time, and begins anew then. Two at once do no harm: the
// one that began earlier ends with an error.
func Rebuild(ctx context.Context, dsn string, closes Closes, progress func(Progress)) (Rebuilt, error) {
	config, err := configFor(dsn, "tailroom state rebuild")
	if err != nil {
		return Rebuilt{}, err
	}
	conn, err := open(ctx, config, "")
	if err != nil {
		return Rebuilt{}, err
	}
	defer hangUp(ctx, conn)
	began := time.Now()
	b := builder{closes: closes, conn: conn, progress: progress}
	if err := b.build(ctx); err != nil {
		return Rebuilt{}, err
	}
	if err := b.remove(ctx); err != nil {
		return Rebuilt{}, fmt.Errorf("the new states are live; removing the old ones: %w", err)
	}
	b.done.Took = time.Since(began)
	return b.done, nil
}

// builder makes a generation.
type builder struct {
	closes   Closes
	conn     *pgx.Conn
	force    bool // the live generation is good for nothing
	progress func(Progress)

	done Rebuilt
	at   event.Cursor // the checkpoint
}

// build makes a generation and makes it live.
func (b *builder) build(ctx context.Context) error {
	for {
		err := b.once(ctx)
		if !errors.Is(err, errFloor) {
			return err
		}
	}
}

// once begins a generation; the error is errFloor when retention has overtaken it.
func (b *builder) once(ctx context.Context) error {
	h, err := readHead(ctx, b.conn)
	if err != nil {
		return err
	}
	b.at = h.epochs.At(h.floor)
	b.done = Rebuilt{}
	b.done.Generation, err = db.New().StateBegin(ctx, b.conn, db.StateBeginParams{Epoch: b.at.Epoch, Position: b.at.Position})
	if err != nil {
		return fmt.Errorf("beginning new states: %w", err)
	}
	if err := b.seed(ctx); err != nil {
		return err
	}
	for {
		caughtUp, err := b.advance(ctx)
		if err != nil {
			return err
		}
		if !caughtUp {
			continue
		}
		live, err := db.New().StateSwitch(ctx, b.conn, db.StateSwitchParams{Generation: b.done.Generation, Force: b.force})
		if err != nil {
			return fmt.Errorf("making the new states live: %w", err)
		}
		if live {
			b.done.Cursor = b.at
			return nil
		}
		if still, err := db.New().StateGeneration(ctx, b.conn, b.done.Generation); err != nil || len(still) == 0 {
			return errors.Join(err, errOther)
		}
	}
}

// errOther ends a rebuild during which another one was begun.
var errOther = errors.New("another rebuild has begun, and this one is given up")

// seed copies the states at the floor.
func (b *builder) seed(ctx context.Context) error {
	b.show(1, 0, 0)
	params := db.StateSeedParams{Generation: b.done.Generation, MaxRows: seedRows}
	for {
		row, err := db.New().StateSeed(ctx, b.conn, params)
		if err != nil {
			return fmt.Errorf("copying the states at the floor: %w", err)
		}
		if row.Seeded == 0 {
			return nil
		}
		b.done.Seeded += row.Seeded
		b.show(1, b.done.Seeded, 0)
		params.Tenant, params.Namespace, params.Stream = row.Tenant, row.Namespace, row.Stream
	}
}

// advance folds one step, and reports whether that came to the log's end.
func (b *builder) advance(ctx context.Context) (caughtUp bool, err error) {
	h, err := readHead(ctx, b.conn)
	if err != nil {
		return false, err
	}
	if !h.holds(b.at) {
		return false, errFloor // or another past
	}
	at, folded, err := b.closes.step(ctx, b.conn, b.done.Generation, b.at, stepEvents)
	if errors.Is(err, errFenced) {
		return false, errOther
	}
	if err != nil {
		return false, err
	}
	b.at = at
	b.done.Events += int64(folded)
	b.show(2, b.at.Position-h.floor, h.tip.Position-h.floor)
	return folded == 0 || b.at.Position >= h.tip.Position, nil
}

// remove takes away what the live generation has replaced.
func (b *builder) remove(ctx context.Context) error {
	for {
		removed, err := db.New().StateRemove(ctx, b.conn, removeRows)
		if err != nil || removed == 0 {
			return err
		}
		b.done.Removed += removed
		b.show(3, b.done.Removed, 0)
	}
}

func (b *builder) show(step int, done, total int64) {
	b.progress(Progress{Step: rebuildSteps[step-1], Number: step, Steps: len(rebuildSteps), Done: done, Total: total})
}
