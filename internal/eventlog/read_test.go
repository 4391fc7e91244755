package eventlog_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// What the events of a random log are made of, and what is asked of it: the
// last of each list never occurs.
var (
	someTenants      = []string{"c1", "c2", "c3", "nobody"}
	someNamespaces   = []string{"/orders", "/printing-ws", "/empty"}
	someRooms        = []string{"branch:b1", "branch:b2", "branch:b3", "company:c1", "company:c2", "branch:none"}
	someTypes        = []string{"newOrder", "orderCancelled", "driverUpdate", "never"}
	someStreams      = []string{"order:1", "order:2", "order:3", "order:none"}
	someCorrelations = []string{"one", "two", "none"}
)

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

// some are 1 to most different values of a list.
func some(random *rand.Rand, list []string, most int) []string {
	shuffled := slices.Clone(list)
	random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return shuffled[:1+random.IntN(min(most, len(list)))]
}

// newRandom differs from run to run; a test that fails says how it began.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// newRandomRig is a log of random events in small partitions, with holes.
func newRandomRig(t *testing.T, random *rand.Rand) *rig {
	t.Helper()
	r := newSmallRig(t, 100)
	a := r.running(t)
	for n := range 60 {
		group := make([]event.Draft, 1+random.IntN(10))
		var last uuid.UUID
		for i := range group {
			group[i] = with(draft(""), tenant(pick(random, someTenants[:3])), namespace(pick(random, someNamespaces[:2])),
				data(fmt.Sprintf(`{"n":%d,"nested":{"list":[1, 2,  3]}}`, n)), func(d *event.Draft) {
					d.Type = pick(random, someTypes[:3])
					d.Rooms = some(random, someRooms[:5], 1+random.IntN(3))
					switch random.IntN(6) {
					case 0:
						d.CorrelationID = pick(random, someCorrelations[:2])
					case 1: // an answer
						if last != uuid.Nil {
							d.CorrelationID = last.String()
						}
					}
					if random.IntN(3) > 0 {
						d.Stream = pick(random, someStreams[:3])
					}
					last = d.ID
				})
		}
		a.append(t, group...)
		if n%20 == 0 {
			r.exec(t, "SELECT nextval('tailroom.positions')")
		}
		require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	}
	return r
}

// requireSame compares events down to their bytes.
func requireSame(t *testing.T, want, got []*event.Entry, about any) {
	t.Helper()
	lines := func(list []*event.Entry) []string {
		text := make([]string, len(list))
		for i, e := range list {
			text[i] = string(e.JSON())
		}
		return text
	}
	require.Equal(t, lines(want), lines(got), "%+v", about)
}

func filter(list []*event.Entry, match func(*event.Entry) bool) []*event.Entry {
	return slices.DeleteFunc(slices.Clone(list), func(e *event.Entry) bool { return !match(e) })
}

// A page is what a plain filter finds in the whole log.
func TestPage_IsTheLogFiltered(t *testing.T) {
	t.Parallel()
	random := newRandom(t)
	r := newRandomRig(t, random)
	all := r.all(t)
	tip := all[len(all)-1].Cursor
	for range 300 {
		topics := make([]event.Topic, random.IntN(5)) // none is nothing
		everyTenant := random.IntN(6) == 0
		for i := range topics {
			topics[i] = event.Topic{Namespace: pick(random, someNamespaces)}
			if !everyTenant {
				topics[i].Tenant = pick(random, someTenants)
				if random.IntN(3) > 0 {
					topics[i].Room = pick(random, someRooms)
				}
			}
		}
		after := random.Int64N(tip.Position + 1)
		limit := pick(random, []int{1, 2, 3, 10, 50, 1000})
		about := fmt.Sprintf("topics %+v after %d limit %d", topics, after, limit)

		page, err := r.log.Page(t.Context(), topics, after, limit)
		require.NoError(t, err)
		want := filter(all, func(e *event.Entry) bool {
			return e.Cursor.Position > after && slices.ContainsFunc(e.Topics(nil), func(topic event.Topic) bool {
				return slices.Contains(topics, topic)
			})
		})
		next := tip
		if len(want) >= limit {
			want = want[:limit]
			next = want[limit-1].Cursor
		}
		requireSame(t, want, page.Entries, about)
		require.Equal(t, next, page.Next, about)
		require.Equal(t, event.Bounds{Tip: tip}, page.Bounds)
	}
}

