package eventlog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// talk is a correlation id of the test's own.
func talk() string { return "talk-" + uuid.NewString() }

// asking is a request, whose answer is an orderStatusUpdate to accepted or rejected.
func asking(correlation string) event.Draft {
	return with(draft(""), func(d *event.Draft) {
		d.CorrelationID = correlation
		d.ReplyBy = time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
		d.Awaits = &event.Awaited{Type: "orderStatusUpdate", When: []byte(`{"status":["accepted","rejected"]}`)}
	})
}

// answering may answer, if its status is one that answers.
func answering(correlation, status string) event.Draft {
	return with(draft(""), func(d *event.Draft) {
		d.CorrelationID = correlation
		d.Type = "orderStatusUpdate"
		d.Data = fmt.Appendf(nil, `{"status":%q}`, status)
		d.MayAnswer = true
	})
}

// lateFor is why a group was refused, as a second answer.
func lateFor(t *testing.T, err error) *eventlog.AlreadyAnsweredError {
	t.Helper()
	late, ok := errors.AsType[*eventlog.AlreadyAnsweredError](err)
	require.True(t, ok, "%v", err)
	return late
}

// answerTo is the position of the answer to the request at a position, 0 for none.
func (r *rig) answerTo(t *testing.T, position int64) int64 {
	t.Helper()
	return value[int64](t, r, "SELECT coalesce(answer_position, 0) FROM tailroom.requests WHERE position = $1", position)
}

func TestRequest_TheFirstAnswerCounts(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	asked := a.append(t, asking(id))[0]
	require.Zero(t, r.answerTo(t, asked.Cursor.Position))

	// What is none: another status, type, correlation id, namespace or company.
	a.append(t, answering(id, "preparing"))
	a.append(t, with(answering(id, "accepted"), func(d *event.Draft) { d.Type = "orderCancelled" }))
	a.append(t, answering(talk(), "accepted"))
	a.append(t, with(answering(id, "accepted"), namespace("/printing-ws")))
	a.append(t, with(answering(id, "accepted"), tenant("c2")))
	a.append(t, with(answering(id, "accepted"), func(d *event.Draft) { d.Data = []byte(`{"status":["accepted"]}`) }))
	require.Zero(t, r.answerTo(t, asked.Cursor.Position))

	first := answering(id, "rejected")
	answered := a.append(t, first)[0]
	require.Equal(t, answered.Cursor.Position, r.answerTo(t, asked.Cursor.Position))

	before := len(r.all(t))
	_, err := a.Append(t.Context(), nil, []event.Draft{draft("order:1"), answering(id, "accepted")})
	require.Equal(t, &eventlog.AlreadyAnsweredError{Index: 1, By: first.ID}, lateFor(t, err))
	require.Len(t, r.all(t), before, "nothing of the group is there")

	again := a.append(t, first)[0]
	require.True(t, again.Duplicate)
	require.Equal(t, answered.Cursor, again.Cursor)
	a.append(t, answering(id, "preparing"))
	require.Equal(t, answered.Cursor.Position, r.answerTo(t, asked.Cursor.Position))
}

// An answer comes late, or before anybody asked.
func TestRequest_WhenAnAnswerComes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	a.append(t, answering(id, "accepted"))
	a.append(t, answering(id, "accepted")) // nobody has asked: just events
	asked := a.append(t, with(asking(id), func(d *event.Draft) { d.ReplyBy = time.Now().Add(-time.Hour) }))[0]
	list, more, err := r.log.Requests(t.Context(), eventlog.RequestQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 10})
	require.NoError(t, err)
	require.False(t, more)
	require.Len(t, list, 1)
	require.Equal(t, eventlog.Expired, list[0].Status)
	late := a.append(t, answering(id, "accepted"))[0]
	list, _, err = r.log.Requests(t.Context(), eventlog.RequestQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 10})
	require.NoError(t, err)
	require.Equal(t, eventlog.Request{
		Position: asked.Cursor.Position, Tenant: "c1", CorrelationID: id, ReplyBy: list[0].ReplyBy,
		Status: eventlog.Answered, Answer: late.Cursor.Position,
	}, list[0])
}

