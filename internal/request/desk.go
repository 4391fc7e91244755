package request

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/publish"
)

// drainRetry is when to ask again, of another instance.
const drainRetry = time.Second

// Desk takes requests in and lets their requesters wait. It is safe for concurrent use.
type Desk struct {
	waits     *Waits
	publisher *publish.Desk
}

// NewDesk returns a Desk whose requests are published by another.
func NewDesk(w *Waits, publisher *publish.Desk) *Desk { return &Desk{waits: w, publisher: publisher} }

// Asked is a request under way. Its methods are for one goroutine, in this order.
type Asked struct {
	desk     *Desk
	grant    func() access.Grant
	question publish.Question
	wait     *wait
	pending  *publish.Pending
	since    time.Time
	receipt  event.Receipt
}

// Ask publishes a request, as a publish.Desk does. Present is the grant that the
// requester has when there is an answer; whatever goroutine waits asks for it. Close
// what Ask returns.
func (d *Desk) Ask(grant access.Grant, present func() access.Grant, source any, raw json.RawMessage) (_ *Asked, err error) {
	a := &Asked{desk: d, grant: present, since: time.Now()}
	a.pending, err = d.publisher.Ask(grant, source, raw, func(q publish.Question) (err error) {
		a.question = q
		a.wait, err = d.waits.begin(q)
		return err
	})
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// Close ends the wait, if it has not ended. The request stays open.
func (a *Asked) Close() {
	if a.wait != nil {
		a.desk.waits.end(a.wait)
		a.wait = nil
	}
}

// Published waits until the request is in the log. When an event is there that is no
// request, the error is id_reused.
func (a *Asked) Published(ctx context.Context) (event.Receipt, error) {
	receipts, err := a.pending.Wait(ctx)
	if err != nil {
		if ctx.Err() != nil {
			a.desk.waits.metrics.ended(endGone, time.Since(a.since))
		}
		if p, ok := errors.AsType[*problem.Error](err); ok && p.Code == problem.Unavailable { // it may be published
			err = a.question.WithIDs(p)
		}
		return event.Receipt{}, err
	}
	a.receipt = receipts[0]
	if a.receipt.Duplicate && a.asksNobody(ctx) {
		return event.Receipt{}, a.question.WithIDs(problem.New(problem.IDReused,
			"the event with this id was published without replyBy, so nothing answers it: a request needs a new id"))
	}
	a.desk.waits.placed(a.wait, a.receipt)
	return a.receipt, nil
}

// asksNobody reports whether the event that was there before is known to be no request.
func (a *Asked) asksNobody(ctx context.Context) bool {
	position := a.receipt.Cursor.Position
	found, err := a.desk.waits.log.Events(ctx, a.question.Tenant, []int64{position})
	return err == nil && found[position] != nil && found[position].ID == a.receipt.ID && found[position].ReplyBy.IsZero()
}

// Present returns the published request, and its answer if there is one by now.
func (a *Asked) Present(ctx context.Context) (request, reply *event.Entry, err error) {
	request, reply, err = a.present(ctx)
	if err != nil {
		slog.WarnContext(ctx, "a request is published and could not be read", "component", "request", "error", err)
		return nil, nil, a.question.WithIDs(problem.New(problem.Unavailable,
			"the request is published, and the log cannot be read at present: look for it by its correlation id").RetryAfter(time.Second))
	}
	if reply == nil {
		return request, nil, nil
	}
	if err = a.mayRead(reply); err != nil {
		if p, ok := errors.AsType[*problem.Error](err); ok {
			err = a.question.WithIDs(p)
		}
		return nil, nil, err
	}
	return request, reply, nil
}

func (a *Asked) present(ctx context.Context) (request, reply *event.Entry, err error) {
	position, answer := a.receipt.Cursor.Position, int64(0)
	if a.receipt.Duplicate { // otherwise there can hardly be any
		answers, err := a.desk.waits.log.Answers(ctx, []eventlog.Place{{Position: position, ID: a.receipt.ID}})
		if err != nil {
			return nil, nil, err
		}
		answer = answers[position].Position
	}
	positions := []int64{position}
	if answer > 0 {
		positions = append(positions, answer)
	}
	found, err := a.desk.waits.log.Events(ctx, a.question.Tenant, positions)
	if err != nil {
		return nil, nil, err
	}
	return found[position], found[answer], nil
}

// Reply waits for the answer to a published request: until the requester's patience
// (reply_timeout) or ctx ends, or the instance drains (draining). When the log has
// lost the request, that is unavailable, and an answer that the requester may not
// read is forbidden.
func (a *Asked) Reply(ctx context.Context) (request, reply *event.Entry, err error) {
	timer := time.NewTimer(time.Until(a.since.Add(a.question.Patience)))
	defer timer.Stop()
	var o *outcome
	end := endAnswered
	select {
	case o = <-a.wait.result:
	case <-timer.C:
		end, err = endTimeout, problem.New(problem.ReplyTimeout, fmt.Sprintf("nobody has answered within %s; the request stays open: "+
			"ask again with the same id to wait on, or look for it by its correlation id", a.question.Patience))
	case <-a.desk.waits.drained:
		end, err = endDraining, draining()
	case <-ctx.Done():
		end, err = endGone, problem.New(problem.Unavailable, "the request ended before its answer came").RetryAfter(time.Second)
	}
	switch {
	case err != nil:
	case o.reply == nil || o.request == nil:
		end, err = endLost, problem.New(problem.Unavailable, "the log does not have the request any more: it was failed over or restored, "+
			"or retention has dropped it; ask again").RetryAfter(time.Second)
	default:
		err = a.mayRead(o.reply)
	}
	a.desk.waits.metrics.ended(end, time.Since(a.since))
	if p, ok := errors.AsType[*problem.Error](err); ok {
		return nil, nil, a.question.WithIDs(p)
	}
	return o.request, o.reply, nil
}

// mayRead reports whether the requester may have the answer now: his token may have
// ended or been renewed while he waited, and whoever answers chooses the rooms.
func (a *Asked) mayRead(reply *event.Entry) error {
	grant := a.grant()
	if err := a.desk.publisher.Good(grant); err != nil {
		return err
	}
	grant, err := grant.Name(a.question.Tenant)
	if err != nil {
		return err
	}
	if !grant.Sees(&reply.Event) {
		return problem.New(problem.Forbidden, "the request is answered, in rooms that the token does not cover")
	}
	return nil
}
