package eventlog

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

func testQueue() *queue { return newQueue(NewAppendMetrics(prometheus.NewRegistry())) }

// group is some events of a tenant, of no source and about no stream.
func group(tenant string, events int, changes ...func(*pending)) *pending {
	g := &pending{drafts: make([]event.Draft, events)}
	for i := range g.drafts {
		g.drafts[i] = event.Draft{Tenant: tenant, ID: uuid.New()}
	}
	g.bytes = events * 500
	for _, change := range changes {
		change(g)
	}
	return g
}

func from(source any) func(*pending) { return func(g *pending) { g.source = source } }

func weighing(bytes int) func(*pending) { return func(g *pending) { g.bytes = bytes } }

func about(stream string) func(*pending) {
	return func(g *pending) { g.drafts[0].Stream = stream }
}

func expecting(version int64) func(*pending) {
	return func(g *pending) { g.drafts[0].ExpectedVersion = event.Expectation{Version: version, Set: true} }
}

// add lets n groups wait that make returns.
func add(t testing.TB, q *queue, n int, makeGroup func() *pending) []*pending {
	t.Helper()
	list := make([]*pending, n)
	for i := range list {
		list[i] = makeGroup()
		require.True(t, q.add(list[i]))
	}
	return list
}

// given is how many events each tenant has in a batch.
func given(b *batch) map[string]int {
	events := map[string]int{}
	for _, g := range b.groups {
		events[g.tenant()] += len(g.drafts)
	}
	return events
}

// requireEmpty requires that nothing is left of what has waited.
func requireEmpty(t *testing.T, q *queue) {
	t.Helper()
	require.Empty(t, q.take().groups)
	require.Zero(t, q.groups)
	require.Zero(t, q.bytes)
	require.Empty(t, q.lanes)
	require.Empty(t, q.turns)
	require.Empty(t, q.lines)
	require.Empty(t, q.closed)
}

// Who comes anew waits for no backlog but his own, however many there are.
func TestQueue_NewcomersGoFirst(t *testing.T) {
	t.Parallel()
	for _, busy := range []int{1, 3, 100} {
		q := testQueue()
		for tenant := range busy {
			add(t, q, min(maxTenantGroups, maxQueueGroups/busy)-10, func() *pending { return group(fmt.Sprint(tenant), 1) })
		}
		for range 10 {
			require.NotEmpty(t, q.take().groups)
		}
		add(t, q, 3, func() *pending { return group("quiet", 1) })
		b := q.take()
		require.Equal(t, "quiet", b.groups[0].tenant(), "beside %d", busy)
		require.Equal(t, 3, given(b)["quiet"], "beside %d", busy)
	}
}

// Of those who have had nothing lately, the first to come is the first.
func TestQueue_NewcomersGoInOrder(t *testing.T) {
	t.Parallel()
	q := testQueue()
	n := 0
	groups := add(t, q, 600, func() *pending { n++; return group(fmt.Sprint(n), 1) })
	require.Equal(t, groups[:500], q.take().groups)
	groups = append(groups[500:], add(t, q, 100, func() *pending { n++; return group(fmt.Sprint(n), 1) })...)
	require.Equal(t, groups, q.take().groups)
	requireEmpty(t, q)
}

// Tenants that all have a backlog share the log by what their groups cost,
// whether these are many or large, of many events or of much data.
func TestQueue_BacklogsShare(t *testing.T) {
	t.Parallel()
	q := testQueue()
	add(t, q, 4000, func() *pending { return group("singles", 1) })
	add(t, q, 400, func() *pending { return group("tens", 10) })
	add(t, q, 4, func() *pending { return group("thousands", 1000) })
	// As much of a batch in bytes as ten events are in number.
	add(t, q, 400, func() *pending { return group("bytes", 1, weighing(10*maxBatchBytes/maxBatchEvents)) })
	events := map[string]int{}
	for events["thousands"] < 3000 {
		for tenant, n := range given(q.take()) {
			events[tenant] += n
		}
	}
	require.InDelta(t, 2000, events["singles"], 200, "when the third thousand is taken, two are paid for")
	require.InDelta(t, 2000, events["tens"], 200)
	require.InDelta(t, 200, events["bytes"], 20)
}

// To wait with the next group until the last one is answered is worth no more
// than to have them all wait.
func TestQueue_EmptyLanesAreRemembered(t *testing.T) {
	t.Parallel()
	q := testQueue()
	add(t, q, maxTenantGroups, func() *pending { return group("backlog", 1) })
	events := map[string]int{}
	var last *pending
	for range 24 {
		if last == nil || last.in == nil {
			last = group("one at a time", 500)
			require.True(t, q.add(last))
		}
		for tenant, n := range given(q.take()) {
			events[tenant] += n
		}
	}
	require.InDelta(t, events["backlog"], events["one at a time"], 500)
}

