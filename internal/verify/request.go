package verify

import (
	"context"
	"fmt"

	"github.com/tailroom/tailroom/db"
)

// checkRequests holds the known requests against the log. Each is read in one snapshot with
// its events, so that what they say against each other is a fault.
func (v *verifier) checkRequests(ctx context.Context) error {
	known := paged(v.pageRows, func(last db.VerifyRequestPageRow, _ int) ([]db.VerifyRequestPageRow, error) {
		page, err := v.sql.VerifyRequestPage(ctx, v.conn, db.VerifyRequestPageParams{
			After: last.Position, Upto: v.state.Tip, MaxRows: int32(v.pageRows),
		})
		v.advance(len(page))
		return page, err
	})
	for r, err := range known {
		if err != nil {
			return err
		}
		if r.Position > r.Floor {
			v.report.Checked.Requests++
			v.checkRequest(&r)
		}
	}
	return nil
}

func (v *verifier) checkRequest(r *db.VerifyRequestPageRow) {
	place := Place{Position: r.Position, ID: idText(r.ID), CompanyID: r.Tenant, Namespace: r.Namespace}
	switch {
	case !r.Asked:
		place.Expected, place.Found = "its event at this position", "none, or another"
		v.report.fault(RequestWithoutEvent, place)
	case r.Answer == 0 && r.First > 0:
		place.Expected, place.Found = fmt.Sprintf("answered at %d", r.First), "open"
		v.report.fault(AnswerMissing, place)
	case r.Answer == 0: // open
	case !r.Answered:
		place.Expected, place.Found = "an event that may answer", fmt.Sprintf("none, or another, at %d", r.Answer)
		v.report.fault(AnswerWrong, place)
	case r.First > 0 && r.First < r.Answer, !r.Erased && r.First != r.Answer: // what was erased cannot be judged
		place.Expected, place.Found = fmt.Sprintf("answered at %d", r.First), fmt.Sprintf("at %d", r.Answer)
		v.report.fault(AnswerWrong, place)
	}
}
