package verify

import (
	"context"
	"fmt"
	"math"

	"github.com/tailroom/tailroom/db"
)

// window is what is known of the idempotency window.
type window struct {
	start int64 // the lowest position that an id points to

	// The events are read downwards. Events that are not known may be older than
	// the window, until an older one turns out to be known.
	unknown int64
	places  []Place
	// beyond says that what comes was recorded before the ids were last rotated:
	// then it may be older than the window.
	beyond bool
}

// checkWindow looks at each id of the window for the event it points to.
func (v *verifier) checkWindow(ctx context.Context) error {
	v.window.start = math.MaxInt64
	for which := range int32(2) {
		rows := paged(v.pageRows, func(last db.VerifyWindowPageRow, _ int) ([]db.VerifyWindowPageRow, error) {
			p := db.VerifyWindowPageParams{Which: which, AfterTenant: last.Tenant, AfterID: last.ID, MaxRows: int32(v.pageRows)}
			p.AfterID.Valid = true
			page, err := v.sql.VerifyWindowPage(ctx, v.conn, p)
			v.advance(len(page))
			return page, err
		})
		for r, err := range rows {
			if err != nil {
				return err
			}
			v.report.Checked.WindowIDs++
			v.window.start = min(v.window.start, r.Position)
			v.checkWindowID(r)
		}
	}
	return nil
}

func (v *verifier) checkWindowID(r db.VerifyWindowPageRow) {
	place := Place{Position: r.Position, CompanyID: r.Tenant, ID: idText(r.ID), Expected: "its event at this position"}
	switch {
	case r.Position <= r.Floor: // dropped
	case r.EventPosition == 0:
		place.Found = "no event"
		v.report.fault(IDDangling, place)
	case r.EventTenant != r.Tenant || r.EventID != r.ID:
		place.Found = fmt.Sprintf("event %s of company %s", idText(r.EventID), r.EventTenant)
		v.report.fault(IDElsewhere, place)
	}
	if r.Twice {
		place.Expected, place.Found = "in one of the window's tables", "in both"
		v.report.fault(IDKnownTwice, place)
	}
}

// concerns reports whether the window may know events at or below a position.
func (w *window) concerns(upto int64) bool { return upto >= w.start || !w.beyond }

// checkKnown takes the events of the log from the newest on.
func (v *verifier) checkKnown(r *db.VerifyEventPageRow) {
	w := &v.window
	w.beyond = w.beyond || !r.RecordedAt.After(r.IdsRotatedAt)
	if r.Known {
		if w.unknown > 0 {
			v.report.faults(IDUnknown, w.unknown, w.places)
			w.unknown, w.places = 0, nil
		}
		return
	}
	if !w.beyond {
		v.faultAt(IDUnknown, r, "known", "not known")
		return
	}
	w.unknown++
	if len(w.places) < maxExamples {
		w.places = append(w.places, placeOf(r, "known", "not known"))
	}
}
