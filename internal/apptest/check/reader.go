// Package check holds a log against what its publishers and readers were told:
// the invariants that everybody may rely on, as functions of what they saw and
// of what is in the log in the end.
//
// There is one checker for all tests. The same functions must fail a broken log
// and a broken reader: see the tests of this package, and the negative controls
// of the tests that use it.
package check

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// Delivery is one event as a reader got it.
type Delivery struct {
	Position int64
	JSON     []byte // nil where bytes are not compared
}

// Reader compares what a reader was sent with the log, filtered. He says that it
// is everything that matches after the position from, up to the position to: no
// skip, no repeat, in order, byte for byte, and nothing left to come.
func Reader(log []*event.Entry, matches func(*event.Entry) bool, from, to int64, sent []Delivery) error {
	next, last := 0, from
	for _, e := range log {
		p := e.Cursor.Position
		if p <= from || !matches(e) {
			continue
		}
		if p > to {
			return fmt.Errorf("the reader came to rest at %d, the log goes on to %d", to, p)
		}
		if next == len(sent) {
			return fmt.Errorf("skipped %d: the last delivered was %d", p, last)
		}
		d := sent[next]
		switch {
		case d.Position <= last:
			return fmt.Errorf("%d came after %d", d.Position, last)
		case d.Position > p:
			return fmt.Errorf("skipped %d: %d came after %d", p, d.Position, last)
		case d.Position < p:
			return fmt.Errorf("%d was delivered, which does not match or is not in the log", d.Position)
		case d.JSON != nil && !bytes.Equal(d.JSON, e.JSON()):
			return fmt.Errorf("%d was delivered as %s, and is in the log as %s", p, d.JSON, e.JSON())
		}
		next, last = next+1, p
	}
	if next < len(sent) {
		return fmt.Errorf("%d came after %d, which was the last", sent[next].Position, last)
	}
	return nil
}

// ReadLog reads the whole log, by its primary key.
func ReadLog(ctx context.Context, dsn string) ([]*event.Entry, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	defer pool.Close()
	log := eventlog.New(pool)
	var all []*event.Entry
	for after := int64(0); ; after = all[len(all)-1].Cursor.Position {
		page, err := log.Tail(ctx, after, 10_000)
		if err != nil || len(page) == 0 {
			return all, err
		}
		all = append(all, page...)
	}
}
