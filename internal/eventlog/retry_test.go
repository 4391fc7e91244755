package eventlog_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// duplicate is what a retry of an appended group is told.
func duplicate(receipts []event.Receipt) []event.Receipt {
	list := slices.Clone(receipts)
	for i := range list {
		list[i].Duplicate = true
	}
	return list
}

func TestRetry_InSequence(t *testing.T) {
	t.Parallel()
	for name, group := range map[string][]event.Draft{
		"one event":              {draft("order:1")},
		"a group":                {draft("order:1"), draft(""), draft("order:1")},
		"under a condition":      {with(draft("order:1"), expecting(0)), draft("order:1")},
		"under a condition on 1": {with(draft("order:0"), expecting(1))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			a := r.running(t)
			a.append(t, draft("order:0"))
			first := a.append(t, group...)
			a.append(t, draft("order:1"))
			require.Equal(t, duplicate(first), a.append(t, group...))
			require.Equal(t, duplicate(first), r.running(t).append(t, group...), "on another instance as well")
			require.Len(t, r.all(t), len(group)+2)
			requireConsistent(t, r)
		})
	}
}

func TestRetry_InOneQueue(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	group := []event.Draft{with(draft("order:1"), expecting(0)), draft("")}
	first, second, third := a.submit(t, group...), a.submit(t, group...), a.submit(t, group...)
	a.start()
	receipts := accepted(t, first)
	require.Equal(t, []int64{1, 2}, positions(receipts))
	require.Equal(t, duplicate(receipts), accepted(t, second))
	require.Equal(t, duplicate(receipts), accepted(t, third))
	require.Len(t, r.all(t), 2)
}

// Two instances get the same group at the same moment: both wait for the
// append lock, neither has seen the other's ids.
func TestRetry_OnTwoInstancesAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a, b := r.running(t), r.running(t)
	group := []event.Draft{with(draft("order:1"), expecting(0)), draft("")}
	release := r.holdLock(t)
	tickets := []*eventlog.Ticket{a.submit(t, group...), b.submit(t, group...)}
	r.awaitQueue(t, 2)
	release()

	one, other := accepted(t, tickets[0]), accepted(t, tickets[1])
	if one[0].Duplicate {
		one, other = other, one
	}
	require.Equal(t, []int64{1, 2}, positions(one))
	require.Equal(t, duplicate(one), other)
	require.Len(t, r.all(t), 2)
	requireConsistent(t, r)
}

