package consumer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// MaxPerCompany is how many consumers a company has at most.
const MaxPerCompany = 10_000

const (
	// flushPeriod is how often acknowledgements are written.
	flushPeriod = time.Second
	// flushTimeout bounds one try.
	flushTimeout = 3 * time.Second
	// claimTimeout bounds a batch of claims. It is less than the patience of those
	// who wait for it.
	claimTimeout = 4 * time.Second
	// maxBatch is how many claims are made at once.
	maxBatch = 500
)

// Desk holds the claims of an instance. It is safe for concurrent use; Run must be
// running for anything to be claimed or written.
type Desk struct {
	pool     db.DBTX
	sql      *db.Queries
	instance pgtype.UUID
	metrics  *metrics
	wake     chan struct{} // capacity 1: there are waiting or ended ones

	mu      sync.Mutex
	waiting []*pending
	live    map[key]*claim
	ended   []*claim // to be written as ended
}

// pending is a claim that is waited for.
type pending struct {
	*claim

	begin   *event.Cursor // nil: now, if the consumer is new
	done    chan error    // capacity 1; nil: nobody waits, the session is live already
	until   time.Time     // until when it is waited for; zero: as long as a batch may take
	subject string
	role    string
	known   int64 // the generation up to which sessions are older
	gone    bool  // nobody waits any more; under the desk's lock
}

// idle reports whether the claim is not to be made any more. It is for who holds mu.
func (p *pending) idle() bool { return p.gone || p.over }

// New returns a Desk of an instance, which has this id for one life.
func New(pool db.DBTX, incarnation uuid.UUID, reg prometheus.Registerer) *Desk {
	d := &Desk{
		pool: pool, sql: db.New(), instance: pgtype.UUID{Bytes: incarnation, Valid: true},
		wake: make(chan struct{}, 1), live: map[key]*claim{},
	}
	d.metrics = newMetrics(reg, func() float64 {
		d.mu.Lock()
		defer d.mu.Unlock()
		return float64(len(d.live))
	})
	return d
}

// Claim makes s the live session of a consumer. See session.Consumers.
func (d *Desk) Claim(
	ctx context.Context, name string, s *session.Session, topics []event.Topic, start *event.Cursor,
) (session.Claim, error) {
	grant := s.Grant()
	p := &pending{
		claim: &claim{key: key{grant.Tenant, name}, session: s, follows: encode(topics), desk: d},
		begin: start, done: make(chan error, 1), subject: grant.Subject, role: string(grant.Role),
	}
	p.until, _ = ctx.Deadline()
	d.mu.Lock()
	d.waiting = append(d.waiting, p)
	d.mu.Unlock()
	d.signal()
	select {
	case err := <-p.done:
		if err != nil {
			return nil, err
		}
		return p.claim, nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	p.gone = true
	if d.live[p.key] == p.claim { // it was made at the last moment
		d.end(p.claim)
	}
	return nil, unavailable()
}

func unavailable() error {
	return problem.New(problem.Unavailable,
		"the consumer's place could not be looked up: the log is away, or a newer session of it begins at this moment").
		RetryAfter(time.Second)
}

func (d *Desk) signal() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// end takes a claim out of those that live. It is for who holds mu.
func (d *Desk) end(c *claim) {
	if c.over {
		return
	}
	c.over = true
	d.ended = append(d.ended, c)
	if d.live[c.key] == c {
		delete(d.live, c.key)
	}
	d.signal()
}

// replaced takes a claim out of those that live because its consumer has another
// session: there is nothing that it could write. It is for who holds mu.
func (d *Desk) replaced(c *claim) {
	if c.over {
		return
	}
	c.over = true
	d.metrics.replaced.Inc()
	if d.live[c.key] == c {
		delete(d.live, c.key)
	}
	c.session.Replace()
}

// Run makes claims and writes acknowledgements until ctx ends, and what is left then.
func (d *Desk) Run(ctx context.Context) error {
	tick := time.NewTicker(flushPeriod)
	defer tick.Stop()
	away := false
	for {
		all := false
		select {
		case <-ctx.Done():
			d.settle(context.WithoutCancel(ctx))
			return nil
		case <-tick.C:
			all = true
		case <-d.wake:
		}
		err := d.pass(ctx, all)
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				slog.WarnContext(ctx, "what consumers acknowledge cannot be written, and is kept", "component", "consumer", "error", err)
			} else {
				slog.InfoContext(ctx, "what consumers acknowledge is written again", "component", "consumer")
			}
		}
	}
}

// pass writes what is to be written, and makes the claims that wait. With all it looks
// after every claim, whether there is something to write or not.
func (d *Desk) pass(ctx context.Context, all bool) error {
	for {
		d.mu.Lock()
		batch, more := d.takeWaiting()
		d.mu.Unlock()
		err := d.flush(ctx, all, batch)
		if err == nil {
			err = d.enter(ctx, batch)
		}
		if err != nil {
			d.refuse(batch)
			return err
		}
		if !more {
			return nil
		}
		all = false
	}
}

// takeWaiting takes up to a batch of claims that are still waited for, one for each
// consumer, and tells whether more wait. It is for who holds mu.
func (d *Desk) takeWaiting() (batch []*pending, more bool) {
	taken := map[key]bool{}
	var left []*pending
	for _, p := range d.waiting {
		switch {
		case p.idle():
		case len(batch) == maxBatch || taken[p.key]:
			left = append(left, p)
		default:
			batch = append(batch, p)
			taken[p.key] = true
		}
	}
	d.waiting = left
	return batch, len(left) > 0
}

// refuse answers claims of which it is not known whether they were made.
func (d *Desk) refuse(batch []*pending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range batch {
		d.failed(p)
	}
}

// settle writes the last, when all sessions have ended.
func (d *Desk) settle(ctx context.Context) {
	if err := d.pass(ctx, true); err != nil {
		slog.WarnContext(ctx, "what consumers acknowledged last could not be written: it will be delivered again",
			"component", "consumer", "error", err)
	}
}
