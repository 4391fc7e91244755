package crash_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
)

// businessTable is where an application's transactions leave a row each. So what
// became of a COMMIT that was not answered can be found out.
const businessTable = "CREATE TABLE public.business (transaction uuid PRIMARY KEY)"

// application publishes with SQL while it does business of its own.
type application struct {
	random  *rand.Rand
	cluster *cluster
	steps   atomic.Int64

	mu           sync.Mutex
	transactions []check.Transaction
	accepted     map[string][]apptest.Receipt // of tailroom.append
	refused      []string
}

// run does business until it is told to stop, and knows then what became of it.
func (a *application) run(ctx context.Context, stopped *atomic.Bool) error {
	var conn *pgx.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close(context.WithoutCancel(ctx))
		}
	}()
	for ctx.Err() == nil && !stopped.Load() {
		var err error
		if conn == nil || conn.IsClosed() {
			if conn, err = a.cluster.connect(ctx, "application"); err != nil {
				conn = nil
				wait(ctx, 100*time.Millisecond)
				continue
			}
		}
		d := &deal{random: a.random, id: uuid.NewString()}
		d.Began = time.Now()
		if a.random.IntN(3) == 0 {
			err = d.append(ctx, conn)
		} else {
			err = d.publish(ctx, conn)
		}
		if err != nil { // a transaction may be open still
			_ = conn.Close(ctx)
		}
		if err := a.settle(ctx, d, err); err != nil {
			return fmt.Errorf("the application: %w", err)
		}
		wait(ctx, between(a.random, 20*time.Millisecond, 150*time.Millisecond))
	}
	return nil
}

// settle finds out what became of a transaction that ended with err.
func (a *application) settle(ctx context.Context, d *deal, err error) error {
	pg, told := errors.AsType[*pgconn.PgError](err)
	if told && (pg.Code[:2] == "TR" || pg.Code[:2] == "42") {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if d.committing && err != nil {
		err := eventually(ctx, "the application knows whether it has committed", func(ctx context.Context) (err error) {
			d.committed, err = d.find(ctx, a.cluster)
			return err
		})
		if err != nil {
			return err
		}
	}
	d.Ended = time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !d.committed {
		d.Lost, d.IDs = append(d.Lost, d.IDs...), nil
		a.refused = append(a.refused, d.appended...)
	} else {
		a.steps.Add(1)
		for n, id := range d.appended {
			a.accepted[id] = append(a.accepted[id], d.receipts[n])
		}
	}
	a.transactions = append(a.transactions, d.Transaction)
	return nil
}

// deal is a transaction of the application.
type deal struct {
	check.Transaction

	random     *rand.Rand
	id         string
	appended   []string // ids, and where each is
	receipts   []apptest.Receipt
	committing bool // the last thing that was sent is COMMIT
	committed  bool
}

// publish does some business and publishes what came of it.
func (d *deal) publish(ctx context.Context, conn *pgx.Conn) error {
	levels := []pgx.TxIsoLevel{pgx.ReadCommitted, pgx.RepeatableRead, pgx.Serializable}
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pick(d.random, levels)})
	if err != nil {
		return err
	}
	for range 1 + d.random.IntN(4) {
		part, err := tx.Begin(ctx) // a savepoint
		if err != nil {
			return err
		}
		id := uuid.NewString()
		d.IDs = append(d.IDs, id)
		if _, err := part.Exec(ctx, "SELECT tailroom.publish('c1', '/orders', 'newOrder', $1, id => $2)", d.order(id), id); err != nil {
			return err
		}
		if d.random.IntN(8) > 0 {
			err = part.Commit(ctx)
		} else {
			d.IDs, d.Lost = d.IDs[:len(d.IDs)-1], append(d.Lost, id)
			err = part.Rollback(ctx)
		}
		if err != nil {
			return err
		}
	}
	return d.close(ctx, tx)
}

// append appends one event.
func (d *deal) append(ctx context.Context, conn *pgx.Conn) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	d.appended = append(d.appended, id)
	var version int64
	r := apptest.Receipt{ID: id, Version: &version}
	err = tx.QueryRow(ctx, "SELECT position, version FROM tailroom.append('c1', '/orders', 'newOrder', $1, id => $2)", d.order(id), id).
		Scan(&r.Position, &version)
	if err != nil {
		return err
	}
	d.receipts = append(d.receipts, r)
	return d.close(ctx, tx)
}

// close does the business itself, and ends the transaction.
func (d *deal) close(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "INSERT INTO public.business VALUES ($1)", d.id); err != nil {
		return err
	}
	if d.random.IntN(6) == 0 {
		return tx.Rollback(ctx)
	}
	d.committing = true
	err := tx.Commit(ctx)
	d.committed = err == nil
	return err
}

func (d *deal) order(id string) map[string]any {
	return map[string]any{"orderId": fmt.Sprint(d.random.IntN(20)), "branchId": fmt.Sprintf("b%d", 1+d.random.IntN(3)), "note": id + ", c1, with SQL"}
}

// find finds out whether the transaction has committed. If it is still about to,
// that is waited for; and if it has not, it cannot any more.
func (d *deal) find(ctx context.Context, c *cluster) (committed bool, err error) {
	var found int
	found, err = query[int](ctx, c, `WITH attempt AS (INSERT INTO public.business VALUES ($1) ON CONFLICT DO NOTHING RETURNING 1)
		SELECT count(*) FROM attempt`, d.id)
	return found == 0, err
}