// A few ids, published again and again by everybody: each is in the log once,
// and everybody is told the same position.
func TestRetry_ByManyAtOnce(t *testing.T) {
	t.Parallel()
	const writers, ids = 8, 25
	r := newRig(t)
	instances := []*instance{r.running(t), r.running(t)}
	shared := make([]event.Draft, ids)
	for i := range shared {
		shared[i] = draft(fmt.Sprintf("order:%d", i%7))
	}
	told := make([][]event.Receipt, writers)
	g, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		told[w] = make([]event.Receipt, ids)
		g.Go(func() error {
			for i := range ids {
				n := (i*7 + w*3) % ids // everybody in another order
				receipts, err := instances[w%2].Append(ctx, nil, []event.Draft{shared[n]})
				if err != nil {
					return err
				}
				told[w][n] = receipts[0]
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Len(t, r.all(t), ids)
	for n := range ids {
		fresh := 0
		for w := range writers {
			require.Equal(t, told[0][n].Cursor, told[w][n].Cursor)
			require.Equal(t, told[0][n].Version, told[w][n].Version)
			if !told[w][n].Duplicate {
				fresh++
			}
		}
		require.Equal(t, 1, fresh, "one of them was the first")
	}
	requireConsistent(t, r)
}

func TestRetry_WithOtherContent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	original := with(draft("order:1"), data(`{"n":1.5,"text":"x","list":[1,2]}`))
	receipts := a.append(t, original)
	for name, change := range map[string]func(*event.Draft){
		"data":           data(`{"n":1.5,"text":"y","list":[1,2]}`),
		"order in data":  data(`{"n":1.5,"text":"x","list":[2,1]}`),
		"namespace":      namespace("/printing-ws"),
		"type":           func(d *event.Draft) { d.Type = "orderCancelled" },
		"rooms":          func(d *event.Draft) { d.Rooms = []string{"branch:b1", "branch:b2"} },
		"stream":         func(d *event.Draft) { d.Stream = "order:2" },
		"no stream":      func(d *event.Draft) { d.Stream = "" },
		"correlation id": func(d *event.Draft) { d.CorrelationID = "another" },
	} {
		_, err := a.Append(t.Context(), nil, []event.Draft{with(original, change)})
		require.ErrorIs(t, err, eventlog.ErrIDReused, name)
	}
	require.Equal(t, duplicate(receipts), a.append(t, with(original, data(` { "text" : "x", "list":[1, 2], "n":15e-1}`))),
		"the same data, written otherwise")
	require.Equal(t, duplicate(receipts), a.append(t, with(original, func(d *event.Draft) { d.OccurredAt = time.Now() })),
		"a default that the retry got anew")
	require.Equal(t, []int64{2}, positions(a.append(t, with(original, tenant("c2")))), "another tenant's id is another id")
	require.Len(t, r.all(t), 2)
	requireConsistent(t, r)
}

func TestRetry_Partial(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	one, two, three := draft("order:1"), draft("order:1"), draft("")
	first := a.append(t, one, two)
	for _, group := range [][]event.Draft{{one, three}, {three, two}, {one, two, three}} {
		_, err := a.Append(t.Context(), nil, slices.Clone(group))
		require.ErrorIs(t, err, eventlog.ErrPartialDuplicate)
	}
	_, err := a.Append(t.Context(), nil, []event.Draft{three, with(one, data(`{"b":2}`))})
	require.ErrorIs(t, err, eventlog.ErrIDReused, "the worse of the two is told")
	require.Equal(t, duplicate(first[1:]), a.append(t, two), "a part alone is a duplicate")
	require.Equal(t, []int64{3}, positions(a.append(t, three)), "the rest is free")
	requireConsistent(t, r)
}

// The connection dies when PostgreSQL has committed and before it could say
// so. The appender finds its own ids in the log, and does not take them for
// somebody else's.
func TestUnknownOutcome_Committed(t *testing.T) {
	t.Parallel()
	for name, group := range map[string][]event.Draft{
		"plain":             {draft("order:1"), draft("")},
		"under a condition": {with(draft("order:1"), expecting(0)), draft("order:1")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			proxy := pgproxy.Start(t, r.dsn)
			a := r.instanceOn(t, proxy.DSN(), patience)
			a.start()
			release := r.holdLock(t)
			ticket := a.submit(t, group...)
			r.awaitQueue(t, 1)
			proxy.Blackhole(true)
			release()
			r.await(t, "SELECT count(*) = 2 FROM tailroom.events")
			proxy.Cut()
			proxy.Blackhole(false)

			receipts := accepted(t, ticket)
			require.Equal(t, []int64{1, 2}, positions(receipts))
			require.False(t, receipts[0].Duplicate || receipts[1].Duplicate, "it was this publish that appended them")
			require.Len(t, r.all(t), 2)
			require.Equal(t, duplicate(receipts), a.append(t, group...))
			requireConsistent(t, r)
		})
	}
}

// The connection dies while the append waits in PostgreSQL, which does not
// notice and appends nevertheless, when its turn comes.
func TestUnknownOutcome_StillRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := pgproxy.Start(t, r.dsn)
	a := r.instanceOn(t, proxy.DSN(), patience)
	a.start()
	release := r.holdLock(t)
	ticket := a.submit(t, with(draft("order:1"), expecting(0)))
	r.awaitQueue(t, 1)
	// The driver's request to cancel does not arrive either: it is over when the
	// one connection there may be is tried anew.
	proxy.Refuse(true)
	a.awaitRetries(t, 2)
	proxy.Refuse(false)
	r.awaitQueue(t, 2) // the abandoned attempt, and the next behind it
	release()
	require.Equal(t, []int64{1}, positions(accepted(t, ticket)))
	require.Equal(t, []int64{2}, positions(a.append(t, draft("order:1"))))
	require.Len(t, r.all(t), 2)
	requireConsistent(t, r)
}

// The line goes dead without a word: the attempt's own time ends it, and what
// it had sent arrives when the line is back.
func TestUnknownOutcome_Blackholed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := pgproxy.Start(t, r.dsn)
	a := r.instanceOn(t, proxy.DSN(), patience)
	a.start()
	a.append(t, draft("order:1"))
	proxy.Blackhole(true)
	ticket := a.submit(t, with(draft("order:1"), expecting(1)))
	a.awaitRetries(t, 1) // the attempt ends by itself
	require.Len(t, r.all(t), 1)
	proxy.Blackhole(false)
	require.Equal(t, []int64{2}, versions(accepted(t, ticket)))
	require.Len(t, r.all(t), 2)
	requireConsistent(t, r)
}

// A connection that cannot be had has not appended anything: a retry that is
// found in the log then was there before.
func TestUnknownOutcome_NotWhenNothingWasSent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	group := []event.Draft{draft("order:1")}
	first := r.running(t).append(t, group...)

	proxy := pgproxy.Start(t, r.dsn)
	a := r.instanceOn(t, proxy.DSN(), patience)
	proxy.Refuse(true)
	a.start()
	ticket := a.submit(t, group...)
	a.awaitRetries(t, 1)
	proxy.Refuse(false)
	require.Equal(t, duplicate(first), accepted(t, ticket))
}

