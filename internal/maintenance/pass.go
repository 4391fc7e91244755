package maintenance

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// enoughAhead is how many empty partitions there should be at the least.
	enoughAhead = 2
	// clockLeeway is more than the clocks of a token's issuer and of the instances
	// may be apart.
	clockLeeway = time.Minute
)

// pass does what is short. The error is that the connection has ended.
func (k *Keeper) pass(ctx context.Context, conn *pgx.Conn, leads bool) error {
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	var duties []duty
	makes := leads || k.few // whoever sees that few are left
	if makes {
		duties = append(duties, duty{dutyPartitions, makePartitions})
	}
	if leads {
		duties = append(duties, duty{dutyIDs, k.rotateIDs})
	}
	if leads && k.lifetime > 0 {
		duties = append(duties, duty{dutyRevocations, k.forgetRevocations})
	}
	duties = append(duties, duty{dutyFigures, func(ctx context.Context, conn *pgx.Conn) error {
		return k.figures(ctx, conn, makes)
	}})
	return k.perform(ctx, conn, duties...)
}

func makePartitions(ctx context.Context, conn *pgx.Conn) error {
	return eventlog.MakePartitions(ctx, conn)
}

func (k *Keeper) rotateIDs(ctx context.Context, conn *pgx.Conn) error {
	if _, err := k.sql.RecentIDRotate(ctx, conn, k.idWindow.Seconds()); err != nil {
		return fmt.Errorf("rotating the window of ids: %w", err)
	}
	return nil
}

// forgetRevocations forgets what no token can meet any more. A token is believed
// though its iat or its end are clockLeeway away, and it may have been revoked by its
// id before it was issued by the issuer's clock.
func (k *Keeper) forgetRevocations(ctx context.Context, conn *pgx.Conn) error {
	if _, err := k.sql.RevocationForget(ctx, conn, (k.lifetime + 2*clockLeeway).Seconds()); err != nil {
		return fmt.Errorf("forgetting revocations: %w", err)
	}
	return nil
}

// figures shows what the log has left. When that is too little though partitions
// were to be made, it says so.
func (k *Keeper) figures(ctx context.Context, conn *pgx.Conn, made bool) error {
	layout, err := eventlog.ReadLayout(ctx, conn)
	if err != nil {
		return err
	}
	ahead := layout.Ahead()
	k.metrics.ahead.Set(float64(ahead))
	k.metrics.bytes.Set(float64(layout.Bytes()))
	k.few = ahead < enoughAhead
	switch {
	case k.few && made && !k.alarmed:
		k.alarmed = true
		slog.ErrorContext(ctx, "few empty partitions are left: without one nothing can be published",
			"component", "maintenance", "ahead", ahead, "wanted", enoughAhead)
	case !k.few && k.alarmed:
		k.alarmed = false
		slog.InfoContext(ctx, "there are enough empty partitions again", "component", "maintenance", "ahead", ahead)
	}
	return nil
}
