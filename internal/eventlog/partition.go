package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

const (
	// partitionsAhead is how many empty partitions are kept beyond the one that
	// is being written.
	partitionsAhead = 3
	// partitionPeriod is how often that is seen to. A partition lasts minutes
	// at the highest rate that was measured.
	partitionPeriod = 20 * time.Second
)

// MakePartitions makes the partitions that are missing ahead of the log's tip.
func (l *Log) MakePartitions(ctx context.Context) error {
	made, err := l.sql.PartitionMakeAhead(ctx, l.pool, partitionsAhead)
	if err != nil {
		return fmt.Errorf("making partitions ahead: %w", err)
	}
	if made > 0 {
		slog.InfoContext(ctx, "partitions made ahead", "component", "eventlog", "made", made)
	}
	return nil
}

// KeepPartitions makes partitions ahead until ctx ends. A failure is logged
// and tried again: there are some in hand.
func (l *Log) KeepPartitions(ctx context.Context) error {
	tick := time.NewTicker(partitionPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := l.MakePartitions(ctx); err != nil && ctx.Err() == nil {
			slog.ErrorContext(ctx, "no partition could be made ahead", "component", "eventlog", "error", err)
		}
	}
}
