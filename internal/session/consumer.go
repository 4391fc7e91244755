package session

import (
	"context"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

// claimTimeout bounds the wait for a claim.
const claimTimeout = 5 * time.Second

// Consumers keeps what named sessions have acknowledged, for all instances.
type Consumers interface {
	// Claim makes s the live session of a consumer of its grant's company, which
	// follows these topics, and ends the one there was. One that is new has
	// acknowledged start, or, if that is nil, what there is now. The error is a
	// *problem.Error that says why it cannot be, or why it is not known whether.
	Claim(ctx context.Context, name string, s *Session, topics []event.Topic, start *event.Cursor) (Claim, error)
}

// Claim is a session's hold on its consumer. It may have been lost to a newer one:
// then it does nothing.
type Claim interface {
	// Start is what was acknowledged when the claim was made.
	Start() event.Cursor
	// Ack notes that everything up to c is done with. Less than before changes
	// nothing. Newest is the last event that was sent.
	Ack(c, newest event.Cursor)
	// Follow notes what the session follows from now on; nothing is a pause.
	Follow(topics []event.Topic)
	// Release gives the claim up.
	Release()
}

// Consume makes s a consumer, before it runs, and begins it: at asked, unless that is
// nil, else behind what the consumer has acknowledged. The error is a *problem.Error;
// whoever gets none runs or Releases s.
func (s *Session) Consume(ctx context.Context, log Locator, consumers Consumers, name string, asked *Beginning) (Beginning, error) {
	grant := s.Grant()
	if !grant.Role.MayConsume() {
		return Beginning{}, problem.New(problem.Forbidden,
			"the role "+string(grant.Role)+" cannot be a consumer: leave consumer out, and keep the cursor yourself").
			With("allowed", access.Consumers())
	}
	if !event.ValidConsumer(name) {
		return Beginning{}, problem.New(problem.InvalidParameter,
			"a consumer's name is 1 to 100 of A-Z a-z 0-9 . _ : @ / | + -").With("path", "consumer")
	}
	var start *event.Cursor
	if asked != nil {
		start = &asked.Cursor
	}
	claimCtx, cancel := context.WithTimeout(ctx, claimTimeout)
	defer cancel()
	claim, err := consumers.Claim(claimCtx, name, s, s.subs.Load().topics(grant), start)
	if err != nil {
		if problem.From(err).Code == problem.TooLarge {
			s.rules.Limits.Hit(limit.ConsumersPerCompany)
		}
		return Beginning{}, err
	}
	s.claim, s.consumer = claim, name
	if asked == nil {
		acked := event.Start{Origin: event.At, Cursor: claim.Start()}
		asked = &Beginning{Asked: acked}
		locateCtx, cancel := context.WithTimeout(ctx, locateTimeout)
		defer cancel()
		if asked.Cursor, asked.Reset, err = log.Locate(locateCtx, acked); err != nil {
			s.Release()
			slog.WarnContext(ctx, "a consumer's cursor could not be located", "component", "session", "error", err)
			return Beginning{}, problem.New(problem.Unavailable, "the log cannot be read at present").RetryAfter(time.Second)
		}
	}
	s.cursor, s.said, s.reset = asked.Cursor, asked.Cursor, asked.Reset
	return *asked, nil
}

// Ack acknowledges everything up to a cursor: behind it the consumer goes on when it
// comes back. The error is a *problem.Error, and then nothing has changed.
func (s *Session) Ack(c event.Cursor) error {
	switch {
	case s.claim == nil:
		return problem.New(problem.InvalidMessage, "only consumers acknowledge, and this session is none: say hello with consumer")
	case c.Compare(s.cursor) > 0:
		return problem.New(problem.InvalidCursor,
			"nothing behind "+s.cursor.String()+" was sent to this session: acknowledge cursors that it has got").
			With("path", "cursor")
	}
	s.claim.Ack(c, s.newest)
	return nil
}

// ParseAck reads the cursor of an acknowledgement. The error is a *problem.Error.
func ParseAck(cursor string) (event.Cursor, error) {
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return c, problem.New(problem.InvalidCursor, event.ErrCursor.Error()+`: an acknowledgement names a cursor "{epoch}-{position}" that was sent`).
			With("path", "cursor")
	}
	return c, nil
}

// Release gives up what the session has a claim on. Run does so at its end; it is for
// sessions that will not run.
func (s *Session) Release() {
	if s.claim != nil {
		s.claim.Release()
	}
}

// Replace ends the session because a newer one of its consumer has taken its place.
func (s *Session) Replace() { s.Expel(Replaced, func(*Session) bool { return true }) }
