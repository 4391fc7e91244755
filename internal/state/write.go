package state

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// change is what one step of the fold makes of a generation.
type change struct {
	from, to  event.Cursor
	states    []event.State
	keyframes []event.State
	forgotten []event.StateKey // whose keyframes go
	since     []int64          // from this version on
}

// write commits the change. The error is errFenced when the generation is not at
// c.from any more.
func (c *change) write(ctx context.Context, conn db.DBTX, generation int64) error {
	forgotten := keysOf(c.forgotten)
	p := db.StateFoldParams{
		Generation: generation, FromEpoch: c.from.Epoch, FromPosition: c.from.Position, ToEpoch: c.to.Epoch, ToPosition: c.to.Position,
		ForgottenTenants: forgotten.tenants, ForgottenNamespaces: forgotten.namespaces, ForgottenStreams: forgotten.streams,
		ForgottenVersions: c.since,
	}
	var rows columns
	rows.add(c.keyframes)
	p.Keyframes = slices.Repeat([]bool{true}, len(c.keyframes))
	rows.add(c.states)
	p.Keyframes = append(p.Keyframes, make([]bool, len(c.states))...)
	p.Tenants, p.Namespaces, p.Streams, p.Versions, p.Datas = rows.tenants, rows.namespaces, rows.streams, rows.Versions, rows.Datas
	p.Opens, p.Incompletes, p.Rooms, p.Heards = rows.Opens, rows.Incompletes, rows.Rooms, rows.Heards
	p.Positions, p.UpdatedAts = rows.Positions, rows.UpdatedAts
	written, err := db.New().StateFold(ctx, conn, p)
	if err != nil {
		return fmt.Errorf("writing states: %w", err)
	}
	if !written {
		return errFenced
	}
	return nil
}

// columns are states as SQL takes them.
type columns struct {
	keys
	db.StateFloorWriteParams
}

func (c *columns) add(states []event.State) {
	for i := range states {
		s := &states[i]
		c.keys.add(i, s.StateKey)
		c.Versions = append(c.Versions, s.Version)
		c.Datas = append(c.Datas, s.Data)
		c.Opens = append(c.Opens, s.Open)
		c.Incompletes = append(c.Incompletes, s.Incomplete)
		c.Rooms = append(c.Rooms, strings.Join(s.Rooms, unit))
		c.Heards = append(c.Heards, strings.Join(s.Heard, record))
		c.Positions = append(c.Positions, s.Position)
		c.UpdatedAts = append(c.UpdatedAts, s.UpdatedAt)
	}
}
