package maintenance

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// requestsTaken is how many requests are taken in at once: appends wait meanwhile.
const requestsTaken = 50

// takeRequests takes in the events that have become requests because their type has
// got a reply.
func (k *Keeper) takeRequests(ctx context.Context, conn *pgx.Conn) error {
	for {
		more, err := k.sql.RequestBackfill(ctx, conn, requestsTaken)
		if err != nil {
			return fmt.Errorf("taking in the requests of the past: %w", err)
		}
		if !more {
			return nil
		}
	}
}
