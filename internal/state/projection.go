package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/db"
)

const (
	// candidacyPeriod is how often an instance asks for the lead, and looks how far
	// the states are behind.
	candidacyPeriod = time.Second
	// silence is how long PostgreSQL lets a leader be silent. One that is stopped or
	// cut off keeps its connection otherwise, and the lead with it.
	silence = 5 * time.Second
	// statementTimeout bounds one statement, and answerTimeout how long the answers of
	// either half of a step may take before the line counts as dead.
	statementTimeout = 30 * time.Second
	answerTimeout    = time.Minute
	connectTimeout   = 5 * time.Second
	hangUpTimeout    = time.Second
	// gather is how long a leader that has caught up lets news gather: a stream that
	// is written all the time is then a row that changes some times in a second.
	gather = 20 * time.Millisecond
	// retryPause is between two tries after a failure.
	retryPause = 500 * time.Millisecond
	// removeRows is how much of a generation that is retired is removed at once.
	removeRows = 5000
)

// ProjectionConfig is what a Projection needs.
type ProjectionConfig struct {
	// DSN reaches the database without a pooler, on whose connection the lead would
	// stay behind.
	DSN     string
	Closes  Closes
	Metrics prometheus.Registerer
}

// Projection folds the log into states: its own instance's part in it. Of all
// instances one leads, by an advisory lock on the connection that it writes
// through; the others stand by. So a leader that has lost the lock cannot write.
// Should two believe that they lead, or somebody else write, then the checkpoint is
// not where one of them has left it, and his step comes to nothing.
type Projection struct {
	ProjectionConfig
	config  *pgx.ConnConfig
	sql     *db.Queries
	metrics *metrics
	wake    chan struct{} // capacity 1: the log may have grown
	said    string        // why there is no connection; for Run alone
	portion int           // how many events a step folds at most: fewer after a failure; for Run alone
}

// NewProjection returns a Projection. Run must be running for anything to be folded.
func NewProjection(c ProjectionConfig) (*Projection, error) {
	config, err := configFor(c.DSN, "tailroom state")
	if err != nil {
		return nil, err
	}
	return &Projection{
		ProjectionConfig: c, config: config, sql: db.New(), metrics: newMetrics(c.Metrics), wake: make(chan struct{}, 1),
		portion: stepEvents,
	}, nil
}

func configFor(dsn, name string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("the database URL for the states: %w", err)
	}
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = name
	return config, nil
}

// Wake says that the log may have grown. It never blocks.
func (p *Projection) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run folds, or stands by, until ctx ends, and connects again as often as it must.
func (p *Projection) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := p.candidacy(ctx)
		if ctx.Err() == nil && err.Error() != p.said { // what fails again and again is said once
			p.said = err.Error()
			slog.WarnContext(ctx, "the states have no connection and it is tried again", "component", "state", "error", err)
		}
		pause(ctx, candidacyPeriod)
	}
	return nil
}

// pause waits, and reports false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// candidacy is one connection's life: standing by, then leading. Its error is why
// that ended.
func (p *Projection) candidacy(ctx context.Context) error {
	conn, err := open(ctx, p.config, fmt.Sprintf("SET idle_session_timeout = %d", silence.Milliseconds()))
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	p.said = ""
	for won := false; !won; {
		if won, err = p.elect(ctx, conn); err != nil {
			return err
		}
		if !won && !pause(ctx, candidacyPeriod) {
			return ctx.Err()
		}
	}
	slog.InfoContext(ctx, "this instance leads the states", "component", "state")
	p.metrics.leader.Set(1)
	defer p.metrics.leader.Set(0)
	return p.lead(ctx, conn)
}

// open connects. Sequential scans would read all generations.
func open(ctx context.Context, config *pgx.ConnConfig, settings string) (*pgx.Conn, error) {
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	// Only so a backend that waits notices that its instance is gone. Not every
	// platform's can.
	_, _ = conn.Exec(ctx, "SET client_connection_check_interval = '500ms'")
	_, err = conn.Exec(ctx, fmt.Sprintf("SET statement_timeout = %d; SET default_transaction_isolation = 'read committed'; "+
		"SET idle_in_transaction_session_timeout = %d; SET enable_seqscan = off; SET jit = off; "+
		"SET max_parallel_workers_per_gather = 0; %s", statementTimeout.Milliseconds(), silence.Milliseconds(), settings))
	if err != nil {
		hangUp(ctx, conn)
		return nil, err
	}
	return conn, nil
}