// Whoever asks again, with a new id, is answered with all who have asked.
func TestRequest_SeveralOfOneTalk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	one, two := a.append(t, asking(id))[0], a.append(t, asking(id))[0]
	answer := a.append(t, answering(id, "accepted"))[0].Cursor.Position
	require.Equal(t, answer, r.answerTo(t, one.Cursor.Position))
	require.Equal(t, answer, r.answerTo(t, two.Cursor.Position))
	three := a.append(t, asking(id))[0]
	second := a.append(t, answering(id, "rejected"))[0].Cursor.Position
	require.Equal(t, second, r.answerTo(t, three.Cursor.Position), "it answers the one that is open")
	require.Equal(t, answer, r.answerTo(t, one.Cursor.Position))
	_, err := a.Append(t.Context(), nil, []event.Draft{answering(id, "accepted")})
	require.NotNil(t, lateFor(t, err))
}

// A group can answer, and ask anew.
func TestRequest_WithinAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	old := a.append(t, asking(id))[0]
	done := a.append(t, answering(id, "accepted"), asking(id), draft("order:1"))
	require.Equal(t, done[0].Cursor.Position, r.answerTo(t, old.Cursor.Position))
	require.Zero(t, r.answerTo(t, done[1].Cursor.Position))
}

// The requests that one answer would answer are bounded; others of the batch are not
// concerned, and nor is a repetition.
func TestRequest_TooManyOfOneTalk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	id := talk()
	many := func(n int, changes ...func(*event.Draft)) []event.Draft {
		group := make([]event.Draft, n)
		for i := range group {
			group[i] = with(asking(id), changes...)
		}
		return group
	}
	first := many(eventlog.MaxOpen - 1)
	tickets := []*eventlog.Ticket{
		a.submit(t, first...), a.submit(t, draft(""), asking(id), asking(id)), a.submit(t, asking(talk())), a.submit(t, asking(id)),
		a.submit(t, asking(id)), a.submit(t, many(eventlog.MaxOpen, tenant("c2"))...), a.submit(t, many(eventlog.MaxOpen, namespace("/printing-ws"))...),
		a.submit(t, first...),
	}
	a.start()
	for i, ticket := range tickets {
		_, err := wait(t, ticket)
		if i == 1 || i == 4 {
			full, ok := errors.AsType[*eventlog.CrowdedError](err)
			require.True(t, ok, "group %d: %v", i, err)
			require.Equal(t, map[int]int{1: 2, 4: 0}[i], full.Index)
			continue
		}
		require.NoError(t, err, "group %d", i)
	}
	require.Equal(t, eventlog.MaxOpen, value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE tenant = 'c1' AND namespace = '/orders' AND correlation_id = $1", id))
	answer := a.append(t, answering(id, "accepted"))[0]
	require.Equal(t, eventlog.MaxOpen, value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE answer_position = $1", answer.Cursor.Position))
	a.append(t, asking(id))
}

// In one batch, each group has its own verdict, and they are judged in order.
func TestRequest_WithinABatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	id, other := talk(), talk()
	known := draft("")
	first := answering(id, "accepted")
	tickets := []*eventlog.Ticket{
		a.submit(t, known), a.submit(t, asking(id)), a.submit(t, first), a.submit(t, answering(id, "rejected")),
		a.submit(t, draft("order:1")), a.submit(t, asking(other)), a.submit(t, answering(other, "accepted")), a.submit(t, first),
	}
	a.start()
	for i, ticket := range tickets {
		receipts, err := wait(t, ticket)
		if i == 3 {
			require.Equal(t, first.ID, lateFor(t, err).By)
			continue
		}
		require.NoError(t, err, "group %d", i)
		require.Equal(t, i == 7, receipts[0].Duplicate)
	}
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE answer_position IS NULL"))
}

