package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

const (
	// snapshotStates is how many states a message has at the most.
	snapshotStates = 200
	// maxSnapshots is how many snapshots a session can wait for.
	maxSnapshots = 100
	// statesTimeout is how long a client waits until there are states at the cursor
	// that it is to have a snapshot of.
	statesTimeout = 5 * time.Second
)

// States is where a session reads snapshots from: the reader of the states.
type States interface {
	// Checkpoint is the newest cursor that there are states at.
	Checkpoint(ctx context.Context) (event.Cursor, error)
	// Await waits until there are states at a cursor, or ctx ends.
	Await(ctx context.Context, at event.Cursor) error
	// Page reads states. An *event.Reset means that there are none at the cursor
	// and never will be.
	Page(ctx context.Context, q event.StateQuery) (event.StatePage, error)
}

// Extent is what of the states a snapshot has.
type Extent int

// The extents.
const (
	NoSnapshot Extent = iota
	AllStates
	OpenStates // those of streams that no event has closed
)

// snapshot is one that is owed to the client: all of it is true at the session's
// cursor, which stays where it is until the last state is sent.
type snapshot struct {
	Subscription

	after event.StateKey // the last that was sent
}

// owe notes the snapshots that a list asks for. On an error, a *problem.Error,
// nothing has changed.
func (s *Session) owe(list []Subscription) error {
	owed := s.snapshots
	for _, sub := range list {
		if sub.Snapshot != NoSnapshot {
			owed = append(owed, snapshot{Subscription: sub})
		}
	}
	if len(owed) > maxSnapshots {
		return problem.New(problem.TooLarge,
			fmt.Sprintf("at most %d snapshots are owed at once: wait for those that were asked for", maxSnapshots)).
			With("limit", maxSnapshots)
	}
	s.snapshots = owed
	return nil
}

// snapshot sends the next page that is owed. Nothing is held while the peer does
// not read but that page.
func (s *Session) snapshot(ctx context.Context) (more bool, err error) {
	owed := &s.snapshots[0]
	q, covered := s.query(owed)
	page := event.StatePage{Cursor: s.cursor}
	if covered {
		if page, err = s.states.Page(ctx, q); err != nil {
			return s.snapshotFailed(ctx, err)
		}
	}
	s.degraded = false
	owed.after = page.Last
	if len(page.States) > 0 || !page.More {
		err = s.send(Frame{Kind: Snapshot, Namespace: owed.Namespace, States: page.States, Cursor: s.cursor, More: page.More})
	}
	if !page.More {
		s.snapshots = s.snapshots[1:]
	}
	return true, err
}

// query is for the next page of a snapshot, in those of its rooms that the present
// grant covers. It reports false when there is none.
func (s *Session) query(owed *snapshot) (q event.StateQuery, covered bool) {
	grant := s.Grant()
	q = event.StateQuery{
		Tenant: grant.Tenant, Namespaces: []string{owed.Namespace}, After: owed.after, Limit: snapshotStates, At: &s.cursor,
	}
	if owed.Snapshot == OpenStates {
		open := true
		q.Open = &open
	}
	for _, name := range owed.Rooms {
		if room, err := grant.Room(name); err == nil {
			q.Rooms = append(q.Rooms, room)
		}
	}
	switch {
	case owed.Rooms != nil:
		return q, len(q.Rooms) > 0
	case !grant.AllBranches:
		q.Rooms = grant.Rooms()
	}
	return q, true
}

func (s *Session) snapshotFailed(ctx context.Context, err error) (more bool, _ error) {
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if _, ok := errors.AsType[*event.Reset](err); ok { // it goes on at another cursor, and so begins anew
		for i := range s.snapshots {
			s.snapshots[i].after = event.StateKey{}
		}
		return s.readFailed(ctx, err)
	}
	slog.WarnContext(ctx, "a session cannot read the states", "component", "session", "error", err)
	s.retry()
	return false, s.sayDegraded("the states cannot be read")
}

// wanted reports whether a list asks for a snapshot.
func wanted(list []Subscription) bool {
	for _, sub := range list {
		if sub.Snapshot != NoSnapshot {
			return true
		}
	}
	return false
}

// AwaitStates waits until there are states at a cursor, if a list asks for a
// snapshot. The error is a *problem.Error of code unavailable.
func AwaitStates(ctx context.Context, states States, list []Subscription, at event.Cursor) error {
	if !wanted(list) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, statesTimeout)
	defer cancel()
	err := states.Await(ctx, at)
	if _, ok := errors.AsType[*event.Reset](err); ok {
		return nil // the session will be told, and goes on elsewhere
	}
	return unavailable(ctx, err)
}

// Newest is the cursor that a session begins at which brings none and asks for a
// snapshot, "" when it asks for none. The error is a *problem.Error.
func Newest(ctx context.Context, states States, list []Subscription) (string, error) {
	if !wanted(list) {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, statesTimeout)
	defer cancel()
	at, err := states.Checkpoint(ctx)
	return at.String(), unavailable(ctx, err)
}

func unavailable(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	slog.WarnContext(ctx, "there is no snapshot at a session's cursor", "component", "session", "error", err)
	return problem.New(problem.Unavailable,
		"there is no snapshot at this cursor yet: the states are behind the log, or are being made anew").RetryAfter(time.Second)
}