// hangUp closes a connection; on a dead line that must not hold us up.
func hangUp(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), hangUpTimeout)
	defer cancel()
	_ = conn.Close(ctx)
}

// elect asks for the lead, and looks how far behind the states are.
func (p *Projection) elect(ctx context.Context, conn *pgx.Conn) (won bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if won, err = p.sql.StateLeadershipTry(ctx, conn); err != nil {
		return false, err
	}
	return won, p.measure(ctx, conn)
}

func (p *Projection) measure(ctx context.Context, conn *pgx.Conn) error {
	lag, err := p.sql.StateLag(ctx, conn)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		p.metrics.behind(lag.Events, lag.Seconds)
	}
	return err
}

// tidy looks how far behind the states are, and removes some of what is left of old
// ones, whatever else there is to do.
func (p *Projection) tidy(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	if err := p.measure(ctx, conn); err != nil {
		return err
	}
	if _, err := p.sql.StateRemove(ctx, conn, removeRows); err != nil {
		return fmt.Errorf("removing what is left of old states: %w", err)
	}
	return nil
}

// lead folds until the connection breaks or ctx ends.
func (p *Projection) lead(ctx context.Context, conn *pgx.Conn) error {
	said, measured := "", time.Time{}
	for {
		folded, more, err := p.pass(ctx, conn)
		if err == nil && time.Since(measured) >= candidacyPeriod {
			measured = time.Now()
			err = p.tidy(ctx, conn)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && conn.IsClosed():
			return err
		case err != nil:
			p.metrics.failures.Inc()
			if err.Error() != said {
				said = err.Error()
				slog.ErrorContext(ctx, "the states could not be folded on and it is tried again", "component", "state", "error", err)
			}
			pause(ctx, retryPause)
			continue
		case more:
		case folded:
			pause(ctx, gather)
		default:
			p.rest(ctx)
		}
		said = ""
	}
}

// rest returns when there may be something to fold.
func (p *Projection) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-p.wake:
		pause(ctx, gather)
	case <-time.After(candidacyPeriod):
	}
}

// pass folds one step, or makes the live generation anew when it is not of the log
// as it is. It reports whether events were folded, and whether there are more.
func (p *Projection) pass(ctx context.Context, conn *pgx.Conn) (folded, more bool, err error) {
	h, err := readHead(ctx, conn)
	if err != nil {
		return false, false, err
	}
	if !h.usable() {
		return false, true, p.restart(ctx, conn, &h)
	}
	to, events, err := p.Closes.step(ctx, conn, h.generation, h.checkpoint, p.portion)
	switch {
	case errors.Is(err, errFenced), errors.Is(err, errFloor): // look again
		return false, true, nil
	case err != nil: // it may have been too much
		p.portion = max(p.portion/4, 1)
		return false, false, err
	}
	p.portion = min(2*p.portion, stepEvents)
	p.metrics.folded.Add(float64(events))
	return events > 0, events > 0 && to.Position < h.tip.Position, nil
}

// restart makes a new generation, because the live one is of a past that the log
// does not have, or lacks what retention has dropped. Nobody is served meanwhile.
func (p *Projection) restart(ctx context.Context, conn *pgx.Conn, h *head) error {
	slog.ErrorContext(ctx, "the states are not those of the log as it is and are made anew", "component", "state",
		"checkpoint", h.checkpoint.String(), "tip", h.tip.String(), "floor", h.floor)
	p.metrics.restarts.Inc()
	b := builder{closes: p.Closes, conn: conn, force: true, progress: func(Progress) {}}
	if err := b.build(ctx); err != nil {
		return err
	}
	slog.InfoContext(ctx, "the states are made anew", "component", "state")
	return nil
}
