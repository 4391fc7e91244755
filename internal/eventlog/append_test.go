package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

func TestAppend_NumbersPositionsAndVersions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	// One batch: two tenants, two namespaces, events of no stream, and streams
	// that the database's own collation would sort in another order.
	first := a.submit(t, draft("order:1"), draft("order:1"), draft(""))
	second := a.submit(t, with(draft("order:1"), tenant("c2")), with(draft("order:1"), namespace("/printing-ws")))
	third := a.submit(t, draft("order:1"), draft("Order:é"), draft("order:B"), draft("order:a"), draft("Order:é"))
	a.start()

	receipts := slices.Concat(accepted(t, first), accepted(t, second), accepted(t, third))
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, positions(receipts))
	require.Equal(t, []int64{1, 2, 0, 1, 1, 3, 1, 1, 1, 2}, versions(receipts))
	require.Equal(t, 1, value[int](t, r, "SELECT count(DISTINCT recorded_at) FROM tailroom.events"), "it was one batch")

	receipts = a.append(t, draft("order:a"), draft("order:1"))
	require.Equal(t, []int64{11, 12}, positions(receipts))
	require.Equal(t, []int64{2, 4}, versions(receipts))
	requireConsistent(t, r)
}

func TestAppend_StoresWhatWasPublished(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	full := with(draft("order:1"), func(d *event.Draft) {
		d.Rooms = []string{"branch:b2", "company:c1", "branch:b1"}
		d.SchemaVersion = 7
		d.CorrelationID = `a "quoted" correlation`
		d.CausationID = uuid.NullUUID{UUID: uuid.New(), Valid: true}
		d.ReplyBy = time.Date(2031, 1, 2, 3, 4, 5, 678_901_000, time.UTC)
		d.OccurredAt = time.Date(1999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	})
	bare := with(draft(""), func(d *event.Draft) { d.Actor = "" }, data(`{"nested": {"text": "a\"b\\ c", "n": 1.50}}`))
	published := []event.Draft{full, bare}
	before := time.Now().Add(-time.Second)
	receipts := a.append(t, published...)

	stored := r.all(t)
	require.Len(t, stored, 2)
	for i, e := range stored {
		d := published[i]
		require.Equal(t, event.Receipt{Cursor: e.Cursor, ID: e.ID, Stream: e.Stream, Version: e.Version}, receipts[i])
		require.WithinRange(t, e.RecordedAt, before, time.Now().Add(time.Second))
		require.Equal(t, event.Draft{
			ID: d.ID, Tenant: d.Tenant, Namespace: d.Namespace, Type: d.Type, SchemaVersion: d.SchemaVersion, Rooms: d.Rooms,
			Stream: d.Stream, OccurredAt: d.OccurredAt, Actor: d.Actor, CorrelationID: d.CorrelationID,
			CausationID: d.CausationID, ReplyBy: d.ReplyBy, Data: e.Data,
		}, event.Draft{
			ID: e.ID, Tenant: e.Tenant, Namespace: e.Namespace, Type: e.Type, SchemaVersion: e.SchemaVersion, Rooms: e.Rooms,
			Stream: e.Stream, OccurredAt: e.OccurredAt.UTC(), Actor: e.Actor, CorrelationID: e.CorrelationID,
			CausationID: e.CausationID, ReplyBy: inUTC(e.ReplyBy), Data: e.Data,
		})
	}
	want := []string{`{"a":1}`, `{"nested":{"n":1.50,"text":"a\"b\\ c"}}`} // in jsonb's order of keys
	require.Equal(t, want, []string{string(stored[0].Data), string(stored[1].Data)})
}

func inUTC(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

func TestAppend_NotifiesOncePerBatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	conn, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "LISTEN tailroom")
	require.NoError(t, err)

	a := r.instance(t)
	first, second := a.submit(t, drafts(2)...), a.submit(t, draft(""))
	a.start()
	accepted(t, first)
	accepted(t, second)
	a.append(t, draft(""))

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, want := range []string{"1:3", "4:4"} {
		n, err := conn.WaitForNotification(ctx)
		require.NoError(t, err)
		require.Equal(t, want, n.Payload)
	}
}

