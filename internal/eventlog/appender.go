package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// attemptTimeout bounds one round trip of an append; the server gives up a
// little before, so that an attempt whose answer was lost is over as well.
const attemptTimeout = 5 * time.Second

// retryPause grows from the first to the second while the log is away.
const minRetryPause, maxRetryPause = 50 * time.Millisecond, time.Second

// draftOverhead is what an event weighs beside its data in a batch, in bytes.
const draftOverhead = 200

// AppenderConfig is what an Appender needs.
type AppenderConfig struct {
	Log  *Log
	Pool *pgxpool.Pool // of one connection: reads must not hold appends up
	// Timeout is how long a publisher waits before he is told that the log is
	// unavailable.
	Timeout time.Duration
	// Committed is called with the last position of every batch, when it is
	// visible. It must not block.
	Committed func(last int64)
	Metrics   *AppendMetrics
}

// Appender is an instance's one way into the log. It is safe for concurrent
// use; Run must be running for anything to be appended.
type Appender struct {
	AppenderConfig
	queue *queue
}

// NewAppender returns an Appender. The pool stays the caller's.
func NewAppender(c AppenderConfig) *Appender {
	return &Appender{AppenderConfig: c, queue: newQueue()}
}

// Ticket is a group on its way into the log.
type Ticket struct {
	appender *Appender
	group    *pending
}

// Submit puts a group of events, which is appended whole or not at all, into
// the queue. The drafts must be valid for the catalogue and PostgreSQL, with
// distinct ids, and are the Appender's from then on. Groups of one source (any
// comparable value; nil is none) are appended in the order they were submitted.
// The error is ErrOverloaded when too much waits already.
func (a *Appender) Submit(source any, drafts []event.Draft) (*Ticket, error) {
	g := &pending{source: source, drafts: drafts, deadline: time.Now().Add(a.Timeout), verdict: make(chan verdict, 1)}
	for i := range drafts {
		g.bytes += len(drafts[i].Data) + draftOverhead
	}
	if !a.queue.add(g) {
		a.Metrics.refused.Inc()
		return nil, ErrOverloaded
	}
	a.Metrics.waiting.Inc()
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
		// Taken out, it will never be appended; under way, the present attempt
		// is its last.
		if a.queue.remove(t.group) {
			a.Metrics.waiting.Dec()
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
		a.Metrics.waiting.Sub(float64(len(b.groups)))
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
		a.Metrics.waiting.Sub(float64(len(b.groups)))
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
			b.accept(&row, heads, index)
			a.Metrics.batch(b.events, time.Since(since))
			return
		case err == nil:
			b = b.judge(&row, heads)
		case hasClass(err, sqlstateKnownIDs) && !judgeIDs:
			judgeIDs = true
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
	params.JudgeIds = judgeIDs
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	conn, err := a.Pool.Acquire(ctx)
	if err != nil {
		return db.EventAppendBatchRow{}, nil, nil, err // nothing was sent
	}
	defer conn.Release()
	row, err := a.Log.sql.EventAppendBatch(ctx, conn, params)
	if outcomeUnknown(err) {
		for _, g := range b.groups {
			g.tried = true
		}
	}
	return row, heads, index, err
}

// sqlstateKnownIDs is how append_batch says that ids must be judged.
const sqlstateKnownIDs = "TR004"

// isRefusal reports whether PostgreSQL objects to a value: classes 22 (data
// exception) and 54 (program limit exceeded), or an id that is twice in a group.
func isRefusal(err error) bool {
	return hasClass(err, "22") || hasClass(err, "54") || hasClass(err, sqlstateKnownIDs)
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
	part := &batch{groups: b.groups[i:j]}
	for _, g := range part.groups {
		part.events += len(g.drafts)
		part.bytes += g.bytes
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
		rest.groups = append(rest.groups, g)
		rest.events += len(g.drafts)
		rest.bytes += g.bytes
	}
	return rest
}

func (b *batch) fail(err error) {
	for _, g := range b.groups {
		g.verdict <- verdict{err: err}
	}
}

// accept tells every group of an appended batch its receipts.
func (b *batch) accept(row *db.EventAppendBatchRow, heads []head, index map[streamKey]int) {
	reached := make([]int64, len(heads)) // each stream's version before the batch, then as it goes
	for i, h := range heads {
		reached[i] = row.Versions[i] - h.count
	}
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
