package maintenance

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// maxWarnings is how many consumers are warned of at once: appends wait meanwhile.
	maxWarnings = 200
	// maxForgotten is how many acknowledgements are forgotten at once.
	maxForgotten = 10_000
)

// near is the policy that keeps three quarters of what p keeps. What it would not
// keep is what p takes next.
func (p Policy) near() Policy {
	return Policy{MaxAge: p.MaxAge - p.MaxAge/4, MaxBytes: p.MaxBytes - p.MaxBytes/4}
}

// warnConsumers tells of consumers that have not acknowledged what retention takes
// next, and forgets when they acknowledged what it has taken.
func (k *Keeper) warnConsumers(ctx context.Context, conn *pgx.Conn) error {
	layout, err := eventlog.ReadLayout(ctx, conn)
	if err != nil {
		return err
	}
	next := k.keep.near().floor(layout)
	lagging, err := k.sql.ConsumersLagging(ctx, conn, db.ConsumersLaggingParams{Upto: next, Most: maxWarnings})
	if err != nil {
		return fmt.Errorf("warning of consumers that lag: %w", err)
	}
	k.metrics.lagging.Set(float64(lagging))
	if lagging > 0 {
		slog.WarnContext(ctx, "consumers have not acknowledged what retention takes next", "component", "maintenance",
			"consumers", lagging, "upto", next)
	}
	for {
		forgotten, err := k.sql.ConsumerAcksForget(ctx, conn, maxForgotten)
		if err != nil {
			return fmt.Errorf("forgetting acknowledgements of events that are gone: %w", err)
		}
		if forgotten < maxForgotten {
			return nil
		}
	}
}