// Every way a group can fare, in one batch: nobody's fate touches another's.
func TestAppend_VerdictsAreIndependent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	known, other := draft("order:known"), draft("order:known")
	early := a.submit(t, known, other)
	a.start()
	accepted(t, early)
	a.stop()

	a = r.instance(t)
	fine := a.submit(t, draft("order:1"))
	conflict := a.submit(t, draft("order:2"), with(draft("order:known"), expecting(7)))
	retry := a.submit(t, known, other)
	poisoned := a.submit(t, draft("order:2"), with(draft(""), data(`{"a":"\u0000"}`)))
	reused := a.submit(t, with(draft("order:2"), func(d *event.Draft) { d.ID = known.ID }, tenant("c2")),
		with(draft("order:2"), tenant("c2")))
	partial := a.submit(t, draft("order:2"), other)
	met := a.submit(t, with(draft("order:3"), expecting(0)), draft("order:3"))
	last := a.submit(t, draft("order:1"))
	a.start()

	require.Equal(t, []int64{1}, versions(accepted(t, fine)))
	_, err := wait(t, conflict)
	var wrong *eventlog.VersionConflictError
	require.ErrorAs(t, err, &wrong)
	require.Equal(t, []eventlog.Conflict{{Index: 1, Namespace: "/orders", Stream: "order:known", Expected: 7, Current: 2}}, wrong.Conflicts)
	receipts := accepted(t, retry)
	require.Equal(t, []int64{1, 2}, positions(receipts))
	require.True(t, receipts[0].Duplicate && receipts[1].Duplicate)
	_, err = wait(t, poisoned)
	require.ErrorIs(t, err, eventlog.ErrRefused)
	require.Equal(t, []int64{1, 2}, versions(accepted(t, reused)), "ids are a tenant's own")
	_, err = wait(t, partial)
	require.ErrorIs(t, err, eventlog.ErrPartialDuplicate)
	require.Equal(t, []int64{1, 2}, versions(accepted(t, met)))
	require.Equal(t, []int64{2}, versions(accepted(t, last)))
	require.Len(t, r.all(t), 8)
	requireConsistent(t, r)
}

func TestAppend_ExpectedVersion(t *testing.T) {
	t.Parallel()
	conflict := func(index int, stream string, expected, current int64) eventlog.Conflict {
		return eventlog.Conflict{Index: index, Namespace: "/orders", Stream: stream, Expected: expected, Current: current}
	}
	for name, test := range map[string]struct {
		group     []event.Draft
		versions  []int64
		conflicts []eventlog.Conflict
	}{
		"0, and it does not exist": {
			group: []event.Draft{with(draft("order:new"), expecting(0))}, versions: []int64{1},
		},
		"0, and it exists": {
			group:     []event.Draft{with(draft("order:two"), expecting(0))},
			conflicts: []eventlog.Conflict{conflict(0, "order:two", 0, 2)},
		},
		"right": {
			group: []event.Draft{with(draft("order:two"), expecting(2))}, versions: []int64{3},
		},
		"too low": {
			group:     []event.Draft{with(draft("order:two"), expecting(1))},
			conflicts: []eventlog.Conflict{conflict(0, "order:two", 1, 2)},
		},
		"too high": {
			group:     []event.Draft{with(draft("order:two"), expecting(3))},
			conflicts: []eventlog.Conflict{conflict(0, "order:two", 3, 2)},
		},
		"of what does not exist": {
			group:     []event.Draft{with(draft("order:new"), expecting(1))},
			conflicts: []eventlog.Conflict{conflict(0, "order:new", 1, 0)},
		},
		"before the group's first event of the stream": {
			group: []event.Draft{
				draft(""), with(draft("order:two"), expecting(2)), draft("order:one"),
				with(draft("order:two"), expecting(2)), draft("order:two"),
			},
			versions: []int64{0, 3, 2, 4, 5},
		},
		"of several streams, all right": {
			group: []event.Draft{
				with(draft("order:two"), expecting(2)), with(draft("order:new"), expecting(0)), with(draft("order:one"), expecting(1)),
			},
			versions: []int64{3, 1, 2},
		},
		"of several streams, some wrong": {
			group: []event.Draft{
				with(draft("order:two"), expecting(0)), with(draft("order:new"), expecting(0)),
				with(draft("order:two"), expecting(0)), with(draft("order:one"), expecting(5)),
			},
			conflicts: []eventlog.Conflict{conflict(0, "order:two", 0, 2), conflict(3, "order:one", 5, 1)},
		},
		"of the same name elsewhere": {
			group: []event.Draft{
				with(draft("order:two"), expecting(0), namespace("/printing-ws")), with(draft("order:two"), expecting(2)),
			},
			versions: []int64{1, 3},
		},
		"of the same name elsewhere, wrong": {
			group: []event.Draft{
				with(draft("order:two"), expecting(2)), with(draft("order:two"), expecting(2), namespace("/printing-ws")),
			},
			conflicts: []eventlog.Conflict{{Index: 1, Namespace: "/printing-ws", Stream: "order:two", Expected: 2}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			a := r.running(t)
			a.append(t, draft("order:one"), draft("order:two"), draft("order:two"), with(draft("order:new"), tenant("c2")))
			receipts, err := a.Append(t.Context(), nil, slices.Clone(test.group))
			if test.conflicts == nil {
				require.NoError(t, err)
				require.Equal(t, test.versions, versions(receipts))
				require.Len(t, r.all(t), 4+len(test.group))
				return
			}
			var wrong *eventlog.VersionConflictError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, test.conflicts, wrong.Conflicts)
			require.Len(t, r.all(t), 4, "nothing of the group is appended")
			require.Equal(t, 4, value[int](t, r, "SELECT count(*) FROM tailroom.recent_ids"), "its ids are free")
			require.Equal(t, []int64{1}, versions(a.append(t, draft("order:fresh"))))
		})
	}
}