// Nobody gains by having been away, and nobody is made to pay twice.
func TestQueue_TimeAwayIsNoCredit(t *testing.T) {
	t.Parallel()
	q := testQueue()
	add(t, q, 1000, func() *pending { return group("a", 1) })
	add(t, q, 1, func() *pending { return group("b", 1) })
	for range 4 {
		q.take()
	}
	add(t, q, 500, func() *pending { return group("b", 1) })
	events := map[string]int{}
	for range 2 {
		for tenant, n := range given(q.take()) {
			events[tenant] += n
		}
	}
	require.InDelta(t, events["a"], events["b"], 2)
}

// The batches of a tenant who is busy alone are short, for the sake of who comes
// meanwhile; those of many are full.
func TestQueue_SizeOfABatch(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tenants int
		each    func(tenant string) *pending
		want    []int // events in the first batches
	}{
		"one tenant":           {1, func(s string) *pending { return group(s, 1) }, []int{125, 125}},
		"two tenants":          {2, func(s string) *pending { return group(s, 1) }, []int{250, 250}},
		"five tenants":         {5, func(s string) *pending { return group(s, 1) }, []int{500, 500}},
		"groups of a hundred":  {1, func(s string) *pending { return group(s, 100) }, []int{100, 100}},
		"of a thousand":        {5, func(s string) *pending { return group(s, 1000) }, []int{1000, 1000}},
		"of a tenth in bytes":  {1, func(s string) *pending { return group(s, 1, weighing(maxBatchBytes/10)) }, []int{2, 2}},
		"of twice the bytes":   {5, func(s string) *pending { return group(s, 1, weighing(2*maxBatchBytes)) }, []int{1, 1}},
		"of a seventh, by all": {5, func(s string) *pending { return group(s, 1, weighing(maxBatchBytes/7)) }, []int{5, 5}},
	} {
		q := testQueue()
		for tenant := range test.tenants {
			add(t, q, min(300, maxQueueBytes/5/test.each("").bytes), func() *pending { return test.each(fmt.Sprint(tenant)) })
		}
		for _, want := range test.want {
			require.Equal(t, want, q.take().events, name)
		}
	}
}

// What must wait for the next batch keeps nobody back but what depends on it.
func TestQueue_ConflictsStandAside(t *testing.T) {
	t.Parallel()
	q := testQueue()
	hot := add(t, q, 50, func() *pending { return group("c1", 1, about("order:1"), expecting(0)) })
	same := group("c1", 1)
	again := group("c1", 1)
	again.drafts[0].ID = same.drafts[0].ID
	require.True(t, q.add(same))
	require.True(t, q.add(again))
	others := add(t, q, 20, func() *pending { return group("c1", 1) })

	require.Equal(t, slices.Concat(hot[:1], []*pending{same}, others), q.take().groups)
	require.Equal(t, []*pending{hot[1], again}, q.take().groups)
	late := add(t, q, 2, func() *pending { return group("c1", 1, about("order:1")) })
	for _, g := range hot[2:] {
		require.Equal(t, []*pending{g}, q.take().groups, "one at a time, in order")
	}
	require.Equal(t, late, q.take().groups, "those under no condition may be together")
	requireEmpty(t, q)
}

// A source that publishes for several tenants: a later group waits for an
// earlier one in another lane, whichever has the turn.
func TestQueue_SourcesSpanLanes(t *testing.T) {
	t.Parallel()
	q := testQueue()
	add(t, q, 300, func() *pending { return group("busy", 1) })
	behind := group("busy", 1, from("s")) // the backlog of its lane
	first := group("quiet", 1, from("s")) // and this one behind it, though its lane is empty
	require.True(t, q.add(behind))
	require.True(t, q.add(first))
	other := group("quiet", 1)
	require.True(t, q.add(other))

	b := q.take()
	require.Equal(t, 125, given(b)["busy"])
	require.Contains(t, b.groups, other)
	require.NotContains(t, b.groups, first)
	q.take()
	b = q.take()
	require.Equal(t, []*pending{behind, first}, b.groups[len(b.groups)-2:], "both in one batch, in order")
	requireEmpty(t, q)
}

