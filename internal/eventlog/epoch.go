package eventlog

import (
	"context"
	"fmt"

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
		list[i] = event.Epoch{Number: r.Epoch, Survived: r.Survived}
	}
	return list, nil
}
