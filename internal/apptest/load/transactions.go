package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
)

// Transactions are an application's. It publishes with SQL while it does business
// of its own: some transactions are long, some roll back, all or to a savepoint.
type Transactions struct {
	mu   sync.Mutex
	list []check.Transaction
}

// Run publishes over one connection, as company c1, until ctx ends. Seeds make it
// do the same again, but for its timing.
func (a *Transactions) Run(ctx context.Context, dsn string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 0))
	background := context.WithoutCancel(ctx) // what has begun is finished
	conn, err := pgx.Connect(background, dsn)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(background) }()
	for ctx.Err() == nil {
		done, err := transact(background, conn, random)
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.list = append(a.list, done)
		a.mu.Unlock()
	}
	return nil
}

// transact runs one transaction, at some isolation level.
func transact(ctx context.Context, conn *pgx.Conn, random *rand.Rand) (check.Transaction, error) {
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	done, commits := check.Transaction{Began: time.Now()}, random.IntN(10) > 0
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: levels[random.IntN(len(levels))]})
	if err != nil {
		return done, err
	}
	for n := range 1 + random.IntN(5) {
		part, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return done, err
		}
		var id string
		err = part.QueryRow(ctx, "SELECT tailroom.publish('c1', '/orders', 'newOrder', $1)::text",
			map[string]any{"orderId": fmt.Sprint(random.IntN(20)), "branchId": "b7", "n": n}).Scan(&id)
		if err != nil {
			return done, err
		}
		if random.IntN(10) == 0 {
			done.Lost = append(done.Lost, id)
			err = part.Rollback(ctx)
		} else {
			done.IDs = append(done.IDs, id)
			err = part.Commit(ctx)
		}
		if err != nil {
			return done, err
		}
	}
	if random.IntN(20) == 0 { // business
		if _, err := tx.Exec(ctx, "SELECT pg_sleep($1)", random.Float64()); err != nil {
			return done, err
		}
	}
	if commits {
		err = tx.Commit(ctx)
	} else {
		done.Lost, done.IDs = append(done.Lost, done.IDs...), nil
		err = tx.Rollback(ctx)
	}
	done.Ended = time.Now()
	return done, err
}

// Count is how many transactions there were.
func (a *Transactions) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.list)
}

// Check holds the transactions against the ids in the log, in the order of their
// positions: see check.Index.Transactions. There is nothing else in it.
func (a *Transactions) Check(t testing.TB, log []string) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	index := check.Index{}
	for place, id := range log {
		require.NotContains(t, index, id, "twice in the log")
		index[id] = event.NewEntry(event.Event{Cursor: event.Cursor{Position: int64(place) + 1}, Data: []byte("{}")})
	}
	require.NoError(t, index.Transactions(a.list))
	committed := 0
	for _, tx := range a.list {
		committed += len(tx.IDs)
	}
	require.Equal(t, committed, len(log))
}
