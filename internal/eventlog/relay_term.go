package eventlog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/db"
)

const (
	// horizonPeriod is the least time between two questions about the horizon.
	horizonPeriod = 100 * time.Millisecond
	// lookShare bounds the share of its time that a leader looks and finds
	// nothing: one part of so many.
	lookShare = 5
)

// term is one connection's time, first as a candidate, then as the leader.
type term struct {
	*Relay
	conn   *pgx.Conn
	hinted bool          // something was notified since the last look
	took   time.Duration // the last look
	ground ground
	since  time.Time // when the ground was new

	horizon *db.OutboxHorizonRow // asked for, and not reached yet
	asked   time.Time            // when the horizon was last asked about
	counted time.Time            // when the rows that wait were last counted
}

// prepare sets the connection up. Sequential and bitmap scans would read all that
// was relayed and is not vacuumed yet.
func (t *term) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, relayAnswerTimeout)
	defer cancel()
	// Only so a backend that waits for the append lock notices that its instance
	// is gone. Not every platform's can.
	_, _ = t.conn.Exec(ctx, "SET client_connection_check_interval = '500ms'")
	_, err := t.conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d; SET idle_session_timeout = %d; "+
		"SET default_transaction_isolation = 'read committed'; "+
		"SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off; SET max_parallel_workers_per_gather = 0",
		relayStatementTimeout.Milliseconds(), relaySilence.Milliseconds()))
	return err
}

// elect asks for the lead. Whoever has won listens before he looks.
func (t *term) elect(ctx context.Context) (won bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayAnswerTimeout)
	defer cancel()
	if won, err = t.sql.OutboxLead(ctx, t.conn); won {
		_, err = t.conn.Exec(ctx, "LISTEN "+OutboxChannel)
	}
	return won, err
}

// lead relays until the connection breaks or ctx ends.
func (t *term) lead(ctx context.Context) error {
	pause, said := minRetryPause, ""
	for {
		relayed, err := t.pass(ctx)
		switch {
		case ctx.Err() != nil || err != nil && t.conn.IsClosed():
			return err
		case err != nil:
			if err.Error() != said {
				said = err.Error()
				slog.WarnContext(ctx, "the outbox could not be relayed and is read again", "component", "outbox", "error", err)
			}
			sleep(ctx, pause)
			pause = min(2*pause, maxRetryPause)
			continue
		case !relayed:
			if err := t.wait(ctx); err != nil {
				return err
			}
		}
		pause, said = minRetryPause, ""
	}
}

// wait returns when there may be something to relay.
func (t *term) wait(ctx context.Context) error {
	if t.hinted {
		return nil
	}
	quiet, cancel := context.WithTimeout(ctx, min(max(t.Poll, (lookShare-1)*t.took), candidacyPeriod))
	defer cancel()
	err := t.conn.PgConn().WaitForNotification(quiet)
	if ctx.Err() == nil && pgconn.Timeout(err) {
		return nil
	}
	return err
}

// pass moves one page, and reports whether there was one.
func (t *term) pass(ctx context.Context) (relayed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, relayAnswerTimeout)
	defer cancel()
	if time.Since(t.since) > t.memory {
		t.ground, t.horizon, t.since = ground{}, nil, time.Now()
	}
	settled, err := t.settled(ctx) // before the page, which so has all that there will be up to it
	if err != nil {
		return false, err
	}
	p, err := t.read(ctx)
	if err != nil {
		return false, err
	}
	if err := t.relay(ctx, p); err != nil {
		return false, err
	}
	t.ground.cover(p.ids, settled)
	return len(p.ids) > 0, nil
}

// settled returns the number up to which no row will appear any more, or -1 when
// that is not known. It asks for a horizon, and later whether that is reached.
func (t *term) settled(ctx context.Context) (int64, error) {
	if t.ground.known() || time.Since(t.asked) < horizonPeriod {
		return -1, nil
	}
	t.asked = time.Now()
	if t.horizon == nil {
		h, err := t.sql.OutboxHorizon(ctx, t.conn)
		if err != nil {
			return -1, err
		}
		t.horizon = &h
	}
	reached, err := t.sql.OutboxHorizonReached(ctx, t.conn, t.horizon.Before)
	if err != nil || !reached {
		return -1, err
	}
	upto := t.horizon.Upto
	t.horizon = nil
	return upto, nil
}
