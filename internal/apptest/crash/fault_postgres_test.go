package crash_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// Whose backends there are, by how they name themselves.
const (
	everybody = "application_name LIKE 'tailroom %' OR application_name = 'application'"
	appenders = "application_name = 'tailroom append'"
	// The advisory locks that mean something: of who appends, and of who relays.
	appending = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 1 AND granted)"
	relaying  = "pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 5 AND granted)"
)

var postgresFaults = []*fault{
	{name: "backends are terminated", on: postgres, from: time.Second, to: 3 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
		for end := time.Now().Add(s.hold); time.Now().Before(end); wait(ctx, between(s.random, 0, 400*time.Millisecond)) {
			_, err := query[int](ctx, r.cluster, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = current_database() AND random() < $1 AND (`+everybody+")", s.random.Float64())
			if err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "a backend is killed", on: postgres, strike: func(ctx context.Context, r *round, s *strike) error {
		pid, err := r.cluster.backend(ctx, s.random, everybody)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL) // and the postmaster ends all others
	}},
	{name: "a backend is killed as it appends", on: postgres, strike: func(ctx context.Context, r *round, s *strike) error {
		pid, err := r.cluster.stop(ctx, s.random, appenders, appending)
		if err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}},
	{name: "the postmaster is killed", on: postgres, strike: func(ctx context.Context, r *round, _ *strike) error {
		return r.cluster.restart(ctx, os.Kill)
	}},
	{name: "PostgreSQL is shut down at once", on: postgres, strike: func(ctx context.Context, r *round, _ *strike) error {
		return r.cluster.restart(ctx, syscall.SIGQUIT)
	}},
	{name: "the backend that appends is stopped", on: postgres, from: 6 * time.Second, to: 8 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.cluster.hang(ctx, s, appenders, appending)
	}},
	{name: "the backend that relays is stopped", on: postgres, from: 6 * time.Second, to: 8 * time.Second, strike: func(ctx context.Context, r *round, s *strike) error {
		return r.cluster.hang(ctx, s, relaying, relaying)
	}},
}

// restart ends PostgreSQL and starts it again.
func (c *cluster) restart(ctx context.Context, s os.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return c.server.Restart(ctx, s)
}

// backend is the process of one of the database's sessions.
func (c *cluster) backend(ctx context.Context, random *rand.Rand, whose string) (pid int, err error) {
	return pid, eventually(ctx, "there is a session: "+whose, func(ctx context.Context) error {
		pids, err := query[[]int](ctx, c, "SELECT coalesce(array_agg(pid), '{}') FROM pg_stat_activity WHERE datname = current_database() AND ("+whose+")")
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return errors.New("there is none")
		}
		pid = pick(random, pids)
		return nil
	})
}

// stop stops the process of one of somebody's sessions at a moment at which a
// condition holds. It may hold locks that the question has to wait for.
func (c *cluster) stop(ctx context.Context, random *rand.Rand, whose, at string) (pid int, err error) {
	return pid, eventually(ctx, "one is stopped while it is true that "+at, func(ctx context.Context) error {
		if pid, err = c.backend(ctx, random, whose); err != nil {
			return err
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return err
		}
		asked, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		hit, err := query[bool](asked, c, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $1 AND ("+at+")", pid)
		if hit {
			return nil
		}
		return errors.Join(errors.New("it was not"), err, syscall.Kill(pid, syscall.SIGCONT))
	})
}

// hang stops a session for a while.
func (c *cluster) hang(ctx context.Context, s *strike, whose, at string) error {
	pid, err := c.stop(ctx, s.random, whose, at)
	if err != nil {
		return err
	}
	s.last(ctx)
	return syscall.Kill(pid, syscall.SIGCONT)
}
