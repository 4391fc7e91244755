package maintenance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
)

// The duties, as the metrics name them.
const (
	dutyPartitions  = "partitions"
	dutyIDs         = "ids"
	dutyRevocations = "revocations"
	dutyFigures     = "figures"
	dutySeal        = "seal"
	dutyRetention   = "retention"
	dutyConsumers   = "consumers"
	dutyRequests    = "requests"
)

// duty is one thing to be done.
type duty struct {
	name string
	do   func(context.Context, *pgx.Conn) error
}

// perform does some duties. One that fails is tried again the next time, and does
// not keep the others from being done. The error is that the connection has ended.
func (k *Keeper) perform(ctx context.Context, conn *pgx.Conn, duties ...duty) error {
	for _, d := range duties {
		err := d.do(ctx, conn)
		if err == nil {
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err() // the instance stops
		}
		k.metrics.failures.WithLabelValues(d.name).Inc()
		if conn.IsClosed() {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		slog.ErrorContext(ctx, "a duty of the maintenance failed and is tried again", "component", "maintenance",
			"duty", d.name, "error", err)
	}
	return nil
}
