package consumer

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// line is what a flush writes of a claim.
type line struct {
	*claim

	acked       event.Cursor
	follows     string
	generation  int64
	tellHistory bool
	changed     bool
	ended       bool
}

// flush writes what ended sessions and those that are about to be replaced have
// acknowledged, or, with all, everybody's, and learns of those that were replaced.
func (d *Desk) flush(ctx context.Context, all bool, replacing []*pending) error {
	d.mu.Lock()
	lines := d.lines(all, replacing)
	ended := len(d.ended)
	d.mu.Unlock()
	if len(lines) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	begin := time.Now()
	row, err := d.sql.ConsumerFlush(ctx, d.pool, flushParams(lines))
	if err != nil {
		d.metrics.failures.Inc()
		return err
	}
	d.metrics.seconds.Observe(time.Since(begin).Seconds())

	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = slices.Clone(d.ended[ended:])
	for _, l := range lines {
		l.written, l.writtenFollows = l.acked, l.follows
		// What was acknowledged meanwhile is written the next time, with its event.
		l.claim.tellHistory = l.claim.tellHistory && l.claim.acked != l.acked
	}
	for _, place := range row.Outdated {
		d.replaced(lines[place-1].claim)
	}
	for _, place := range row.Lost {
		d.remake(lines[place-1].claim)
	}
	return nil
}

// lines is for who holds mu. They are in the order in which rows are locked.
func (d *Desk) lines(all bool, replacing []*pending) []line {
	var lines []line
	add := func(c *claim, ended bool) {
		lines = append(lines, line{
			claim: c, acked: c.acked, follows: c.follows, generation: c.generation, tellHistory: c.tellHistory,
			changed: ended || c.dirty(), ended: ended,
		})
	}
	for _, c := range d.ended {
		add(c, true)
	}
	if all {
		for _, c := range d.live {
			add(c, false)
		}
	} else {
		for _, p := range replacing {
			if c := d.live[p.key]; c != nil && c.dirty() {
				add(c, false)
			}
		}
	}
	slices.SortFunc(lines, func(a, b line) int { return a.compare(b.key) })
	return lines
}

func flushParams(lines []line) db.ConsumerFlushParams {
	var p db.ConsumerFlushParams
	for i := range lines {
		l := &lines[i]
		p.Tenants, p.Names = append(p.Tenants, l.tenant), append(p.Names, l.name)
		p.Sessions, p.Generations = append(p.Sessions, l.session.ID()), append(p.Generations, l.generation)
		p.Changed = append(p.Changed, l.changed)
		p.Epochs, p.Positions = append(p.Epochs, l.acked.Epoch), append(p.Positions, l.acked.Position)
		follows := ""
		if l.follows != l.writtenFollows {
			follows = l.follows
		}
		p.Noted, p.Follows = append(p.Noted, l.tellHistory), append(p.Follows, follows)
		p.Ended = append(p.Ended, l.ended)
	}
	return p
}

// remake claims again for a session that lives: the database has lost its end, and
// the claim with it, or it was taken for gone. It is for who holds mu.
func (d *Desk) remake(c *claim) {
	if c.over {
		return
	}
	grant := c.session.Grant()
	begin := c.acked
	d.waiting = append(d.waiting, &pending{
		claim: c, begin: &begin, subject: grant.Subject, role: string(grant.Role), known: c.generation - 1,
	})
	d.signal()
}

// The outcomes of a claim: as the database says, and as the metrics name them.
const (
	claimed = iota
	taken
	noRoom
	tooLate
	overtaken
)

// enter makes a batch of claims and answers those who wait for them. On an error
// nobody is answered. A claim whose client has given up must not be made late, when
// that has come to another instance: it would end the session there. So it says which
// sessions were there before it was made.
func (d *Desk) enter(ctx context.Context, batch []*pending) error {
	if len(batch) == 0 {
		return nil
	}
	deadline := time.Now().Add(claimTimeout)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	read, err := d.standing(ctx, batch)
	if err != nil {
		return err
	}
	batch, params := d.claimParams(batch, deadline, read, time.Now())
	if len(batch) == 0 {
		return nil
	}
	row, err := d.sql.ConsumerClaim(ctx, d.pool, params)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if !pgconn.SafeToRetry(err) {
			d.disown(batch)
		}
		return err
	}
	for i, p := range batch {
		switch row.Outcomes[i] {
		case claimed:
			d.made(p, row.Generations[i], event.Cursor{Epoch: row.Epochs[i], Position: row.Positions[i]}, params.Follows[i])
		case taken:
			d.denied(p, forbidden, problem.New(problem.Forbidden,
				"the consumer "+p.name+" belongs to another subject: choose another name"))
		case noRoom:
			d.denied(p, full, problem.New(problem.TooLarge,
				"the company has as many consumers as it may have: erase those that are not used any more").
				With("limit", MaxPerCompany))
		case tooLate:
			d.failed(p)
		case overtaken:
			if p.done == nil {
				d.replaced(p.claim)
			}
			d.failed(p) // who is still there comes again, and is the newest then
		}
	}
	return nil
}