// Pages in a row, each from the Next of the one before, are the whole.
func TestPage_InARow(t *testing.T) {
	t.Parallel()
	random := newRandom(t)
	r := newRandomRig(t, random)
	all := r.all(t)
	topics := []event.Topic{
		{Tenant: "c1", Namespace: "/orders", Room: "branch:b1"},
		{Tenant: "c1", Namespace: "/orders", Room: "branch:b2"},
		{Tenant: "c1", Namespace: "/printing-ws"},
	}
	want := filter(all, func(e *event.Entry) bool {
		return e.Tenant == "c1" && (e.Namespace == "/printing-ws" || slices.ContainsFunc(e.Rooms, func(room string) bool {
			return room == "branch:b1" || room == "branch:b2"
		}))
	})
	for _, limit := range []int{1, 7, len(want), len(want) + 1} {
		var got []*event.Entry
		var at event.Cursor
		for pages := 0; ; pages++ {
			require.LessOrEqual(t, pages, len(want))
			page, err := r.log.Page(t.Context(), topics, at.Position, limit)
			require.NoError(t, err)
			got = append(got, page.Entries...)
			if at = page.Next; at == page.Bounds.Tip {
				break
			}
		}
		requireSame(t, want, got, limit)
	}
}

// A page looks only so far, however little it finds, and says how far.
func TestPage_LooksOnlySoFar(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft(""), with(draft(""), tenant("c2")))
	r.exec(t, "SELECT setval('tailroom.positions', 1700000)")
	a.append(t, draft(""))
	for _, topic := range []event.Topic{{Tenant: "c1", Namespace: "/orders"}, {Tenant: "c1", Namespace: "/orders", Room: "branch:b1"}, {Namespace: "/orders"}} {
		var found []int64
		pages, at := 0, cursor(0)
		for at != cursor(1_700_001) {
			page, err := r.log.Page(t.Context(), []event.Topic{topic}, at.Position, 10)
			require.NoError(t, err)
			require.Greater(t, page.Next.Position, at.Position)
			for _, e := range page.Entries {
				found = append(found, e.Cursor.Position)
			}
			at = page.Next
			pages++
		}
		require.Equal(t, 4, pages)
		want := []int64{1, 1_700_001}
		if topic.Tenant == "" {
			want = []int64{1, 2, 1_700_001}
		}
		require.Equal(t, want, found)
	}
}

func TestTail(t *testing.T) {
	t.Parallel()
	random := newRandom(t)
	r := newRandomRig(t, random)
	all := r.all(t)
	for range 30 {
		after, limit := random.Int64N(all[len(all)-1].Cursor.Position+2), 1+random.IntN(len(all))
		got, err := r.log.Tail(t.Context(), after, limit)
		require.NoError(t, err)
		want := filter(all, func(e *event.Entry) bool { return e.Cursor.Position > after })
		requireSame(t, want[:min(limit, len(want))], got, after)
	}
}

