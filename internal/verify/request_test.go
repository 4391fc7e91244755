package verify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/verify"
)

// newTalks is a log with requests: 1 is answered at 3, 2 is answered at 5 (whose data
// were erased), 6 is open, and 8 is in the log and asks for an answer that its type
// does not have.
func newTalks(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, partitionSize)
	r.exec(t, `SELECT tailroom.mirror_catalogue('[{"namespace":"/orders","type":"newOrder","schema_version":1,"description":"","publish":[],"rooms":[],
		"schema":{},"reply":{"type":"done","when":{"status":["yes","no"]},"timeoutMs":1000}}]', 262144)`)
	r.exec(t, "SELECT tailroom.backfill_requests(1)")
	part := func(correlation, kind, data string, asks bool) event.Draft {
		d := draft("c1", "")
		d.CorrelationID, d.Type, d.Data = correlation, kind, []byte(data)
		d.MayAnswer = kind == "done"
		if asks {
			d.ReplyBy = time.Now()
		}
		if kind == "newOrder" {
			d.Awaits = &event.Awaited{Type: "done", When: []byte(`{"status":["yes","no"]}`)}
		}
		return d
	}
	for _, d := range []event.Draft{
		part("a", "newOrder", `{}`, true), part("b", "newOrder", `{}`, true),
		part("a", "done", `{"status":"yes"}`, false), part("b", "done", `{"status":"perhaps"}`, false),
		part("b", "done", `{"status":"no"}`, false), part("c", "newOrder", `{}`, true),
		part("c", "newOrder", `{}`, false), part("c", "other", `{}`, true),
	} {
		r.append(t, d)
	}
	r.exec(t, "SELECT tailroom.redact(5, 'a reason', 'officer:1')")
	require.Equal(t, []int64{3, 5, 0}, value[[]int64](t, r, "SELECT array_agg(coalesce(answer_position, 0) ORDER BY position) FROM tailroom.requests"))
	return r
}

func TestRequests_WhatIsPlantedIsFound(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]found{
		"SELECT 1": {},
		"DELETE FROM tailroom.requests WHERE position = 6":                                                                                    {verify.RequestMissing: 1},
		"DELETE FROM tailroom.requests":                                                                                                       {verify.RequestMissing: 3},
		"DELETE FROM tailroom.requests; UPDATE tailroom.log SET requests_from = 2":                                                            {verify.RequestMissing: 2}, // the rest is under way
		"UPDATE tailroom.requests SET position = 7 WHERE position = 6":                                                                        {verify.RequestMissing: 1, verify.RequestWithoutEvent: 1},
		"UPDATE tailroom.requests SET rooms = '{branch:b2}' WHERE position = 6":                                                               {verify.RequestWithoutEvent: 1},
		"UPDATE tailroom.requests SET answer_position = NULL, answer_id = NULL, answered_at = NULL":                                           {verify.AnswerMissing: 1},
		"UPDATE tailroom.requests SET answer_position = 4 WHERE position = 1":                                                                 {verify.AnswerWrong: 1},
		"UPDATE tailroom.requests SET answer_id = gen_random_uuid() WHERE position = 2":                                                       {verify.AnswerWrong: 1},
		"UPDATE tailroom.requests r SET answer_position = 4, answer_id = e.id FROM tailroom.events e WHERE e.position = 4 AND r.position = 2": {verify.AnswerWrong: 1},
		`UPDATE tailroom.events SET data = '{"status":"yes"}' WHERE position = 4`:                                                             {verify.AnswerWrong: 1},
		`UPDATE tailroom.events SET data = '{"status":"yes"}', type = 'done', correlation_id = 'c' WHERE position = 8`:                        {verify.AnswerMissing: 1},
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			r := newTalks(t)
			r.tamper(t, sql)
			report := r.verify(t)
			got := found{}
			for _, f := range report.Faults {
				got[f.Kind] = f.Count
				require.Equal(t, 8, f.Invariant)
				require.NotZero(t, f.Examples[0].Position)
			}
			require.Equal(t, want, got, "%+v", report.Faults)
			if len(want) == 0 {
				require.Equal(t, int64(3), report.Checked.Requests)
				return
			}
			if fmt.Sprint(want) == fmt.Sprint(found{verify.RequestMissing: 3}) { // as the advice says
				r.exec(t, "UPDATE tailroom.log SET requests_from = 0")
				for value[bool](t, r, "SELECT tailroom.backfill_requests(1)") {
				}
				// The answer that was erased cannot be told from an event that answers nothing.
				require.Equal(t, []int64{3, 0, 0}, value[[]int64](t, r, "SELECT array_agg(coalesce(answer_position, 0) ORDER BY position) FROM tailroom.requests"))
				require.Empty(t, r.verify(t).Faults)
			}
		})
	}
}

// What the maintenance leaves out, because too many of its talk are open, is no fault.
func TestRequests_WhatIsLeftOut(t *testing.T) {
	t.Parallel()
	r := newTalks(t)
	for range 17 {
		d := draft("c1", "")
		d.CorrelationID, d.Type, d.ReplyBy = "crowd", "newOrder", time.Now()
		r.append(t, d)
	}
	require.Len(t, r.verify(t).Faults, 1)
	r.exec(t, "UPDATE tailroom.log SET requests_from = 0")
	require.False(t, value[bool](t, r, "SELECT tailroom.backfill_requests(100)"))
	require.Equal(t, 16, value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE correlation_id = 'crowd'"))
	require.Empty(t, r.verify(t).Faults)
}