// An answer that is refused for another reason does not stand in the way of the next,
// also when both wait for the same batch.
func TestRequest_ARefusedAnswerIsNone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	id := talk()
	asked := a.submit(t, asking(id))
	refused := a.submit(t, with(answering(id, "accepted"), func(d *event.Draft) { d.Stream = "order:1" }, expecting(7)))
	answered := a.submit(t, answering(id, "rejected"))
	a.start()
	request := accepted(t, asked)[0]
	_, err := wait(t, refused)
	_, conflicts := errors.AsType[*eventlog.VersionConflictError](err)
	require.True(t, conflicts, "%v", err)
	require.Equal(t, accepted(t, answered)[0].Cursor.Position, r.answerTo(t, request.Cursor.Position))
}

// Of all who answer at once, on whatever instance, one is the first, and the others
// are told who.
func TestRequest_ManyAnswersAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	instances := []*instance{r.running(t), r.running(t)}
	const rounds, answers = 30, 8
	for range rounds {
		id := talk()
		asked := instances[0].append(t, asking(id))[0]
		var g errgroup.Group
		wins, by := make(chan uuid.UUID, answers), make(chan uuid.UUID, answers)
		for n := range answers {
			g.Go(func() error {
				d := answering(id, "accepted")
				_, err := instances[n%2].Append(t.Context(), nil, []event.Draft{d})
				if late, ok := errors.AsType[*eventlog.AlreadyAnsweredError](err); ok {
					by <- late.By
					return nil
				}
				wins <- d.ID
				return err
			})
		}
		require.NoError(t, g.Wait())
		require.Len(t, wins, 1)
		first := <-wins
		for range answers - 1 {
			require.Equal(t, first, <-by)
		}
		require.Equal(t, first.String(), value[string](t, r, "SELECT answer_id::text FROM tailroom.requests WHERE position = $1", asked.Cursor.Position))
	}
}

// What decides about a repeated answer is its id, also when its first attempt was
// cut off, and what decides about a conditional one is the version.
func TestRequest_WhatComesFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	a.append(t, asking(id))
	first := with(answering(id, "accepted"), func(d *event.Draft) { d.Stream = "order:1" }, expecting(0))
	a.append(t, first)
	require.True(t, a.append(t, first)[0].Duplicate)
	_, err := a.Append(t.Context(), nil, []event.Draft{with(answering(id, "rejected"), func(d *event.Draft) { d.Stream = "order:1" }, expecting(0))})
	_, conflicts := errors.AsType[*eventlog.VersionConflictError](err)
	require.True(t, conflicts, "%v", err)
	reused := first
	reused.Data = []byte(`{"status":"rejected"}`)
	_, err = a.Append(t.Context(), nil, []event.Draft{reused})
	require.ErrorIs(t, err, eventlog.ErrIDReused)
}

// SQL judges an answer as the instances do, who ask it only about what they take for
// one.
func TestRequest_SQLAgreesWithTheInstances(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, condition := range []string{`{}`, `{"a":["x","y"]}`, `{"a":[1,true]}`, `{"a":["x",1.5],"b":[false]}`, `{"a":["1"]}`, `{"a":[9007199254740992]}`} {
		var reply catalog.Reply
		require.NoError(t, json.Unmarshal([]byte(condition), &reply.When))
		for _, data := range []string{
			`{}`, `{"a":"x"}`, `{"a":"y","b":false}`, `{"a":"X"}`, `{"a":1}`, `{"a":1.0}`, `{"a":1.50,"b":false}`, `{"a":true}`, `{"a":"true"}`,
			`{"a":["x"]}`, `{"a":[]}`, `{"a":null}`, `{"a":{"x":1}}`, `{"b":false}`, `{"a":"x","b":true}`, `{"a":"x","a":"z"}`, `{"a":"z","a":"x"}`,
			`{"a":1e0}`, `{"a":"1"}`, `{"A":"x"}`, `{"a":9007199254740992}`,
		} {
			require.Equal(t, reply.MetBy([]byte(data)), value[bool](t, r, "SELECT tailroom.reply_met($1::jsonb, $2::jsonb)", condition, data), "%s: %s", condition, data)
		}
	}
}