// Optimistic writers on two instances lose no update: each counts a stream up
// from the version it saw, and comes again when somebody was faster.
func TestAppend_ExpectedVersionUnderContention(t *testing.T) {
	t.Parallel()
	const writers, increments = 8, 10
	r := newRig(t)
	instances := []*instance{r.running(t), r.running(t)}
	g, ctx := errgroup.WithContext(t.Context())
	for w := range writers {
		g.Go(func() error {
			seen := int64(0)
			for range increments {
				for {
					receipts, err := instances[w%2].Append(ctx, nil, []event.Draft{with(draft("counter:1"), expecting(seen))})
					if wrong, ok := errors.AsType[*eventlog.VersionConflictError](err); ok {
						if current := wrong.Conflicts[0].Current; current <= seen {
							return fmt.Errorf("expected %d, told that it is %d", seen, current)
						}
						seen = wrong.Conflicts[0].Current
						continue
					}
					if err != nil {
						return err
					}
					if receipts[0].Version != seen+1 {
						return fmt.Errorf("expected %d, became %d", seen, receipts[0].Version)
					}
					seen++
					break
				}
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	require.Len(t, r.all(t), writers*increments)
	requireConsistent(t, r)
}

// Whatever comes at once, from whomever: versions are dense, positions are
// each given once, receipts are true, and what one source publishes stays in
// the order it was published in.
func TestAppend_ManyAtOnce(t *testing.T) {
	t.Parallel()
	const sources, groups = 10, 30
	r := newRig(t)
	instances := []*instance{r.running(t), r.running(t)}
	receipts := make([][]event.Receipt, sources)
	g, ctx := errgroup.WithContext(t.Context())
	for source := range sources {
		g.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(source), 1))
			var tickets []*eventlog.Ticket
			for range groups {
				group := make([]event.Draft, 1+random.IntN(4))
				for i := range group {
					group[i] = with(draft(fmt.Sprintf("order:%d", random.IntN(6))), tenant(fmt.Sprintf("c%d", random.IntN(3))))
					if random.IntN(10) == 0 {
						group[i].Stream = ""
					}
				}
				if random.IntN(4) == 0 && group[0].Stream != "" { // so that groups must wait for each other
					group[0].ExpectedVersion = event.Expectation{Version: int64(random.IntN(3)), Set: true}
				}
				ticket, err := instances[source%2].Submit(source, group)
				if err != nil {
					return err
				}
				tickets = append(tickets, ticket)
			}
			for _, ticket := range tickets {
				got, err := ticket.Wait(ctx)
				if _, conflict := errors.AsType[*eventlog.VersionConflictError](err); conflict {
					continue
				}
				if err != nil {
					return err
				}
				receipts[source] = append(receipts[source], got...)
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	requireConsistent(t, r)

	stored := r.all(t)
	byPosition := map[int64]*event.Entry{}
	for _, e := range stored {
		byPosition[e.Cursor.Position] = e
	}
	for source, list := range receipts {
		require.True(t, slices.IsSortedFunc(list, func(a, b event.Receipt) int { return int(a.Cursor.Position - b.Cursor.Position) }),
			"source %d's order is kept", source)
		for _, got := range list {
			e := byPosition[got.Cursor.Position]
			require.NotNil(t, e)
			require.Equal(t, event.Receipt{Cursor: e.Cursor, ID: e.ID, Stream: e.Stream, Version: e.Version}, got)
			delete(byPosition, got.Cursor.Position)
		}
	}
	require.Empty(t, byPosition, "nothing is in the log that nobody has a receipt for")
}

// A group that must wait for the next batch holds back what its source
// published later, and nobody else.
func TestAppend_KeepsTheOrderOfASource(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	submit := func(source any, d event.Draft) *eventlog.Ticket {
		ticket, err := a.Submit(source, []event.Draft{d})
		require.NoError(t, err)
		return ticket
	}
	conditional := submit("x", with(draft("order:1"), expecting(0)))
	waits := submit("y", draft("order:1")) // it would spoil the verdict
	behind := submit("y", draft("order:2"))
	overtakes := submit("z", draft("order:3"))
	anonymous := submit(nil, with(draft("order:1"), expecting(2)))
	free := submit(nil, draft("order:4"))
	a.start()

	got := map[string]int64{}
	for name, ticket := range map[string]*eventlog.Ticket{
		"conditional": conditional, "waits": waits, "behind": behind, "overtakes": overtakes, "anonymous": anonymous, "free": free,
	} {
		got[name] = accepted(t, ticket)[0].Cursor.Position
	}
	require.Equal(t, map[string]int64{
		"conditional": 1, "overtakes": 2, "free": 3, // one batch
		"waits": 4, "behind": 5, // the next
		"anonymous": 6,
	}, got)
}

// One value that PostgreSQL cannot store fails the statement for everybody in
// the batch; only its own group is to notice.
func TestAppend_RefusedValuesAreFound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	poison := map[int]event.Draft{
		3:  with(draft("order:1"), data(`{"a":"\u0000"}`)),
		4:  with(draft("order:1"), data(`{"a":"\ud800"}`)),
		11: with(draft("order:1"), data(`{"a":`)),
		17: with(draft("order:1"), data(`{"a":1e200000}`)),
		25: with(draft("order:\x00")),
		26: with(draft("order:1"), func(d *event.Draft) { d.CorrelationID = randomText(9000) }),
	}
	tickets := make([]*eventlog.Ticket, 32)
	for i := range tickets {
		group := []event.Draft{draft("order:1"), draft("order:1")}
		if bad, ok := poison[i]; ok {
			group[1] = bad
		}
		ticket, err := a.Submit("source", group)
		require.NoError(t, err)
		tickets[i] = ticket
	}
	a.start()

	version := int64(0)
	for i, ticket := range tickets {
		receipts, err := wait(t, ticket)
		if _, bad := poison[i]; bad {
			require.ErrorIs(t, err, eventlog.ErrRefused, i)
			continue
		}
		require.NoError(t, err, i)
		require.Equal(t, []int64{version + 1, version + 2}, versions(receipts), "in order, and without a hole")
		version += 2
	}
	require.Len(t, r.all(t), 2*(len(tickets)-len(poison)))
	requireConsistent(t, r)
}

// randomText does not compress, so that an index has to take all of it.
func randomText(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, n)
	for i := range text {
		text[i] = byte('!' + random.IntN(90))
	}
	return string(text)
}

// A tenant may fill a quarter of the queue, all tenants together the whole.
func TestAppend_OverloadIsRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		each event.Draft
		want int // of one tenant
	}{
		"groups": {draft(""), 5000},
		"bytes":  {with(draft(""), data(strings.Repeat(" ", 1<<20))), 15}, // 16 MiB, and each is a little more than one
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			a := r.instanceOn(t, r.dsn, time.Millisecond)
			fill := func(company string) (tickets []*eventlog.Ticket) {
				for {
					ticket, err := a.Submit(nil, []event.Draft{with(test.each, tenant(company))})
					if err != nil {
						require.ErrorIs(t, err, eventlog.ErrOverloaded)
						return tickets
					}
					tickets = append(tickets, ticket)
				}
			}
			first := fill("c1")
			require.Len(t, first, test.want)
			for _, company := range []string{"c2", "c3", "c4"} {
				require.Len(t, fill(company), test.want, "others have room")
			}
			require.Empty(t, fill("c1"))
			if name == "groups" {
				require.Empty(t, fill("c5"), "the queue is full")
			}
			require.Greater(t, a.figure(t, "tailroom_append_overloaded_total"), 4.0)

			for _, ticket := range first[:3] {
				_, err := wait(t, ticket)
				require.ErrorIs(t, err, eventlog.ErrUnavailable)
			}
			require.Len(t, fill("c1"), 3, "who gives up makes room")
		})
	}
}

