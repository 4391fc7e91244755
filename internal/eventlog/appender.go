package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// attemptTimeout bounds one round trip of an append, and attemptMargin is how
// long before its end the database must have begun with it: an attempt that was
// held up in the network is not carried out behind its publisher's back. The
// margin is for the commit.
const (
	attemptTimeout = 5 * time.Second
	attemptMargin  = time.Second
)

// retryPause grows from the first to the second while the log is away.
const minRetryPause, maxRetryPause = 50 * time.Millisecond, time.Second

// AppenderConfig is what an Appender needs.
type AppenderConfig struct {
	Log  *Log
	Pool *pgxpool.Pool // of one connection: reads must not hold appends up
	// Timeout is how long a publisher waits before he is told that the log is
	// unavailable.
	Timeout time.Duration
	// Tip is the newest event that the instance knows to be committed. A log
	// that does not reach it has lost its end, and begins a new epoch.
	Tip func() event.Cursor
	// Committed is called with the last position of every batch, when it is
	// visible. It must not block.
	Committed func(last int64)
	// NoPartition is called when the log has no partition for the next event.
	// It must not block.
	NoPartition func()
	Metrics     *AppendMetrics
}

// Appender is an instance's one way into the log. It is safe for concurrent
// use; Run must be running for anything to be appended.
type Appender struct {
	AppenderConfig
	queue *queue
	clock clock // Run's own
}

// NewAppender returns an Appender. The pool stays the caller's.
func NewAppender(c AppenderConfig) *Appender {
	return &Appender{AppenderConfig: c, queue: newQueue(c.Metrics)}
}

// Ticket is a group on its way into the log.
type Ticket struct {
	appender *Appender
	group    *pending
}

// Submit puts a group of events, which is appended whole or not at all, into
// the queue. The drafts must be valid for the catalogue and PostgreSQL, with
// distinct ids, none that may answer what another may or a request before it, and
// are the Appender's from then on. Groups of one source (any comparable value; nil
// is none) are appended in the order they were submitted. The error is ErrOverloaded when too much waits already.
func (a *Appender) Submit(source any, drafts []event.Draft) (*Ticket, error) {
	g := &pending{source: source, drafts: drafts, deadline: time.Now().Add(a.Timeout), verdict: make(chan verdict, 1)}
	for i := range drafts {
		g.bytes += weight(&drafts[i])
	}
	if !a.queue.add(g) {
		a.Metrics.refused.Inc()
		return nil, ErrOverloaded
	}
	return &Ticket{appender: a, group: g}, nil
}

// Wait returns the receipts of the group, in the order of its events. The
// error is one of verdict.go's, or ErrUnavailable when the log was away for
// longer than the appender's timeout. When ctx ends the group may still be
// appended.
func (t *Ticket) Wait(ctx context.Context) ([]event.Receipt, error) {
	a := t.appender
	deadline := time.NewTimer(time.Until(t.group.deadline))
	defer deadline.Stop()
	var v verdict
	select {
	case v = <-t.group.verdict:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-deadline.C:
		// Taken out, it will never be appended. Under way, it may be: the verdict
		// comes with the attempts that were begun in time.
		if a.queue.remove(t.group) {
			return nil, ErrUnavailable
		}
		select {
		case v = <-t.group.verdict:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if v.known != nil {
		return a.Log.settle(ctx, t.group, v.known)
	}
	return v.receipts, v.err
}

// Append is Submit and Wait for who publishes one group at a time.
func (a *Appender) Append(ctx context.Context, source any, drafts []event.Draft) ([]event.Receipt, error) {
	t, err := a.Submit(source, drafts)
	if err != nil {
		return nil, err
	}
	return t.Wait(ctx)
}

// Run appends what is submitted until ctx ends, then answers what still waits
// with ErrUnavailable.
func (a *Appender) Run(ctx context.Context) error {
	defer a.abandon()
	for ctx.Err() == nil {
		b := a.queue.take()
		if len(b.groups) == 0 {
			select {
			case <-ctx.Done():
				return nil
			case <-a.queue.wake:
			}
			continue
		}
		a.append(ctx, b)
	}
	return nil
}

func (a *Appender) abandon() {
	for {
		b := a.queue.take()
		if len(b.groups) == 0 {
			return
		}
		b.fail(ErrUnavailable)
	}
}

// append gives every group of b its verdict.
func (a *Appender) append(ctx context.Context, b *batch) {
	since, pause, judgeIDs := time.Now(), minRetryPause, false
	for len(b.groups) > 0 {
		row, heads, index, err := a.attempt(ctx, b, judgeIDs)
		switch {
		case err == nil && row.FirstPosition > 0:
			a.Committed(row.FirstPosition + int64(b.events) - 1)
			b.accept(&row, index)
			a.Metrics.batch(b.events, time.Since(since))
			return
		case err == nil:
			b = b.judge(&row, heads)
		case hasKnownIDs(err) && !judgeIDs:
			judgeIDs = true
		case hasNoPartition(err):
			a.NoPartition()
			b.fail(ErrNoPartition)
			sleep(ctx, minRetryPause) // the database need not say so to every publisher
			return
		case isRefusal(err) && len(b.groups) > 1:
			// One bad value fails everybody's statement: find whose it is.
			half := len(b.groups) / 2
			a.append(ctx, b.slice(0, half))
			a.append(ctx, b.slice(half, len(b.groups)))
			return
		case isRefusal(err):
			slog.WarnContext(ctx, "a publish passed our checks and not PostgreSQL's", "component", "eventlog", "error", err)
			b.fail(ErrRefused)
			return
		default:
			slog.WarnContext(ctx, "an append failed and is tried again", "component", "eventlog",
				"error", err, "events", b.events)
			a.Metrics.retries.Inc()
			if !sleep(ctx, pause) {
				b.fail(unavailable(err))
				return
			}
			pause = min(2*pause, maxRetryPause)
			b = b.dropLate(time.Now(), err)
		}
	}
}

// attempt appends b in one round trip. It marks the groups as tried when the
// outcome is unknown.
func (a *Appender) attempt(ctx context.Context, b *batch, judgeIDs bool) (db.EventAppendBatchRow, []head, map[streamKey]int, error) {
	params, heads, index := b.params()
	tip := a.Tip()
	params.JudgeIds, params.SeenEpoch, params.SeenPosition = judgeIDs, tip.Epoch, tip.Position
	started := time.Now()
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), started.Add(attemptTimeout))
	defer cancel()
	conn, err := a.Pool.Acquire(ctx)
	if err != nil {
		return db.EventAppendBatchRow{}, nil, nil, err // nothing was sent
	}
	defer conn.Release()
	if params.Deadline, err = a.clock.translate(ctx, conn.Conn(), started.Add(attemptTimeout-attemptMargin)); err != nil {
		return db.EventAppendBatchRow{}, nil, nil, err
	}
	sent := time.Now()
	row, err := a.Log.sql.EventAppendBatch(ctx, conn, params)
	switch {
	case err == nil:
		a.clock.set(conn.Conn(), row.Clock)
		a.Metrics.attempt(time.Since(sent), row.WaitedUs, row.WorkedUs)
	case hasClass(err, sqlstateTooLate):
		a.clock.forget() // it may have been set
	case outcomeUnknown(err):
		for _, g := range b.groups {
			g.tried = true
		}
	}
	return row, heads, index, err
}