// A listing is what a plain filter finds in the whole log.
func TestList_IsTheLogFiltered(t *testing.T) {
	t.Parallel()
	random := newRandom(t)
	r := newRandomRig(t, random)
	all := r.all(t)
	tip := all[len(all)-1].Cursor
	for range 400 {
		q := eventlog.Query{
			Namespaces: some(random, someNamespaces, 3), Limit: pick(random, []int{1, 2, 5, 50, 1000}), Descending: random.IntN(2) == 0,
		}
		maybe := func(set func()) {
			if random.IntN(3) == 0 {
				set()
			}
		}
		if random.IntN(5) > 0 {
			q.Tenant = pick(random, someTenants)
		}
		maybe(func() { q.Rooms = some(random, someRooms, 3) })
		maybe(func() { q.Types = some(random, someTypes, 2) })
		maybe(func() { q.Stream = pick(random, someStreams) })
		maybe(func() {
			q.CorrelationID = pick(random, someCorrelations)
			if random.IntN(2) == 0 {
				q.CorrelationID = pick(random, all).ID.String() // itself, and what answers it
			}
		})
		maybe(func() { q.From = pick(random, all).RecordedAt })
		maybe(func() { q.To = pick(random, all).RecordedAt })
		maybe(func() { q.After = random.Int64N(tip.Position) })
		maybe(func() { q.Before = 1 + random.Int64N(tip.Position) })

		want := filter(all, func(e *event.Entry) bool { return matches(q, e) })
		if q.Descending {
			slices.Reverse(want)
		}
		more := len(want) > q.Limit
		want = want[:min(len(want), q.Limit)]

		list, err := r.log.List(t.Context(), q)
		require.NoError(t, err, "%+v", q)
		var got []*event.Entry
		for e, err := range list.Events(t.Context()) {
			require.NoError(t, err)
			got = append(got, e)
		}
		requireSame(t, want, got, q)
		require.Equal(t, more, list.More, "%+v", q)
		require.Equal(t, len(want), list.Len())
		require.Equal(t, event.Bounds{Tip: tip}, list.Bounds)
		if len(want) > 0 {
			require.Equal(t, want[len(want)-1].Cursor.Position, list.Last())
		} else {
			require.Zero(t, list.Last())
		}
	}
}

// matches is what a Query means.
func matches(q eventlog.Query, e *event.Entry) bool {
	anyOf := func(wanted []string, has ...string) bool {
		return len(wanted) == 0 || slices.ContainsFunc(has, func(s string) bool { return slices.Contains(wanted, s) })
	}
	p := e.Cursor.Position
	return (q.Tenant == "" || e.Tenant == q.Tenant) && slices.Contains(q.Namespaces, e.Namespace) &&
		anyOf(q.Rooms, e.Rooms...) && anyOf(q.Types, e.Type) &&
		(q.Stream == "" || e.Stream == q.Stream) && (q.CorrelationID == "" || e.CorrelationID == q.CorrelationID) &&
		(q.From.IsZero() || !e.RecordedAt.Before(q.From)) && (q.To.IsZero() || e.RecordedAt.Before(q.To)) &&
		p > q.After && (q.Before == 0 || p < q.Before)
}

// A listing is read as it is walked, and a walk may end early.
func TestList_EventsInChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(450)...)
	list, err := r.log.List(t.Context(), eventlog.Query{Namespaces: []string{"/orders"}, Limit: 1000, Descending: true})
	require.NoError(t, err)
	want := int64(450)
	for e, err := range list.Events(t.Context()) {
		require.NoError(t, err)
		require.Equal(t, want, e.Cursor.Position)
		if want--; want == 100 {
			break
		}
	}
	require.Equal(t, int64(100), want)
}

// An event that retention takes away while a listing is walked is an error,
// not a gap.
func TestList_EventsDetachedMeanwhile(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 2)
	r.running(t).append(t, drafts(4)...)
	list, err := r.log.List(t.Context(), eventlog.Query{Namespaces: []string{"/orders"}, Limit: 10})
	require.NoError(t, err)
	r.exec(t, "UPDATE tailroom.log SET floor = 2")
	r.exec(t, "ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1 CONCURRENTLY")
	for _, err := range list.Events(t.Context()) {
		require.ErrorIs(t, err, eventlog.ErrDetached)
	}
}

