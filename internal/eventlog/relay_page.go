package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// The outbox is counted at most once in countPeriod, and no further than to
// countMost.
const (
	countPeriod = time.Second
	countMost   = 100_000
)

// sqlstateNull is PostgreSQL's of a column that must have a value.
const sqlstateNull = "23502"

// farAway is the deadline of a relay's append: it may come late, because it takes
// its rows out of the outbox, and does nothing when they are gone.
var farAway = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// page is the lowest visible rows of the outbox, in order.
type page struct {
	ids   []int64
	rows  map[*pending]int64 // their numbers again: each row is a group of its own
	batch batch              // those that the catalogue accepts
	// What is no event of its own, or cannot be one: taken out of the outbox
	// when the rest is in the log.
	settled []settlement
}

// settlement is why a row is taken out of the outbox; without a code it repeats an
// event that is in the log.
type settlement struct {
	row          int64
	draft        *event.Draft
	code, reason string
}

// read reads and judges a page.
func (t *term) read(ctx context.Context) (*page, error) {
	firsts, lasts := t.ground.gaps.bounds()
	t.hinted = false // before the look: what is notified from now on it may not have seen
	began := time.Now()
	rows, err := t.sql.OutboxPage(ctx, t.conn, db.OutboxPageParams{
		Firsts: firsts, Lasts: lasts, Above: t.ground.high, MaxRows: maxBatchEvents, MaxBytes: maxBatchBytes,
	})
	t.took = time.Since(began)
	if err != nil {
		return nil, err
	}
	if err := t.look(ctx, rows); err != nil {
		return nil, err
	}
	p := &page{rows: map[*pending]int64{}}
	bytes := 0
	for i := range rows {
		bytes += len(rows[i].Data) // as text, which can be many times what is stored
		if i > 0 && bytes > maxBatchBytes {
			break
		}
		p.take(rows[i].ID, draftOf(&rows[i]), t.Judge)
	}
	return p, nil
}

func (p *page) take(row int64, d event.Draft, judge func(*event.Draft) (code, reason string)) {
	p.ids = append(p.ids, row)
	if code, reason := judge(&d); code != "" {
		p.settled = append(p.settled, settlement{row, &d, code, reason})
		return
	}
	g := &pending{drafts: []event.Draft{d}, bytes: weight(&d), verdict: make(chan verdict, 1)}
	p.rows[g] = row
	p.batch.add(g)
}

// look tells the metrics what the outbox looks like.
func (t *term) look(ctx context.Context, rows []db.OutboxPageRow) error {
	bytes := 0
	for i := range rows {
		bytes += len(rows[i].Data)
	}
	switch {
	case len(rows) == 0:
		t.metrics.look(0, 0)
	case len(rows) < maxBatchEvents && bytes < maxBatchBytes/4: // nothing was cut off, in whatever form it is stored
		t.metrics.look(len(rows), rows[0].AgeSeconds)
	case time.Since(t.counted) >= countPeriod:
		t.counted = time.Now()
		count, err := t.sql.OutboxCount(ctx, t.conn, db.OutboxCountParams{First: rows[0].ID, Most: countMost})
		if err != nil {
			return err
		}
		t.metrics.look(int(count), rows[0].AgeSeconds)
	}
	return nil
}

func draftOf(r *db.OutboxPageRow) event.Draft {
	return event.Draft{
		ID: r.EventID.Bytes, Tenant: r.Tenant, Namespace: r.Namespace, Type: r.Type, SchemaVersion: int(r.SchemaVersion),
		Rooms: r.Rooms, Stream: r.Stream, OccurredAt: r.OccurredAt, Actor: r.Actor, CorrelationID: r.CorrelationID,
		CausationID: uuid.NullUUID{UUID: r.CausationID.Bytes, Valid: r.CausationID.Valid}, ReplyBy: orZero(r.ReplyBy), Data: r.Data,
	}
}