// What has been taken for a batch takes no room in the queue any more.
func TestAppend_TheQueueEmpties(t *testing.T) {
	t.Parallel()
	a := newRig(t).running(t)
	large := with(draft(""), data(strings.Repeat(" ", 1<<20)))
	for range 20 { // MiB, more than may wait at once; PostgreSQL refuses them without ado
		_, err := a.Append(t.Context(), nil, []event.Draft{large})
		require.ErrorIs(t, err, eventlog.ErrRefused)
	}
	a.append(t, draft(""))
}

// A group that is larger than a batch may be is a batch of its own.
func TestAppend_LargeGroups(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.instance(t)
	before, large, after := a.submit(t, drafts(2)...), a.submit(t, drafts(1000)...), a.submit(t, drafts(2)...)
	a.start()
	require.Equal(t, []int64{1, 2}, positions(accepted(t, before)))
	require.Len(t, accepted(t, large), 1000)
	require.Equal(t, []int64{1003, 1004}, positions(accepted(t, after)))
	requireConsistent(t, r)
}

func TestAppendBatch_RefusesOldSnapshots(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, level := range []pgx.TxIsoLevel{pgx.RepeatableRead, pgx.Serializable} {
		tx, err := r.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: level})
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), appendOne)
		require.NoError(t, tx.Rollback(t.Context()))
		requireState(t, err, "TR003")
	}
	require.Empty(t, r.all(t))
}