// Who gives up lets those come forward who stood behind him, wherever he stood.
func TestQueue_Remove(t *testing.T) {
	t.Parallel()
	q := testQueue()
	hot := add(t, q, 4, func() *pending { return group("c1", 1, about("order:1"), expecting(0), from("s")) })
	free := group("c1", 1, from("s"))
	require.True(t, q.add(free))
	other := group("c1", 1, about("order:1"))
	require.True(t, q.add(other))

	require.True(t, q.remove(hot[0]), "from the lane")
	require.Equal(t, hot[1:2], q.take().groups)
	require.True(t, q.remove(hot[3]), "from the source's line")
	require.True(t, q.remove(hot[2]), "from the stream's line, as the first of its source")
	require.False(t, q.remove(hot[2]), "once")
	require.False(t, q.remove(hot[1]), "it was taken")
	require.ElementsMatch(t, []*pending{other, free}, q.take().groups)
	requireEmpty(t, q)
}

// A group may be larger than all that a tenant may let wait: then it waits
// alone.
func TestQueue_GroupsLargerThanTheLimits(t *testing.T) {
	t.Parallel()
	q := testQueue()
	for _, tenant := range []string{"a", "b", "c"} {
		require.True(t, q.add(group(tenant, 1, weighing(maxTenantBytes+1))))
		require.False(t, q.add(group(tenant, 1)))
	}
	require.False(t, q.add(group("d", 1, weighing(maxQueueBytes))))
	require.True(t, q.add(group("d", 1)))
	for range 4 {
		require.Len(t, q.take().groups, 1)
	}
	require.True(t, q.add(group("d", 1, weighing(maxQueueBytes+1))))
	require.Len(t, q.take().groups, 1)
	requireEmpty(t, q)
}

func TestQueue_Figures(t *testing.T) {
	t.Parallel()
	figures := prometheus.NewRegistry()
	q := newQueue(NewAppendMetrics(figures))
	requireFigures := func(groups, bytes float64) {
		t.Helper()
		families, err := figures.Gather()
		require.NoError(t, err)
		got := map[string]float64{}
		for _, f := range families {
			got[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
		}
		require.InDelta(t, groups, got["tailroom_append_waiting"], 0)
		require.InDelta(t, bytes, got["tailroom_append_waiting_bytes"], 0)
	}
	requireFigures(0, 0)
	add(t, q, 200, func() *pending { return group("c1", 1) })
	large := group("c2", 1, weighing(1<<20))
	require.True(t, q.add(large))
	requireFigures(201, 200*500+1<<20)
	require.True(t, q.remove(large))
	requireFigures(200, 200*500)
	q.take()
	requireFigures(75, 75*500)
	q.take()
	requireFigures(0, 0)
}

// The rules, by the plainest of means, for whatever is added, taken and removed.
func TestQueue_KeepsTheRules(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 8))
		q := testQueue()
		var waiting []*pending // in the order they came
		for range 250 {
			switch n := r.IntN(100); {
			case n < 70:
				g := randomGroup(r, waiting)
				require.True(t, q.add(g))
				waiting = append(waiting, g)
			case n < 80 && len(waiting) > 0:
				i := r.IntN(len(waiting))
				require.True(t, q.remove(waiting[i]))
				waiting = slices.Delete(waiting, i, i+1)
			default:
				waiting = requireRules(t, seed, waiting, q.take())
			}
		}
		for len(waiting) > 0 {
			waiting = requireRules(t, seed, waiting, q.take())
		}
		requireEmpty(t, q)
	}
}

// randomGroup is likely to conflict with what waits.
func randomGroup(r *rand.Rand, waiting []*pending) *pending {
	events := 1 + r.IntN(3)
	if r.IntN(30) == 0 {
		events = 1 + r.IntN(600)
	}
	g := group(fmt.Sprint(r.IntN(3)), events)
	if source := r.IntN(6); source > 0 {
		g.source = source
	}
	for i := range min(3, events) {
		d := &g.drafts[i]
		if r.IntN(2) == 0 {
			d.Stream = fmt.Sprint("order:", r.IntN(4))
			d.ExpectedVersion.Set = r.IntN(3) == 0
		}
		if r.IntN(10) == 0 && len(waiting) > 0 {
			if again := waiting[r.IntN(len(waiting))]; again.tenant() == g.tenant() {
				d.ID = again.drafts[0].ID
			}
		}
	}
	return g
}

