package state

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// A step folds this much of the log at most, unless a single event is larger. What
// is read, folded and written at once is in memory.
const (
	stepEvents = 2000
	stepBytes  = 4 << 20
	// stepMerged bounds the states that events are merged into, each counted with each
	// of its events: the memory that they take, and the time.
	stepMerged = 16 << 20
)

var (
	// errFloor says that retention has dropped events that were not folded yet.
	errFloor = errors.New("retention has passed what was folded")
	// errFenced says that the generation is not where the fold has left it: somebody
	// else has the lead, or another generation is in its place.
	errFenced = errors.New("somebody else folds the states")
)

// stretch is some of the log in order, as far as the states need it.
type stretch struct {
	facts    []fact // of streams alone
	streams  []int  // for each fact the number of its stream
	keys     []event.StateKey
	redacted []int64      // positions
	events   int          // all of them
	to       event.Cursor // the last one's
}

// floorStates is the generation that has the states at the floor.
const floorStates = 0

// readStretch reads what comes after a position, up to another: some events, and no
// more than can be folded at once onto the states of a generation.
func readStretch(ctx context.Context, conn db.DBTX, generation, after, upto int64, events int) (stretch, error) {
	s, err := readLog(ctx, conn, after, upto, events)
	if err != nil || len(s.facts) == 0 {
		return s, err
	}
	k := keysOf(s.keys)
	sizes, err := db.New().StateSizes(ctx, conn, db.StateSizesParams{
		Numbers: k.numbers, Tenants: k.tenants, Namespaces: k.namespaces, Streams: k.streams, Generation: generation,
	})
	if err != nil {
		return stretch{}, fmt.Errorf("reading how large states are: %w", err)
	}
	if i := s.fits(sizes); i < len(s.facts) {
		return readLog(ctx, conn, after, s.facts[i].position-1, events)
	}
	return s, nil
}

// fits returns how many facts can be folded at once onto states of these sizes; one
// always can.
func (s *stretch) fits(sizes []int32) int {
	merged := 0
	for i, f := range s.facts {
		size := &sizes[s.streams[i]]
		*size = int32(min(int(*size)+len(f.data), maxState))
		merged += int(*size)
		if merged > stepMerged && i > 0 {
			return i
		}
	}
	return len(s.facts)
}

func readLog(ctx context.Context, conn db.DBTX, after, upto int64, events int) (stretch, error) {
	rows, err := db.New().StateLogPage(ctx, conn, db.StateLogPageParams{
		After: after, Upto: upto, MaxRows: int32(events), MaxBytes: stepBytes,
	})
	if err != nil {
		return stretch{}, fmt.Errorf("reading the log: %w", err)
	}
	s := stretch{events: len(rows)}
	numbers := map[event.StateKey]int{}
	for i := range rows {
		r := &rows[i]
		if r.Floor > after {
			return stretch{}, errFloor
		}
		s.to = event.Cursor{Epoch: r.Epoch, Position: r.Position}
		if r.Namespace == event.System {
			e := event.Event{
				Namespace: r.Namespace, Type: r.Type, Data: r.Data,
				CausationID: uuid.NullUUID{UUID: r.CausationID.Bytes, Valid: r.CausationID.Valid},
			}
			if position, ok := e.Redacts(); ok {
				s.redacted = append(s.redacted, position)
			}
			continue
		}
		if r.Stream == "" {
			continue
		}
		key := event.StateKey{Tenant: r.Tenant, Namespace: r.Namespace, Stream: r.Stream}
		number, known := numbers[key]
		if !known {
			number = len(s.keys)
			numbers[key] = number
			s.keys = append(s.keys, key)
		}
		s.streams = append(s.streams, number)
		s.facts = append(s.facts, fact{
			name: r.Type, version: r.Version, position: r.Position, recordedAt: r.RecordedAt, rooms: r.Rooms, data: event.Compact(r.Data),
		})
	}
	return s, nil
}

// onto folds the stretch onto the states of its streams. keyframe, if there is one,
// sees each state that is one.
func (closes Closes) onto(s *stretch, states []event.State, keyframe func(*event.State)) {
	for i, f := range s.facts {
		state := &states[s.streams[i]]
		before := state.Version
		closes.fold(state, f)
		if keyframe != nil && state.Version > before && isKeyframe(state) {
			keyframe(state)
		}
	}
}

// step folds what comes next after a generation's checkpoint, so many events at the
// most, and returns the new checkpoint and how many events that were. None is none:
// nothing has changed.
func (closes Closes) step(ctx context.Context, conn *pgx.Conn, generation int64, from event.Cursor, events int) (event.Cursor, int, error) {
	readCtx, cancel := context.WithTimeout(ctx, answerTimeout)
	s, err := readStretch(readCtx, conn, generation, from.Position, whole, events)
	cancel()
	if err != nil || s.events == 0 {
		return from, 0, err
	}
	if err := closes.renew(ctx, conn, generation, from, s.redacted); err != nil {
		return from, 0, fmt.Errorf("folding streams anew of which events were redacted: %w", err)
	}
	ctx, cancel = context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	c := change{from: from, to: s.to, states: make([]event.State, len(s.keys))}
	for i, key := range s.keys {
		c.states[i].StateKey = key
	}
	k := keysOf(s.keys)
	rows, err := db.New().StateList(ctx, conn, db.StateListParams{
		Numbers: k.numbers, Tenants: k.tenants, Namespaces: k.namespaces, Streams: k.streams, Generation: generation,
	})
	if err != nil {
		return from, 0, fmt.Errorf("reading states: %w", err)
	}
	for _, r := range rows {
		c.states[r.Number] = stored(r).state(s.keys[r.Number])
	}
	closes.onto(&s, c.states, func(s *event.State) { c.keyframes = append(c.keyframes, *s) })
	if err := c.write(ctx, conn, generation); err != nil {
		return from, 0, err
	}
	return s.to, s.events, nil
}

// begun leaves out the states of streams that have not begun.
func begun(states []event.State) []event.State {
	return slices.DeleteFunc(states, func(s event.State) bool { return s.Version == 0 })
}

// snapshot runs some statements that must see the same.
func snapshot(ctx context.Context, conn beginner, do func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do)
}

type beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// whole is the end of every log.
const whole = math.MaxInt64