// What append_batch says besides its verdicts.
const (
	sqlstateKnownIDs = "TR004"
	sqlstateTooLate  = "TR005"
	sqlstateUnique   = "23505" // PostgreSQL's own
	sqlstateCheck    = "23514" // likewise
)

// hasKnownIDs reports whether append_batch came upon an id that is known, so that
// the ids must be judged.
func hasKnownIDs(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == sqlstateKnownIDs ||
		pg.Code == sqlstateUnique && strings.HasPrefix(pg.TableName, "recent_ids"))
}

// hasNoPartition reports whether no partition holds the position that an event
// was to have. PostgreSQL says so as of a constraint that has no name.
func hasNoPartition(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == sqlstateCheck && pg.ConstraintName == ""
}

// isRefusal reports whether PostgreSQL objects to a value: classes 22 (data
// exception) and 54 (program limit exceeded), or an id that is twice in a group.
func isRefusal(err error) bool {
	return hasClass(err, "22") || hasClass(err, "54") || hasKnownIDs(err)
}

// outcomeUnknown reports whether an attempt that ended so may be in the log.
// It is not when PostgreSQL says that the statement failed; what it says when
// it ends the session (FATAL) may come after a commit.
func outcomeUnknown(err error) bool {
	if err == nil || pgconn.SafeToRetry(err) {
		return false
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return !ok || pg.SeverityUnlocalized != "ERROR"
}

// unavailable is ErrUnavailable with its cause.
func unavailable(cause error) error { return fmt.Errorf("%w: %w", ErrUnavailable, cause) }

// hasClass reports whether err is PostgreSQL's, with a SQLSTATE that begins so.
func hasClass(err error, class string) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, class)
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// slice is the groups from i to j as a batch of their own.
func (b *batch) slice(i, j int) *batch {
	part := &batch{}
	for _, g := range b.groups[i:j] {
		part.add(g)
	}
	return part
}

// dropLate fails the groups whose time is up, and returns the rest.
func (b *batch) dropLate(now time.Time, cause error) *batch {
	rest := &batch{}
	for _, g := range b.groups {
		if now.After(g.deadline) {
			g.verdict <- verdict{err: unavailable(cause)}
			continue
		}
		rest.add(g)
	}
	return rest
}

func (b *batch) fail(err error) {
	for _, g := range b.groups {
		g.verdict <- verdict{err: err}
	}
}

// accept tells every group of an appended batch its receipts.
func (b *batch) accept(row *db.EventAppendBatchRow, index map[streamKey]int) {
	reached := slices.Clone(row.BaseVersions) // each stream's version before the batch, then as it goes
	position := row.FirstPosition
	for _, g := range b.groups {
		receipts := make([]event.Receipt, len(g.drafts))
		for i := range g.drafts {
			d := &g.drafts[i]
			receipts[i] = event.Receipt{
				Cursor: event.Cursor{Epoch: row.Epoch, Position: position}, ID: d.ID, Stream: d.Stream,
			}
			if d.Stream != "" {
				head := index[keyOf(d)]
				reached[head]++
				receipts[i].Version = reached[head]
			}
			position++
		}
		g.verdict <- verdict{receipts: receipts}
	}
}
