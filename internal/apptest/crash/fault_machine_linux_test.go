package crash_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

func machineFaults() []*fault {
	return []*fault{
		{name: "the clock is set forward", on: postgres, clock: true, from: time.Second, to: 3 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
			return r.cluster.misset(ctx, s, between(s.random, time.Hour, 5*time.Hour))
		}},
		// An append that was held up on its way is told by the database's clock that
		// it comes too late. A clock that is set back meanwhile cannot tell.
		{name: "the clock is set back", on: postgres, alone: true, clock: true, from: time.Second, to: 3 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
			return r.cluster.misset(ctx, s, -between(s.random, time.Hour, 5*time.Hour))
		}},
		{name: "the disk is full", on: postgres, from: 2 * time.Second, to: 4 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
			return r.cluster.fill(ctx, s, func() error { return nil })
		}},
		{name: "the disk is full for the write-ahead log as well", on: postgres, from: 2 * time.Second, to: 4 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
			return r.cluster.fill(ctx, s, func() error { return r.cluster.exhaust(ctx) })
		}},
	}
}

// misset lets the database's clock be wrong for a while.
func (c *cluster) misset(ctx context.Context, s *strike, by time.Duration) error {
	if err := c.machine.setClock(by); err != nil {
		return err
	}
	shown, err := query[time.Time](ctx, c, "SELECT clock_timestamp()")
	if wrong := time.Until(shown) - by; err == nil && wrong.Abs() > time.Minute {
		err = fmt.Errorf("the clock was to be wrong by %s, and is by %s", by, wrong+by)
	}
	s.last(ctx)
	return errors.Join(err, c.machine.setClock(0))
}

// fill lets the disk be full for a while. If PostgreSQL has given up, somebody
// starts it again.
func (c *cluster) fill(ctx context.Context, s *strike, and func() error) error {
	if err := c.execute(ctx, "CREATE TABLE IF NOT EXISTS public.ballast (data text)"); err != nil {
		return err
	}
	if err := c.machine.fillDisk(true); err != nil {
		return err
	}
	err := c.execute(ctx, "INSERT INTO public.ballast SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
	const diskFull = "53100"
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == diskFull {
		err = and()
	} else {
		err = fmt.Errorf("the disk was to be full: %w", err)
	}
	s.last(ctx)
	err = errors.Join(err, c.machine.fillDisk(false))
	select {
	case <-c.server.Done():
		return errors.Join(err, c.restart(ctx, os.Kill))
	default:
		return err
	}
}

// exhaust takes the room that the write-ahead log has already: PostgreSQL stops
// everything, and cannot recover as long as there is no more.
func (c *cluster) exhaust(ctx context.Context) error {
	return eventually(ctx, "the write-ahead log has no room", func(ctx context.Context) error {
		conn, err := c.connect(ctx, "test")
		if err != nil {
			return nil // it is down
		}
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		if _, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'ballast', 'x'), pg_switch_wal()"); err != nil {
			return nil // it went down
		}
		return errors.New("there was some")
	})
}
