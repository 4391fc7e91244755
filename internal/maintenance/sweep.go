package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// sweepTimeout bounds a sweep. To read a partition through takes seconds
	// where it is in memory, and minutes on a slow disk.
	sweepTimeout = 10 * time.Minute
	// sweepSettings: how long a transaction that uses the log is waited for, and
	// how long one of a leader that has stopped in the middle keeps its locks. The
	// pass waits a little longer for locks that the sweep has.
	sweepSettings = "SET statement_timeout = 0; SET lock_timeout = '4s'; SET idle_in_transaction_session_timeout = '4s'"
)

func (k *Keeper) keepSweeping(ctx context.Context) {
	tick := time.NewTicker(k.period)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := k.sweep(ctx); err != nil && ctx.Err() == nil {
			slog.WarnContext(ctx, "a sweep was cut short", "component", "maintenance", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// sweep does what can take long. Retention comes first: it never takes as long as
// sealing can, and must not be kept from its turn by it. The error is that the
// sweep has no connection any more.
func (k *Keeper) sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	conn, err := k.connect(ctx, "tailroom sweep", sweepSettings)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	var duties []duty
	if k.keep != (Policy{}) {
		duties = append(duties, duty{dutyConsumers, k.warnConsumers}, duty{dutyRetention, k.retain})
	}
	return k.perform(ctx, conn, append(duties, duty{dutyRequests, k.takeRequests}, duty{dutySeal, k.seal})...)
}

// seal takes full partitions through the steps of tailroom.seal_partition. One
// that somebody has in use, or that cannot be sealed, is left for the next time.
func (k *Keeper) seal(ctx context.Context, conn *pgx.Conn) error {
	layout, err := eventlog.ReadLayout(ctx, conn)
	if err != nil {
		return err
	}
	var failed []error
	for _, p := range layout.Partitions {
		for sealed := p.State != eventlog.PartitionFull; !sealed && err == nil; {
			sealed, err = k.sql.PartitionSeal(ctx, conn, p.First)
		}
		if err != nil && !inUse(err) {
			failed = append(failed, fmt.Errorf("sealing %s: %w", p.Name, err))
		}
		if conn.IsClosed() {
			break
		}
		err = nil
	}
	return errors.Join(failed...)
}

// inUse reports whether others had locked what err is about.
func inUse(err error) bool {
	const lockNotAvailable, deadlockDetected = "55P03", "40P01"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == lockNotAvailable || pg.Code == deadlockDetected)
}
