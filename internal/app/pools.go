package app

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// liveConns serve the tail, cold pages, and the comparison of retries.
	liveConns = 8
	// otherConns is how many connections there are at most besides those for
	// history: for what is live, for appending, LISTEN, the outbox, the states and
	// maintenance.
	otherConns = liveConns + 6
	// readTimeout ends a query that no client waits for any more.
	readTimeout = 30 * time.Second
	// appendTimeout is shorter than the appender's patience with one attempt:
	// an attempt whose answer is lost must be over in the database as well. It
	// counts the wait for the append lock too. There is no lock_timeout besides:
	// who gave up earlier would lose his place among those who wait.
	appendTimeout = 4500 * time.Millisecond
	// connectTimeout bounds one try to connect.
	connectTimeout = 5 * time.Second
)

// newPool returns a pool that has not connected yet. Session settings are made
// by SET, not as start-up parameters, which poolers refuse. The database may be
// an application's, with defaults that suit it.
func newPool(ctx context.Context, dsn, name string, conns int, timeout time.Duration) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL: %w", err)
	}
	config.MaxConns = int32(conns)
	config.ConnConfig.ConnectTimeout = connectTimeout
	config.ConnConfig.RuntimeParams["application_name"] = "tailroom " + name
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, fmt.Sprintf(
			"SET statement_timeout = %d; SET default_transaction_isolation = 'read committed'; "+
				"SET max_parallel_workers_per_gather = 0; SET jit = off", timeout.Milliseconds()))
		return err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("the pool for %s: %w", name, err)
	}
	return pool, nil
}