func TestTimeout_WhatStillWaitsIsNeverAppended(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instanceOn(t, r.dsn, moment)
	release := r.holdLock(t)
	a.start()
	underWay := a.submit(t, draft("order:1"))
	r.awaitQueue(t, 1)
	late := draft("order:2")
	waiting := a.submit(t, late)
	_, err := wait(t, waiting)
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	release()
	require.Equal(t, []int64{1}, positions(accepted(t, underWay)), "the attempt that was under way is waited for")
	require.Equal(t, []int64{2}, positions(a.append(t, draft("order:1"))))
	require.Len(t, r.all(t), 2)
	require.Equal(t, []int64{3}, positions(a.append(t, late)), "it may be published again")
}

func TestTimeout_LogAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	proxy := pgproxy.Start(t, r.dsn)
	proxy.Refuse(true)
	a := r.instanceOn(t, proxy.DSN(), moment)
	a.start()
	begin := time.Now()
	first := a.submit(t, draft("order:1")) // tried and tried again
	second := a.submit(t, draft("order:1"))
	for _, ticket := range []*eventlog.Ticket{first, second} {
		_, err := wait(t, ticket)
		require.ErrorIs(t, err, eventlog.ErrUnavailable)
	}
	require.GreaterOrEqual(t, time.Since(begin), moment)
	proxy.Refuse(false)
	require.Equal(t, []int64{1}, versions(a.append(t, draft("order:1"))), "nothing of the others came after all")
	require.Len(t, r.all(t), 1)
}

// A log that refuses every append, such as one whose role has another
// isolation level, is unavailable, and says why.
func TestTimeout_LogRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instanceOn(t, r.dsn+"&default_transaction_isolation=serializable", moment)
	a.start()
	_, err := wait(t, a.submit(t, draft("")))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.ErrorContains(t, err, "READ COMMITTED")
	require.Empty(t, r.all(t))
}

// When the appender stops, what it has taken is appended and what it cannot
// append is told so at once.
func TestRun_Ends(t *testing.T) {
	t.Parallel()
	t.Run("with a log", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		a := r.running(t)
		release := r.holdLock(t)
		ticket := a.submit(t, draft(""))
		r.awaitQueue(t, 1)
		a.cancel()
		release()
		a.stop()
		require.Equal(t, []int64{1}, positions(accepted(t, ticket)))
	})
	t.Run("with a log, and with much to do", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		a := r.running(t)
		release := r.holdLock(t)
		tickets := []*eventlog.Ticket{a.submit(t, draft(""))}
		r.awaitQueue(t, 1)
		for range 50 { // each would be a batch of its own
			tickets = append(tickets, a.submit(t, with(draft("order:1"), expecting(0))))
		}
		a.cancel()
		release()
		a.stop()
		accepted(t, tickets[0])
		for _, ticket := range tickets[1:] {
			_, err := wait(t, ticket)
			require.ErrorIs(t, err, eventlog.ErrUnavailable)
		}
		require.Len(t, r.all(t), 1)
	})
	t.Run("without", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		proxy := pgproxy.Start(t, r.dsn)
		proxy.Refuse(true)
		a := r.instanceOn(t, proxy.DSN(), time.Hour)
		a.start()
		var tickets []*eventlog.Ticket
		for range 50 {
			tickets = append(tickets, a.submit(t, with(draft("order:1"), expecting(0))))
		}
		a.awaitRetries(t, 1)
		a.stop()
		for _, ticket := range tickets {
			_, err := wait(t, ticket)
			require.ErrorIs(t, err, eventlog.ErrUnavailable)
		}
		require.Less(t, a.figure(t, "tailroom_append_retries_total"), 20.0, "not each of them has to find out")
	})
}

// Who stops waiting leaves his group in the queue, and it may be appended.
func TestWait_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	ticket := a.submit(t, draft(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := ticket.Wait(ctx)
	require.ErrorIs(t, err, context.Canceled)
	a.start()
	require.Equal(t, []int64{2}, positions(a.append(t, draft(""))))
}

// Ids that are not distinct break the contract of Submit. They must not break
// the appender for others.
func TestSubmit_SameIDTwiceInAGroup(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	twice := draft("")
	twice.ID = uuid.New()
	bad := a.submit(t, twice, twice)
	a.start()
	_, err := wait(t, bad)
	require.ErrorIs(t, err, eventlog.ErrRefused)
	require.Equal(t, []int64{1}, positions(a.append(t, draft(""))))
}
