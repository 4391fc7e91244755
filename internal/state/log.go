package state

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// refoldBytes bounds the data of the events that are read at once to fold streams
// anew, unless a single one is larger.
const refoldBytes = 2 << 20

// head is where the live generation of states stands, and the log it is of, in one
// snapshot.
type head struct {
	generation int64
	checkpoint event.Cursor
	tip        event.Cursor
	floor      int64
	epochs     event.Epochs // their numbers and what survived before them
}

func readHead(ctx context.Context, conn db.DBTX) (head, error) {
	row, err := db.New().StateHead(ctx, conn)
	if err != nil {
		return head{}, fmt.Errorf("reading where the states stand: %w", err)
	}
	h := head{
		generation: row.Generation, checkpoint: event.Cursor{Epoch: row.Epoch, Position: row.Position},
		tip: event.Cursor{Epoch: row.Newest, Position: row.Tip}, floor: row.Floor,
	}
	for i, number := range row.Epochs {
		h.epochs = append(h.epochs, event.Epoch{Number: number, Survived: row.Survived[i]})
	}
	return h, nil
}

// holds reports whether the log has the past that a checkpoint speaks of, and all
// that comes after it.
func (h *head) holds(checkpoint event.Cursor) bool {
	_, ok := h.epochs.Holds(checkpoint, h.tip)
	return ok && checkpoint.Position >= h.floor
}

// serves returns why there are no states true at a cursor: *event.Reset when the
// log cannot tell, ErrBehind when the states have not come that far.
func (h *head) serves(at event.Cursor) error {
	oldest := h.epochs.At(h.floor)
	if resume, ok := h.epochs.Holds(at, h.tip); !ok {
		if resume.Position < h.floor {
			resume = oldest
		}
		return &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: resume}
	}
	if at.Position < h.floor {
		return &event.Reset{Reason: event.Expired, Oldest: oldest, Resume: oldest}
	}
	if !h.usable() || at.Position > h.checkpoint.Position {
		return ErrBehind
	}
	return nil
}

// usable reports whether the states are those of the log as it is.
func (h *head) usable() bool { return h.generation != 0 && h.holds(h.checkpoint) }

// ErrBehind says that the states have not come as far as the log.
var ErrBehind = errors.New("the states have not come as far as the log")

// keys are streams as SQL takes them, by their numbers from 0.
type keys struct {
	numbers                      []int32
	tenants, namespaces, streams []string
}

func (k *keys) add(number int, key event.StateKey) {
	k.numbers = append(k.numbers, int32(number))
	k.tenants = append(k.tenants, key.Tenant)
	k.namespaces = append(k.namespaces, key.Namespace)
	k.streams = append(k.streams, key.Stream)
}

func keysOf(list []event.StateKey) keys {
	var k keys
	for i, key := range list {
		k.add(i, key)
	}
	return k
}

// stored is a state as every query reads it.
type stored db.StateListRow

func (s stored) state(key event.StateKey) event.State {
	return event.State{
		StateKey: key, Version: s.Version, Position: s.Position, UpdatedAt: s.UpdatedAt, Rooms: s.Rooms, Heard: s.Heard, Open: s.Open,
		Incomplete: s.Incomplete, Data: event.Compact(s.State),
	}
}

// any version is below it.
const noVersion = math.MaxInt64

// past makes the states that some streams had at a position, of what is kept and
// the log. Keyframes of a generation are used if they are below the version that
// befores has for the stream. What has not begun by then has version 0. visit, if
// there is one, sees each state with each event. All must be read in one snapshot,
// or nothing may be dropped meanwhile.
func (closes Closes) past(
	ctx context.Context, conn db.DBTX, generation, upto int64, list []event.StateKey, befores []int64, visit func(*event.State) error,
) ([]event.State, error) {
	states := make([]event.State, len(list))
	for i, key := range list {
		states[i].StateKey = key
	}
	sql, k := db.New(), keysOf(list)
	bases, err := sql.StateBases(ctx, conn, db.StateBasesParams{
		Numbers: k.numbers, Tenants: k.tenants, Namespaces: k.namespaces, Streams: k.streams, Befores: befores,
		Generation: generation, Upto: upto,
	})
	if err != nil {
		return nil, fmt.Errorf("reading what states are made from: %w", err)
	}
	for _, b := range bases {
		states[b.Number] = stored(b).state(list[b.Number])
	}
	for {
		params := db.StateEventsParams{
			Numbers: k.numbers, Tenants: k.tenants, Namespaces: k.namespaces, Streams: k.streams, Upto: upto, MaxBytes: refoldBytes,
		}
		for i := range states {
			params.Versions = append(params.Versions, states[i].Version)
			params.Positions = append(params.Positions, states[i].Position)
		}
		events, err := sql.StateEvents(ctx, conn, params)
		if err != nil {
			return nil, fmt.Errorf("reading the events of streams: %w", err)
		}
		if len(events) == 0 {
			return states, nil
		}
		for _, e := range events {
			s := &states[e.Number]
			closes.fold(s, fact{
				name: e.Type, version: e.Version, position: e.Position, recordedAt: e.RecordedAt, rooms: e.Rooms,
				data: event.Compact(e.Data),
			})
			if visit == nil {
				continue
			}
			if err := visit(s); err != nil {
				return nil, err
			}
		}
	}
}