// A page says where the log begins: a reader below it has missed something.
func TestPage_BelowTheFloor(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 2)
	r.running(t).append(t, drafts(5)...)
	r.exec(t, "UPDATE tailroom.log SET floor = 2")
	r.exec(t, "ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1 CONCURRENTLY")
	for after, entries := range map[int64]int{0: 0, 1: 0, 2: 3, 4: 1} {
		page, err := r.log.Page(t.Context(), []event.Topic{{Tenant: "c1", Namespace: "/orders"}}, after, 10)
		require.NoError(t, err)
		require.Equal(t, event.Bounds{Tip: cursor(5), Floor: 2}, page.Bounds)
		require.Len(t, page.Entries, entries)
	}
}

// What is read at once is bounded in bytes: pages and listings of large events
// are read in pieces, and miss nothing.
func TestRead_LargeEvents(t *testing.T) {
	t.Parallel()
	const events = 24
	r := newRig(t)
	a := r.running(t)
	for n := range events {
		size := 200_000
		if n%5 == 0 {
			size = 10
		}
		a.append(t, with(draft(""), data(fmt.Sprintf(`{"text":%q}`, strings.ReplaceAll(randomText(size), "%", ".")))))
	}
	var all []*event.Entry
	for {
		list, err := r.log.Tail(t.Context(), int64(len(all)), 1000)
		require.NoError(t, err)
		if all = append(all, list...); len(list) == 0 {
			break
		}
	}
	require.Len(t, all, events)

	var paged []*event.Entry
	topics := []event.Topic{{Tenant: "c1", Namespace: "/orders"}}
	at, pages := cursor(0), 0
	for at != cursor(events) {
		page, err := r.log.Page(t.Context(), topics, at.Position, 100)
		require.NoError(t, err)
		require.Greater(t, page.Next.Position, at.Position)
		paged, at = append(paged, page.Entries...), page.Next
		pages++
	}
	requireSame(t, all, paged, "pages")
	require.Greater(t, pages, 3)

	for _, descending := range []bool{false, true} {
		list, err := r.log.List(t.Context(), eventlog.Query{Namespaces: []string{"/orders"}, Limit: 100, Descending: descending})
		require.NoError(t, err)
		var listed []*event.Entry
		for e, err := range list.Events(t.Context()) {
			require.NoError(t, err)
			listed = append(listed, e)
		}
		if descending {
			slices.Reverse(listed)
		}
		requireSame(t, all, listed, "a listing")
	}
}

func cursor(position int64) event.Cursor { return event.Cursor{Epoch: 1, Position: position} }

func TestGet(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	mine := draft("order:1")
	theirs := with(mine, tenant("c2"))
	a.append(t, mine)
	a.append(t, theirs)

	for want, position := range map[eventlog.Lookup]int64{
		{Tenant: "c1", ID: mine.ID}: 1, {Tenant: "c2", ID: mine.ID}: 2, {ID: mine.ID}: 2,
	} {
		e, err := r.log.Get(t.Context(), want)
		require.NoError(t, err)
		require.Equal(t, position, e.Cursor.Position)
	}
	for _, want := range []eventlog.Lookup{{Tenant: "c3", ID: mine.ID}, {Tenant: "c1", ID: uuid.New()}, {ID: uuid.New()}} {
		_, err := r.log.Get(t.Context(), want)
		require.ErrorIs(t, err, eventlog.ErrNotFound)
	}
}

// Data that compress well take no more memory for it.
func TestRead_CompressedEvents(t *testing.T) {
	t.Parallel()
	const size, events, limit = 200_000, 24, 4 << 20
	r := newRig(t)
	a := r.running(t)
	for range events {
		a.append(t, with(draft(""), data(fmt.Sprintf(`{"text":%q}`, strings.Repeat("x", size)))))
	}
	list, err := r.log.Tail(t.Context(), 0, 1000)
	require.NoError(t, err)
	require.Len(t, list, limit/size+1)
}
