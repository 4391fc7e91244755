package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/tailroom/tailroom/db"
)

// checkIDs goes through all ids in the order of their index and looks more closely
// at those that come twice. Companies may have the same.
func (v *verifier) checkIDs(ctx context.Context) error {
	v.at.Total = v.report.Checked.Events
	rows := paged(v.pageRows, func(last pgtype.UUID, alike int) ([]pgtype.UUID, error) {
		last.Valid = true
		page, err := v.sql.VerifyIDPage(ctx, v.conn, db.VerifyIDPageParams{Since: last, Skip: int32(alike), MaxRows: int32(v.pageRows)})
		v.advance(len(page))
		return page, err
	})
	var last pgtype.UUID
	looked := false
	for id, err := range rows {
		if err != nil {
			return err
		}
		v.report.Checked.IDs++
		if id != last {
			last, looked = id, false
			continue
		}
		if !looked {
			looked = true
			if err := v.checkUses(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkUses compares the events that have an id, for each company in order.
func (v *verifier) checkUses(ctx context.Context, id pgtype.UUID) error {
	uses, err := v.sql.VerifyIDUses(ctx, v.conn, id)
	if err != nil {
		return err
	}
	for i := 1; i < len(uses); i++ {
		before, again := &uses[i-1], &uses[i]
		apart := again.RecordedAt.Sub(before.RecordedAt)
		switch {
		case before.Tenant != again.Tenant:
		case apart >= v.Window && before.Position < v.window.start:
			v.report.note(noteReused, 1, again.Position)
		default:
			v.report.fault(IDRepeated, Place{
				Position: again.Position, ID: idText(id), CompanyID: again.Tenant, Namespace: again.Namespace, Stream: orZero(again.Stream),
				Expected: "once", Found: fmt.Sprintf("also at %d, %s before", before.Position, apart),
			})
		}
	}
	return nil
}