// relay moves a page into the log, in order, and takes the rest of it out of the
// outbox. After an error some of it may be there still, to be read again.
func (t *term) relay(ctx context.Context, p *page) error {
	for _, b := range p.batch.apart() {
		if err := t.move(ctx, p, b); err != nil {
			return err
		}
	}
	if len(p.settled) == 0 {
		return nil
	}
	var params db.OutboxSettleParams
	for _, s := range p.settled {
		params.Ids = append(params.Ids, s.row)
		params.Codes = append(params.Codes, s.code)
		params.Reasons = append(params.Reasons, s.reason)
	}
	if err := t.sql.OutboxSettle(ctx, t.conn, params); err != nil {
		return err
	}
	for _, s := range p.settled {
		if s.code != "" {
			t.metrics.reject(ctx, s)
		}
	}
	return nil
}

// move appends b, of the page p. What turns out not to be for the log it adds to
// what is settled.
func (t *term) move(ctx context.Context, p *page, b *batch) error {
	judgeIDs := false
	for len(b.groups) > 0 {
		row, heads, err := t.append(ctx, p, b, judgeIDs)
		switch {
		case err == nil && row.FirstPosition > 0:
			t.metrics.relayed.Add(float64(b.events))
			t.Committed(row.FirstPosition + int64(b.events) - 1)
			return nil
		case err == nil:
			rest := b.judge(&row, heads)
			if err := t.settleJudged(ctx, p, b); err != nil {
				return err
			}
			b = rest
		case hasKnownIDs(err) && !judgeIDs:
			judgeIDs = true
		case hasNoPartition(err):
			t.NoPartition()
			return ErrNoPartition
		case isRefusal(err) || hasClass(err, sqlstateNull) || hasClass(err, sqlstateCheck):
			// One bad value fails everybody's statement: find whose it is. And an id
			// that is in b twice: what the second is shows when the first is in the log.
			if len(b.groups) == 1 {
				pg, _ := errors.AsType[*pgconn.PgError](err)
				p.settle(b.groups[0], codeSchemaViolation, "PostgreSQL cannot store a value of the event (SQLSTATE "+pg.Code+")")
				return nil
			}
			half := len(b.groups) / 2
			if err := t.move(ctx, p, b.slice(0, half)); err != nil {
				return err
			}
			b = b.slice(half, len(b.groups))
		default:
			return err
		}
	}
	return nil
}

// append appends b and takes its rows out of the outbox, in one round trip.
func (t *term) append(ctx context.Context, p *page, b *batch, judgeIDs bool) (db.EventAppendBatchRow, []head, error) {
	params, heads, _ := b.params()
	tip := t.Tip()
	params.JudgeIds, params.SeenEpoch, params.SeenPosition = judgeIDs, tip.Epoch, tip.Position
	params.Deadline = farAway
	for _, g := range b.groups {
		params.Relayed = append(params.Relayed, p.rows[g])
	}
	row, err := t.sql.EventAppendBatch(ctx, t.conn, params)
	return row, heads, err
}

// settleJudged settles the groups of b that cannot be appended. Of those whose ids are
// in the log a repetition is dropped, another event with the same id rejected; a
// second answer is rejected, and so is a request too many.
func (t *term) settleJudged(ctx context.Context, p *page, b *batch) error {
	for _, g := range b.groups {
		select {
		case v := <-g.verdict:
			err := v.err
			if v.known != nil {
				_, err = t.Log.settle(ctx, g, v.known)
			}
			late, isLate := errors.AsType[*AlreadyAnsweredError](err)
			_, crowded := errors.AsType[*CrowdedError](err)
			switch {
			case isLate:
				p.settle(g, codeAlreadyAnswered, "the event "+late.By.String()+" has answered this request")
			case crowded:
				p.settle(g, codeTooLarge, fmt.Sprintf("%d requests with the correlation id are open, and no more may be", MaxOpen))
			case errors.Is(err, ErrIDReused):
				p.settle(g, codeIDReused, "the id "+g.drafts[0].ID.String()+" was used before, with other content")
			case err != nil:
				return err
			default:
				p.settle(g, "", "")
			}
		default: // not known
		}
	}
	return nil
}

func (p *page) settle(g *pending, code, reason string) {
	p.settled = append(p.settled, settlement{p.rows[g], &g.drafts[0], code, reason})
}