// requireRules judges a batch, and returns what waits after it.
func requireRules(t *testing.T, seed uint64, waiting []*pending, b *batch) []*pending {
	t.Helper()
	require.Equal(t, len(waiting) > 0, len(b.groups) > 0, "seed %d: something is taken while anything waits", seed)
	if len(b.groups) > 1 {
		require.LessOrEqual(t, b.events, maxBatchEvents, "seed %d", seed)
		require.LessOrEqual(t, b.bytes, maxBatchBytes, "seed %d", seed)
	}
	taken := map[*pending]int{}
	for i, g := range b.groups {
		require.True(t, slices.Contains(waiting, g), "seed %d: nothing comes that does not wait", seed)
		taken[g] = i
		for _, other := range b.groups[:i] {
			require.False(t, conflicts(g, other), "seed %d: no two that conflict share a batch", seed)
		}
	}
	require.Len(t, taken, len(b.groups), "seed %d: nothing comes twice", seed)
	var left []*pending
	last := map[any]int{}       // the place in the batch, by source
	held := map[any]bool{}      // sources of which something is left
	passed := map[string]bool{} // tenants of which something younger was taken
	for _, g := range waiting {
		place, ok := taken[g]
		if !ok {
			left = append(left, g)
			held[g.source] = true
			continue
		}
		if g.source != nil {
			require.False(t, held[g.source], "seed %d: nothing overtakes what is of its source", seed)
			require.GreaterOrEqual(t, place, last[g.source], "seed %d: a source's order is kept", seed)
			last[g.source] = place
		}
	}
	// Only what has to do with another group is passed by a younger one of its
	// tenant.
	for _, g := range slices.Backward(waiting) {
		if _, ok := taken[g]; ok {
			passed[g.tenant()] = true
			continue
		}
		if !passed[g.tenant()] {
			continue
		}
		reason := slices.ContainsFunc(waiting, func(o *pending) bool {
			return o != g && (related(g, o) || g.source != nil && o.source == g.source)
		})
		require.True(t, reason, "seed %d: a group was passed over", seed)
	}
	return left
}

// conflicts and related compare two groups event by event: may they share a
// batch, and do they have an id or a stream in common at all.
func conflicts(a, b *pending) bool {
	return anyPair(a, b, func(x, y *event.Draft) bool {
		return x.ID == y.ID || x.Stream != "" && x.Stream == y.Stream && (x.ExpectedVersion.Set || y.ExpectedVersion.Set)
	})
}

func related(a, b *pending) bool {
	return anyPair(a, b, func(x, y *event.Draft) bool { return x.ID == y.ID || x.Stream != "" && x.Stream == y.Stream })
}

func anyPair(a, b *pending, is func(x, y *event.Draft) bool) bool {
	if a.tenant() != b.tenant() {
		return false
	}
	for i := range min(3, len(a.drafts)) { // randomGroup makes no others of interest
		for j := range min(3, len(b.drafts)) {
			if is(&a.drafts[i], &b.drafts[j]) {
				return true
			}
		}
	}
	return false
}

// BenchmarkQueue empties a full queue.
func BenchmarkQueue(b *testing.B) {
	const n = maxQueueGroups
	drain := func(b *testing.B, q *queue, _ []*pending) {
		b.Helper()
		left := q.groups
		for left > 0 {
			left -= len(q.take().groups)
		}
	}
	giveUp := func(b *testing.B, q *queue, groups []*pending) {
		b.Helper()
		for _, i := range rand.Perm(len(groups)) {
			require.True(b, q.remove(groups[i]))
		}
	}
	for _, c := range []struct {
		name   string
		groups int
		make   func(i int) *pending
		empty  func(*testing.B, *queue, []*pending)
	}{
		{"tenants=4/take", n, func(i int) *pending { return group(fmt.Sprint(i%4), 1) }, drain},
		{"tenants=5000/take", n, func(i int) *pending { return group(fmt.Sprint(i%5000), 1) }, drain},
		{"sources=100/take", n, func(i int) *pending { return group(fmt.Sprint(i%4), 1, from(i%100)) }, drain},
		{"one_stream/take", maxTenantGroups, func(int) *pending { return group("c1", 1, about("order:1"), expecting(0)) }, drain},
		{"many_streams/take", maxTenantGroups, func(i int) *pending {
			return group("c1", 1, about(fmt.Sprint("order:", i/10)), expecting(0))
		}, drain},
		{"tenants=4/remove", n, func(i int) *pending { return group(fmt.Sprint(i%4), 1) }, giveUp},
		{"sources=100/remove", n, func(i int) *pending { return group(fmt.Sprint(i%4), 1, from(i%100)) }, giveUp},
	} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				q := testQueue()
				i := 0
				groups := add(b, q, c.groups, func() *pending { i++; return c.make(i - 1) })
				b.StartTimer()
				c.empty(b, q, groups)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.groups), "ns/group")
		})
	}
}
