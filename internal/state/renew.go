package state

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// renewStreams is how many streams are folded anew at once, and renewBytes what the
// keyframes come to that are made of them before they are written.
const (
	renewStreams = 16
	renewBytes   = 2 << 20
)

// renew folds the streams anew that redactions are about, as far as the checkpoint:
// the log holds what is left of their events already, and the states are to forget
// the rest as well. What comes behind the checkpoint was read without it.
//
// It is one transaction, in pieces: the streams may be many, and long. So it may also
// take its time; the line counts as dead when no event comes for answerTimeout.
func (closes Closes) renew(ctx context.Context, conn *pgx.Conn, generation int64, at event.Cursor, redacted []int64) error {
	if len(redacted) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	overdue := time.AfterFunc(answerTimeout, cancel)
	defer overdue.Stop()
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		list, err := outdatedBy(ctx, tx, at, redacted)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(list, renewStreams) {
			if err := closes.renewPart(ctx, tx, generation, at, part, func() { overdue.Reset(answerTimeout) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// outdated is a stream whose states are not what they should be, from a version on.
type outdated struct {
	event.StateKey

	since int64
}

// outdatedBy finds the streams whose states have something of redacted events.
func outdatedBy(ctx context.Context, tx pgx.Tx, at event.Cursor, redacted []int64) ([]outdated, error) {
	var list []outdated
	places := map[event.StateKey]int{}
	for _, position := range redacted {
		if position > at.Position {
			continue
		}
		found, err := db.New().StateStreamAt(ctx, tx, position)
		if err != nil {
			return nil, fmt.Errorf("looking for a redacted event: %w", err)
		}
		for _, e := range found { // one, or none where it has no stream or is gone
			key := event.StateKey{Tenant: e.Tenant, Namespace: e.Namespace, Stream: e.Stream}
			place, known := places[key]
			if !known {
				places[key] = len(list)
				list = append(list, outdated{key, e.Version})
				continue
			}
			list[place].since = min(list[place].since, e.Version)
		}
	}
	return list, nil
}

func (closes Closes) renewPart(
	ctx context.Context, tx pgx.Tx, generation int64, at event.Cursor, part []outdated, alive func(),
) error {
	c := change{from: at, to: at}
	for _, o := range part {
		c.forgotten, c.since = append(c.forgotten, o.StateKey), append(c.since, o.since)
	}
	list, since, size := c.forgotten, c.since, 0
	fresh, err := closes.past(ctx, tx, generation, at.Position, list, since, func(s *event.State) error {
		alive()
		if !isKeyframe(s) {
			return nil
		}
		c.keyframes = append(c.keyframes, *s)
		if size += len(s.Data); size < renewBytes {
			return nil
		}
		err := c.write(ctx, tx, generation)
		c, size = change{from: at, to: at}, 0
		return err
	})
	if err != nil {
		return err
	}
	c.states = begun(fresh)
	return c.write(ctx, tx, generation)
}