// What is acknowledged is on disk, whatever the session would like.
func TestAppendBatch_IsDurable(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SET LOCAL synchronous_commit = off")
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), appendOne)
	require.NoError(t, err)
	var setting string
	require.NoError(t, tx.QueryRow(t.Context(), "SHOW synchronous_commit").Scan(&setting))
	require.Equal(t, "on", setting)
}

// A rolled-back append leaves a hole, and nothing else.
func TestAppendBatch_RolledBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft("order:1"))
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), appendOne)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, err)

	receipts := a.append(t, draft("order:1"))
	require.Equal(t, []int64{3}, positions(receipts))
	require.Equal(t, []int64{2}, versions(receipts))
	requireConsistent(t, r)
}

// appendOne is tailroom.append_batch of one event of the stream order:1.
const appendOne = `SELECT tailroom.append_batch(false, 0, 0, 'infinity', '{}', '{c1}', '{/orders}', '{order:1}', '{1}', '{1}', '{-1}',
	'{c1}', '{/orders}', '{newOrder}', '{1}', ARRAY[gen_random_uuid()], '{branch:b1}', '{1}', '{1}', '{2026-01-31Z}',
	'{""}', '{x}', '{NULL}', '{0001-01-01 00:00:00Z}', '{"{}"}')`