// Types that become requests were so in the past as well: their events that wanted an
// answer are taken in, with the answers that they have got.
func TestRequest_Backfill(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	asks := func(correlation string) event.Draft {
		return with(asking(correlation), func(d *event.Draft) { d.Awaits = nil })
	}
	id := uuid.Must(uuid.NewV7()).String()
	own := with(asks(id), func(d *event.Draft) { d.ID = uuid.MustParse(id) })
	one := a.append(t, own, answering(id, "preparing"), answering(id, "accepted"), answering(id, "rejected"))
	strange := uuid.Must(uuid.NewV7())
	two := a.append(t, asks(strange.String()), with(answering(strange.String(), "rejected"), func(d *event.Draft) { d.ID = strange }))
	three := a.append(t, answering("x", "accepted"), asks("x"), with(answering("x", "accepted"), tenant("c2")))
	a.append(t, draft(""), with(asks("y"), func(d *event.Draft) { d.Type = "driverUpdate" }))
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.requests"))

	mirror, err := catalog.Default().Mirror()
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, r.log.MirrorCatalogue(t.Context(), mirror, 1000))
		for value[bool](t, r, "SELECT tailroom.backfill_requests(2)") {
		}
		require.Equal(t, []int64{
			one[0].Cursor.Position, one[2].Cursor.Position, two[0].Cursor.Position, two[1].Cursor.Position, three[1].Cursor.Position, 0,
		}, value[[]int64](t, r, `SELECT array_agg(p ORDER BY position, n) FROM tailroom.requests,
			unnest(ARRAY[position, coalesce(answer_position, 0)]) WITH ORDINALITY AS u (p, n)`))
	}
	_, err = a.Append(t.Context(), nil, []event.Draft{answering(id, "accepted")})
	require.NotNil(t, lateFor(t, err))
}

// Of the past, too, one answer answers a few: what nothing has answered is left out
// beyond that. What is answered is not.
func TestRequest_BackfillIsBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	past := make([]event.Draft, eventlog.MaxOpen+9)
	for i := range past {
		past[i] = with(asking(id), func(d *event.Draft) { d.Awaits = nil })
	}
	a.append(t, past...)
	a.append(t, answering(id, "accepted"))
	for i := range past {
		past[i].ID = uuid.Must(uuid.NewV7())
	}
	a.append(t, past...)
	full := talk() // before it was known what a request is, one was asked and answered
	a.append(t, with(asking(full), func(d *event.Draft) { d.Awaits = nil }))
	a.append(t, answering(full, "accepted"))
	for range eventlog.MaxOpen {
		a.append(t, asking(full))
	}
	mirror, err := catalog.Default().Mirror()
	require.NoError(t, err)
	require.NoError(t, r.log.MirrorCatalogue(t.Context(), mirror, 1000))
	for value[bool](t, r, "SELECT tailroom.backfill_requests(10)") {
	}
	const count = "SELECT ARRAY[count(answer_position), count(*) FILTER (WHERE open)]::integer[] FROM tailroom.requests WHERE correlation_id = $1"
	require.Equal(t, []int{len(past), eventlog.MaxOpen}, value[[]int](t, r, count, id))
	require.Equal(t, []int{1, eventlog.MaxOpen}, value[[]int](t, r, count, full))
	answer := a.append(t, answering(id, "accepted"))[0].Cursor.Position
	require.Equal(t, eventlog.MaxOpen, value[int](t, r, "SELECT count(*) FROM tailroom.requests WHERE answer_position = $1", answer))
}

// A talk may have any number of answered requests: an answer is held against the newest
// of those that await its type.
func TestRequest_TheNewestAnswersAreRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	a.append(t, asking(id))
	first := answering(id, "accepted")
	a.append(t, first)
	round := func(kind string, requests int) {
		group := make([]event.Draft, requests)
		for i := range group {
			group[i] = with(asking(id), func(d *event.Draft) { d.Awaits = &event.Awaited{Type: kind, When: []byte(`{"status":["other"]}`)} })
		}
		a.append(t, group...)
		a.append(t, with(answering(id, "other"), func(d *event.Draft) { d.Type = kind }))
	}
	for range 2 {
		round("driverUpdate", eventlog.MaxOpen)
	}
	_, err := a.Append(t.Context(), nil, []event.Draft{answering(id, "rejected")})
	require.Equal(t, first.ID, lateFor(t, err).By, "those of another type are not in the way")
	round("orderStatusUpdate", eventlog.MaxOpen-1)
	_, err = a.Append(t.Context(), nil, []event.Draft{answering(id, "rejected")})
	require.Equal(t, first.ID, lateFor(t, err).By)
	round("orderStatusUpdate", 1)
	a.append(t, answering(id, "rejected"))
}

