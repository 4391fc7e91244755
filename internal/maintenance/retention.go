package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// requestsAtOnce is how many requests are forgotten in one statement.
const requestsAtOnce = 1000

// Policy says what retention keeps: what is younger than MaxAge, as far as it
// fits into MaxBytes on disk. 0 is no limit. Partitions go whole, so that up to
// one more is kept, and the one that is written always.
type Policy struct {
	MaxAge   time.Duration
	MaxBytes int64
}

// floor is the last position that retention does not keep. From the oldest on,
// so that partitions behind one with a time from a clock that was ahead are kept
// too long, and none is dropped too early.
func (p Policy) floor(l eventlog.Layout) int64 {
	floor, bytes := l.Floor, int64(0)
	kept := slices.DeleteFunc(slices.Clone(l.Partitions), func(p eventlog.Partition) bool { return p.Last <= l.Floor })
	for i := range kept {
		bytes += kept[i].Bytes
	}
	for i := range kept {
		part := &kept[i]
		old := p.MaxAge > 0 && (part.RecordedTo == nil || part.RecordedTo.Before(l.ReadAt.Add(-p.MaxAge)))
		much := p.MaxBytes > 0 && bytes > p.MaxBytes
		if part.State != eventlog.PartitionSealed || part.Last >= l.Tip || !old && !much {
			break
		}
		floor = part.Last
		bytes -= part.Bytes
	}
	return floor
}

// retain drops what the policy does not keep, and goes on where an earlier sweep
// was interrupted, whoever made it. The floor moves first, a partition at a time:
// from then on nobody is promised what lies below.
func (k *Keeper) retain(ctx context.Context, conn *pgx.Conn) error {
	layout, err := eventlog.ReadLayout(ctx, conn)
	if err != nil {
		return err
	}
	floor := k.keep.floor(layout)
	for _, p := range layout.Partitions {
		if p.Last <= layout.Floor || p.Last > floor {
			continue
		}
		if err := k.raise(ctx, conn, p.Last); err != nil {
			return err
		}
		slog.InfoContext(ctx, "retention moves the floor", "component", "maintenance", "from", layout.Floor, "to", p.Last)
		layout.Floor = p.Last
	}
	if err := k.forgetRequests(ctx, conn, floor); err != nil {
		return err
	}
	for _, p := range layout.Partitions {
		if p.Last > floor || p.Last >= layout.Tip { // whatever somebody has made of the floor
			break
		}
		detached, err := k.detach(ctx, conn, p)
		if err != nil {
			return fmt.Errorf("detaching %s: %w", p.Name, err)
		}
		if !detached {
			break // PostgreSQL detaches one at a time
		}
		if err := k.drop(ctx, conn, p); inUse(err) {
			break // somebody reads it by its own name
		} else if err != nil {
			return fmt.Errorf("dropping %s: %w", p.Name, err)
		}
	}
	return nil
}

// forgetRequests drops the requests up to the floor, a few at a time: an append that
// answers one of them would wait.
func (k *Keeper) forgetRequests(ctx context.Context, conn *pgx.Conn, floor int64) error {
	for {
		gone, err := k.sql.RequestForget(ctx, conn, db.RequestForgetParams{Floor: floor, MaxRows: requestsAtOnce})
		if err != nil {
			return fmt.Errorf("forgetting requests below the floor: %w", err)
		}
		if gone < requestsAtOnce {
			return nil
		}
	}
}

// detach takes a partition out of the log, without keeping anybody from reading
// or writing. From the first step on nobody finds it who does not know it yet;
// the second must wait for those who do. As long as that takes longer than the
// connection's lock_timeout, the result is false.
func (k *Keeper) detach(ctx context.Context, conn *pgx.Conn, p eventlog.Partition) (bool, error) {
	statement := "ALTER TABLE tailroom.events DETACH PARTITION " + quoted(p)
	switch {
	case !p.Attached:
		return true, nil
	case p.State == eventlog.PartitionDetaching:
		// FINALIZE waits with a lock in its hand that those want who know the
		// partition. So they must have gone; and who comes upon it in another way,
		// such as asking for the size of every table, is not to be the victim of a
		// deadlock, which is looked for after a second.
		gone, err := k.eldersGone(ctx, conn, p)
		if err != nil || !gone {
			return false, err
		}
		statement = "SET LOCAL lock_timeout = '800ms'; " + statement + " FINALIZE"
	default:
		k.elders = elders{}
		statement += " CONCURRENTLY"
	}
	_, err := conn.Exec(ctx, statement)
	if !inUse(err) {
		return err == nil, err
	}
	_, err = k.eldersGone(ctx, conn, p)
	return false, err
}

// elders are the transactions that may know a partition which is being detached,
// because they have been there since before it was or soon after.
type elders struct {
	of   string
	left []string
}

// eldersGone reports whether all transactions have ended that were there when it
// was first asked about p.
func (k *Keeper) eldersGone(ctx context.Context, conn *pgx.Conn, p eventlog.Partition) (bool, error) {
	present, err := k.sql.TransactionList(ctx, conn)
	if err != nil {
		return false, fmt.Errorf("looking for transactions that know it: %w", err)
	}
	if k.elders.of != p.Name {
		k.elders = elders{of: p.Name, left: present}
		slog.InfoContext(ctx, "retention waits for the transactions that may use a partition", "component", "maintenance",
			"partition", p.Name, "transactions", len(present))
	}
	k.elders.left = slices.DeleteFunc(k.elders.left, func(t string) bool { return !slices.Contains(present, t) })
	return len(k.elders.left) == 0, nil
}

// drop removes a detached partition.
func (k *Keeper) drop(ctx context.Context, conn *pgx.Conn, p eventlog.Partition) error {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "DROP TABLE IF EXISTS "+quoted(p)); err != nil {
			return err
		}
		return k.sql.PartitionForget(ctx, tx, p.First)
	})
	if err != nil {
		return err
	}
	k.metrics.dropped.Inc()
	slog.InfoContext(ctx, "retention has dropped a partition", "component", "maintenance",
		"partition", p.Name, "first", p.First, "last", p.Last, "bytes", p.Bytes)
	return nil
}

func quoted(p eventlog.Partition) string { return pgx.Identifier{"tailroom", p.Name}.Sanitize() }

// mayDetach is an error unless the database's role has the rights of the owner.
func (k *Keeper) mayDetach(ctx context.Context) error {
	conn, err := k.connect(ctx, "tailroom maintenance", sweepSettings)
	if err != nil {
		return fmt.Errorf("connecting for maintenance: %w", err)
	}
	defer hangUp(ctx, conn)
	row, err := k.sql.PartitionMayDetach(ctx, conn)
	if err != nil {
		return fmt.Errorf("looking whether retention may drop partitions: %w", err)
	}
	if !row.May {
		return fmt.Errorf("RETENTION is set, but the database role %s may not detach partitions, which belong to %s: "+
			"let an administrator run `GRANT %s TO %s`, or unset RETENTION", row.Role, row.Owner, row.Owner, row.Role)
	}
	return nil
}