// standing reads which sessions the consumers of a batch have, and the database's
// clock.
func (d *Desk) standing(ctx context.Context, batch []*pending) (time.Time, error) {
	var params db.ConsumerStandingParams
	for i, p := range batch {
		params.Numbers = append(params.Numbers, int32(i))
		params.Tenants, params.Names = append(params.Tenants, p.tenant), append(params.Names, p.name)
	}
	row, err := d.sql.ConsumerStanding(ctx, d.pool, params)
	if err != nil {
		return time.Time{}, err
	}
	for i, p := range batch {
		if p.done != nil { // a session that lives knows its own
			p.known = row.Generations[i]
		}
	}
	return row.At, nil
}

// claimParams returns those of a batch that are still to be claimed, in the order in
// which rows are locked, and how: until the deadline at most, by the clock of the
// database, which was read before it was at here.
func (d *Desk) claimParams(all []*pending, deadline, read, at time.Time) ([]*pending, db.ConsumerClaimParams) {
	var batch []*pending
	params := db.ConsumerClaimParams{Instance: d.instance, Most: MaxPerCompany}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range all {
		if !p.idle() {
			batch = append(batch, p)
		}
	}
	slices.SortFunc(batch, func(a, b *pending) int { return a.compare(b.key) })
	for _, p := range batch {
		until := deadline
		if !p.until.IsZero() && p.until.Before(deadline) {
			until = p.until
		}
		params.Deadlines = append(params.Deadlines, read.Add(until.Sub(at)))
		begin := event.Cursor{Position: -1}
		if p.begin != nil {
			begin = *p.begin
		}
		params.Tenants, params.Names = append(params.Tenants, p.tenant), append(params.Names, p.name)
		params.Subjects, params.Roles = append(params.Subjects, p.subject), append(params.Roles, p.role)
		params.Follows, params.Sessions = append(params.Follows, p.follows), append(params.Sessions, p.session.ID())
		params.Known = append(params.Known, p.known)
		params.StartEpochs, params.StartPositions = append(params.StartEpochs, begin.Epoch), append(params.StartPositions, begin.Position)
	}
	return batch, params
}

// made takes note of a claim that was made. It is for who holds mu.
func (d *Desk) made(p *pending, generation int64, acked event.Cursor, follows string) {
	c := p.claim
	c.generation, c.written, c.writtenFollows = generation, acked, follows
	if p.done == nil {
		return
	}
	d.metrics.claims.WithLabelValues(granted).Inc()
	if older := d.live[c.key]; older != nil {
		d.replaced(older)
	}
	c.start, c.acked = acked, acked
	d.live[c.key] = c
	if p.gone {
		d.end(c)
	}
	p.done <- nil
}

// denied is for who holds mu.
func (d *Desk) denied(p *pending, outcome string, why *problem.Error) {
	if p.done == nil {
		d.replaced(p.claim)
		return
	}
	d.metrics.claims.WithLabelValues(outcome).Inc()
	p.done <- why
}

// failed answers a claim of which it is not known whether it was made, or that came too
// late. That of a session that lives is looked after by the next flush. It is for who
// holds mu.
func (d *Desk) failed(p *pending) {
	if p.done == nil {
		return
	}
	d.metrics.claims.WithLabelValues(failed).Inc()
	p.done <- unavailable()
}

// disown sees to it that claims that may have been made, and that nobody holds, do
// not make their consumers look connected. It is for who holds mu.
func (d *Desk) disown(batch []*pending) {
	for _, p := range batch {
		if p.done != nil {
			d.end(p.claim)
		}
	}
}