// What is taken in is looked through before the appends wait, and what comes meanwhile
// is not missed.
func TestRequest_BackfillBesideAppends(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	old := a.append(t, with(asking(id), func(d *event.Draft) { d.Awaits = nil }))[0]
	mirror, err := catalog.Default().Mirror()
	require.NoError(t, err)
	require.NoError(t, r.log.MirrorCatalogue(t.Context(), mirror, 1000))

	tx, err := r.pool.Begin(t.Context()) // an append that holds the lock
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	var answer int64
	require.NoError(t, tx.QueryRow(t.Context(), `SELECT position FROM tailroom.append('c1', '/orders', 'orderStatusUpdate',
		'{"orderId":"1","branchId":"b7","status":"accepted"}', correlation_id => $1)`, id).Scan(&answer))
	more := make(chan error, 1)
	go func() {
		_, err := r.pool.Exec(context.WithoutCancel(t.Context()), "SELECT tailroom.backfill_requests(10)")
		more <- err
	}()
	require.Eventually(t, func() bool {
		return value[bool](t, r, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	}, 10*time.Second, 5*time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-more)
	require.Equal(t, answer, r.answerTo(t, old.Cursor.Position))
}

// What answers a request is looked for among the events of its talk alone, whatever
// PostgreSQL knows of the table.
func TestRequest_TheFirstAnswerIsFoundByItsTalk(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	group := make([]event.Draft, 500)
	for range 4 {
		for i := range group {
			group[i] = draft("")
		}
		a.append(t, group...)
	}
	own := uuid.Must(uuid.NewV7())
	last := a.append(t, with(answering(own.String(), "accepted"), func(d *event.Draft) { d.ID = own }))[0].Cursor.Position
	for _, statistics := range []string{"SELECT", "ANALYZE tailroom.events"} {
		_, err := r.pool.Exec(t.Context(), statistics)
		require.NoError(t, err)
		tx, err := r.pool.Begin(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
		for range 8 { // PostgreSQL may think of another plan the sixth time
			for correlation, want := range map[string]int64{own.String(): last, group[7].CorrelationID: 0, "nobody": 0} {
				var first int64
				require.NoError(t, tx.QueryRow(t.Context(), `SELECT coalesce(tailroom.first_answer('c1', '/orders', $1, 'orderStatusUpdate', '{}', 1), 0)`,
					correlation).Scan(&first))
				require.Equal(t, want, first)
			}
		}
		var read int
		require.NoError(t, tx.QueryRow(t.Context(),
			"SELECT sum(seq_tup_read + idx_tup_fetch)::integer FROM pg_stat_xact_user_tables WHERE relname LIKE 'events%'").Scan(&read))
		require.Less(t, read, 50, statistics)
	}
}

// A story reads no more of an event's many consequences than it shows, and nothing of
// other companies.
func TestStory_ManyConsequences(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	id := talk()
	first := with(draft(""), func(d *event.Draft) { d.CorrelationID = id })
	a.append(t, first)
	follow := func(company string) event.Draft {
		return with(draft(""), tenant(company), func(d *event.Draft) { d.CausationID = uuid.NullUUID{UUID: first.ID, Valid: true} })
	}
	for _, company := range []string{"c2", "c1"} {
		for range 6 {
			group := make([]event.Draft, 400)
			for i := range group {
				group[i] = follow(company)
			}
			a.append(t, group...)
		}
	}
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	var found []int64
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT tailroom.story('c1', $1, 10)", id).Scan(&found))
	require.Equal(t, []int64{1, 2402, 2403, 2404, 2405, 2406, 2407, 2408, 2409, 2410}, found)
	var read int
	require.NoError(t, tx.QueryRow(t.Context(),
		"SELECT sum(seq_tup_read + idx_tup_fetch)::integer FROM pg_stat_xact_user_tables WHERE relname LIKE 'events%'").Scan(&read))
	require.Less(t, read, 50)
}
