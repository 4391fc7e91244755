package eventlog

import (
	"context"
	"fmt"
	"sort"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// Epochs reads the log's lives, oldest first.
func (l *Log) Epochs(ctx context.Context) (event.Epochs, error) {
	rows, err := l.sql.EpochList(ctx, l.pool)
	if err != nil {
		return nil, fmt.Errorf("reading the epochs: %w", err)
	}
	list := make(event.Epochs, len(rows))
	for i, r := range rows {
		list[i] = event.Epoch{Number: r.Epoch, Survived: r.Survived, OpenedAt: r.OpenedAt, Reason: r.Reason}
	}
	return list, nil
}

// Agreed returns the last position up to which the log is the one that these
// entries, which must be in order and not empty, were read from. If all are in
// the log as they were, that is the position of the last.
//
// A log that has lost its end still has a prefix of them. If it has none, the
// oldest entry tells by its time: in the log it was read from, what is below it
// was recorded no later.
func (l *Log) Agreed(ctx context.Context, entries []*event.Entry) (int64, error) {
	var failed error
	agrees := func(i int) bool {
		is, err := l.sql.EventIs(ctx, l.pool, db.EventIsParams{
			Position: entries[i].Cursor.Position, ID: pgtype.UUID{Bytes: entries[i].ID, Valid: true},
		})
		if err != nil {
			failed = err
		}
		return is
	}
	n := len(entries)
	if !agrees(n-1) && failed == nil {
		n = sort.Search(n-1, func(i int) bool { return failed == nil && !agrees(i) })
	}
	if failed != nil {
		return 0, fmt.Errorf("comparing the log with what was read of it: %w", failed)
	}
	if n > 0 {
		return entries[n-1].Cursor.Position, nil
	}
	position, err := l.sql.EventLastRecorded(ctx, l.pool, db.EventLastRecordedParams{
		Position: entries[0].Cursor.Position, RecordedAt: entries[0].RecordedAt,
	})
	if err != nil {
		return 0, fmt.Errorf("comparing the log with what was read of it: %w", err)
	}
	return position, nil
}

// Forsake begins a new epoch for a log that has lost its end. It reports
// whether it did: if loss.Newest is not the newest epoch any more, somebody else
// was faster, and what the loss is must be found out anew.
func (l *Log) Forsake(ctx context.Context, loss event.Loss) (bool, error) {
	number, err := l.openEpoch(ctx, db.EpochOpenParams{
		Survived: &loss.Survived, AtLeast: loss.Known + 1, Reason: loss.Reason, Newest: &loss.Newest,
	})
	if err != nil {
		return false, err
	}
	return number != 0, nil
}

// OpenEpoch begins a new epoch behind the present end of the log, for a reason
// that people read, and returns it. Its first event tells who did it.
func (l *Log) OpenEpoch(ctx context.Context, reason, actor string) (event.Epoch, error) {
	if err := MakePartitions(ctx, l.pool); err != nil { // the event needs one, and perhaps no instance runs
		return event.Epoch{}, err
	}
	number, err := l.sql.EpochNew(ctx, l.pool, db.EpochNewParams{Reason: reason, Actor: actor})
	if err != nil {
		return event.Epoch{}, ExplainOrder("opening an epoch", err)
	}
	list, err := l.Epochs(ctx)
	if err != nil {
		return event.Epoch{}, err
	}
	for _, e := range list {
		if e.Number == number {
			return e, nil
		}
	}
	return event.Epoch{}, fmt.Errorf("epoch %d was opened, and is gone", number)
}

// openEpoch gives epoch_open all the time it takes: it may have to take over a
// great many events, and cut short it would begin again for ever.
func (l *Log) openEpoch(ctx context.Context, params db.EpochOpenParams) (number int64, err error) {
	err = pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = 0"); err != nil {
			return err
		}
		number, err = l.sql.EpochOpen(ctx, tx, params)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("opening an epoch: %w", err)
	}
	return number, nil
}
