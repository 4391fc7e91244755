package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// checkEvents reads every event from the tip downwards.
func (v *verifier) checkEvents(ctx context.Context) error {
	var err error
	if v.state, err = v.sql.VerifyState(ctx, v.conn); err != nil {
		return err
	}
	v.report.Log = Extent{Epoch: v.state.Epoch, Floor: v.state.Floor, Tip: v.state.Tip}
	v.at.Total = v.state.Tip - v.state.Floor
	if v.epochs, err = v.readEpochs(ctx, v.conn); err != nil {
		return err
	}
	if err := v.checkPartitions(ctx); err != nil {
		return err
	}
	newer := time.Time{} // when the event above was recorded
	for _, p := range slices.Backward(v.parts) {
		var events int64
		for upto := min(p.last, v.state.Tip); upto > max(p.first-1, v.state.Floor); {
			after := max(upto-int64(v.pageRows), p.first-1, v.state.Floor)
			page, err := v.sql.VerifyEventPage(ctx, v.conn, db.VerifyEventPageParams{
				After: after, Upto: upto, Near: p.first, Ids: v.window.concerns(upto),
			})
			if err != nil {
				return err
			}
			if newer, err = v.checkEventPage(ctx, page, newer); err != nil {
				return err
			}
			v.remember(p, after, upto, page)
			events += int64(len(page))
			v.advance(int(upto - after))
			upto = after
		}
		if p.first <= v.state.Tip {
			if err := v.checkCount(ctx, p, events); err != nil {
				return err
			}
		}
		v.report.Checked.Events += events
	}
	return nil
}

// checkEventPage checks the events of a page by themselves, and with what was
// read beside them. Newer and its result are when the event above and the last one
// of the page were recorded.
func (v *verifier) checkEventPage(ctx context.Context, page []db.VerifyEventPageRow, newer time.Time) (time.Time, error) {
	var first []*db.VerifyEventPageRow // of their streams in this partition
	var others []int64                 // of another epoch than they should be
	for i := range page {
		r := &page[i]
		if !newer.IsZero() && r.RecordedAt.After(newer) {
			v.report.note(noteClock, 1, r.Position)
		}
		newer = r.RecordedAt
		if v.epochOf(r.Position) != r.Epoch {
			others = append(others, r.Position)
		}
		v.checkColumns(r)
		v.checkRooms(r)
		if r.Unasked {
			v.faultAt(RequestMissing, r, "known as a request", "not known")
		}
		if v.window.concerns(r.Position) {
			v.checkKnown(r)
		}
		if r.Stream == nil || r.Version == nil {
			continue
		}
		v.versions++
		if r.Head != 0 && r.Head != r.Position {
			v.faultAt(HeadElsewhere, r, fmt.Sprintf("last_position %d", r.Position), fmt.Sprintf("last_position %d", r.Head))
		}
		if *r.Version > 1 && r.Previous != *r.Version-1 {
			first = append(first, r)
		}
	}
	if err := v.suspectEpochs(ctx, others); err != nil {
		return newer, err
	}
	return newer, v.checkOrder(ctx, first)
}

// checkColumns checks what the columns of an event say of each other.
func (v *verifier) checkColumns(r *db.VerifyEventPageRow) {
	switch {
	case (r.Stream == nil) != (r.Version == nil):
		v.faultAt(EventMalformed, r, "a stream and a version, or neither", "one of them")
	case r.Version != nil && *r.Version < 1:
		v.faultAt(EventMalformed, r, "a version from 1", fmt.Sprintf("version %d", *r.Version))
	case len(r.Rooms) == 0:
		v.faultAt(EventMalformed, r, "a room", "none")
	case r.FirstRoom != r.Rooms[0]:
		v.faultAt(EventMalformed, r, "first_room "+r.Rooms[0], r.FirstRoom)
	}
}

// checkRooms checks that an event reaches nobody but its own company.
func (v *verifier) checkRooms(r *db.VerifyEventPageRow) {
	for _, room := range r.Rooms {
		if company, ok := event.RoomCompany(room); ok && company != r.Tenant {
			v.faultAt(RoomForeign, r, event.CompanyRoom(r.Tenant), room)
		} else if r.Namespace == event.System && room == event.CompanyRoom(event.EveryTenant) {
			continue
		} else if name, err := event.ParseRoom(room); err != nil || name != room {
			v.faultAt(EventMalformed, r, event.RoomForms, room)
		}
	}
}

// checkOrder takes events that do not come behind the version before theirs in
// their partition. It may be in an older one, or dropped. If it is above, the
// order is wrong; if it is nowhere, that is for checkStreams to find.
func (v *verifier) checkOrder(ctx context.Context, list []*db.VerifyEventPageRow) error {
	if len(list) == 0 {
		return nil
	}
	var ask db.VerifyVersionPlacesParams
	for i, r := range list {
		ask.Numbers = append(ask.Numbers, int32(i))
		ask.Tenants, ask.Namespaces = append(ask.Tenants, r.Tenant), append(ask.Namespaces, r.Namespace)
		ask.Streams, ask.Versions = append(ask.Streams, *r.Stream), append(ask.Versions, *r.Version)
	}
	places, err := v.sql.VerifyVersionPlaces(ctx, v.conn, ask)
	if err != nil {
		return err
	}
	for _, at := range places {
		r := list[at.Number]
		if at.BeforeVersion == *r.Version-1 && at.BeforePosition > r.Position {
			v.faultAt(VersionOrder, r, fmt.Sprintf("version %d above version %d, at %d", *r.Version, at.BeforeVersion, at.BeforePosition),
				fmt.Sprintf("version %d at %d", *r.Version, r.Position))
		}
	}
	return nil
}

func (v *verifier) readEpochs(ctx context.Context, conn db.DBTX) (event.Epochs, error) {
	rows, err := v.sql.EpochList(ctx, conn)
	list := make(event.Epochs, len(rows))
	for i, r := range rows {
		list[i] = event.Epoch{Number: r.Epoch, Survived: r.Survived}
	}
	return list, err
}

// epochOf is the epoch that a position belongs to, 0 when there is none.
func (v *verifier) epochOf(position int64) int64 {
	if len(v.epochs) == 0 {
		return 0
	}
	return v.epochs.At(position).Epoch
}

// suspectEpochs takes events whose epochs are not those we know of: another may
// have been opened since, and have taken over events of the one before.
func (v *verifier) suspectEpochs(ctx context.Context, positions []int64) error {
	if len(positions) == 0 {
		return nil
	}
	return v.snapshot(ctx, func(tx pgx.Tx) error {
		var err error
		if v.epochs, err = v.readEpochs(ctx, tx); err != nil {
			return err
		}
		list, err := v.sql.VerifyEventList(ctx, tx, positions)
		for _, e := range list {
			if want := v.epochOf(e.Position); e.Epoch != want {
				v.report.fault(EpochWrong, Place{
					Position: e.Position, ID: idText(e.ID), CompanyID: e.Tenant, Namespace: e.Namespace, Stream: orZero(e.Stream),
					Expected: fmt.Sprintf("epoch %d", want), Found: fmt.Sprintf("epoch %d", e.Epoch),
				})
			}
		}
		return err
	})
}

func (v *verifier) faultAt(kind Kind, r *db.VerifyEventPageRow, expected, found string) {
	v.report.fault(kind, placeOf(r, expected, found))
}

func placeOf(r *db.VerifyEventPageRow, expected, found string) Place {
	return Place{
		Position: r.Position, ID: idText(r.ID), CompanyID: r.Tenant, Namespace: r.Namespace, Stream: orZero(r.Stream),
		Expected: expected, Found: found,
	}
}
