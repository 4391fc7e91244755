package state_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tailroom/tailroom/internal/event"
)

// One branch's words are not shown to another that writes into its stream, whenever
// it asks and wherever the state is kept: nobody is shown a state who could not read
// each event that is in it.
func TestHeard_AnotherBranchWritesIntoTheStream(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 40)}
	l.project(t)
	l.append(t, draft("c1", "order:7", "newOrder", `{"customerName":"Ada Example"}`, "branch:b1"))
	l.append(t, draft("c1", "order:8", "newOrder", `{"n":8}`, "branch:b1", "company:c1"))
	own := l.append(t, draft("c1", "order:8", "orderStatusUpdate", `{"n":9}`, "branch:b1"))
	last := l.append(t, draft("c1", "order:7", "orderStatusUpdate", `{"status":"accepted"}`, "branch:b2"))
	seen := func(at *event.Cursor, rooms ...string) (streams []string) {
		t.Helper()
		states, _ := l.all(t, event.StateQuery{Tenant: "c1", At: at, Rooms: rooms})
		for _, s := range states {
			streams = append(streams, s.Stream)
		}
		return streams
	}
	check := func() {
		t.Helper()
		require.Empty(t, seen(&last, "company:c1", "branch:b2"), "it wrote there, and cannot read the rest")
		require.Equal(t, []string{"order:8"}, seen(&last, "company:c1", "branch:b1"))
		require.Equal(t, []string{"order:7", "order:8"}, seen(&last, "company:c1", "branch:b1", "branch:b2"))
		require.Equal(t, []string{"order:7", "order:8"}, seen(&last), "who hears the whole company")
	}
	l.await(t, last)
	check()
	require.Equal(t, []string{"order:7", "order:8"}, seen(&own, "company:c1", "branch:b1"), "as of before")
	l.rebuild(t)
	check()
	for range 70 { // over a keyframe
		l.makePartitions(t)
		last = l.append(t, draft("c1", "order:7", "orderStatusUpdate", `{"status":"ready"}`, "branch:b2"))
	}
	l.await(t, last)
	l.retain(t, last.Position)
	check()
	l.rebuild(t)
	check()
}

// The rooms of a stream's events are not kept without end: beyond, it is shown to
// those alone who hear the whole company.
func TestHeard_InTooManyRooms(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	r.project(t)
	var last event.Cursor
	for _, room := range rooms(101) {
		last = r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{}`, room))
	}
	hundred := event.Cursor{Epoch: last.Epoch, Position: last.Position - 1}
	r.await(t, last)
	for covered, want := range map[int]int{99: 0, 100: 1} {
		then, _ := r.all(t, event.StateQuery{Tenant: "c1", Rooms: rooms(covered), At: &hundred})
		require.Len(t, then, want, covered)
	}
	now, _ := r.all(t, event.StateQuery{Tenant: "c1", Rooms: rooms(101)})
	require.Empty(t, now)
	now, _ = r.all(t, event.StateQuery{Tenant: "c1"})
	require.Len(t, now, 1)
	require.Equal(t, []string{"*"}, now[0].Heard)
}

// rooms are those of some branches.
func rooms(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("branch:b%d", i))
	}
	return list
}

// What a branch's token is shown, at any moment while the log is written, and the
// events behind it that it hears: together they are the fold of all its events, of
// every stream that it hears all of. Of others it is shown nothing.
func TestProperty_SnapshotThenEventsOfABranch(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 1000)}
	p := l.project(t)
	companies := 0
	rapid.Check(t, func(rt *rapid.T) {
		companies++
		tenant := fmt.Sprintf("c%d", companies)
		drafts := rapid.SliceOfN(genDraft(tenant), 1, 40).Draw(rt, "drafts")
		begin := rapid.IntRange(1, len(drafts)).Draw(rt, "snapshot after")
		token := append(rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"branch:b1", "branch:b2", "branch:b3"}), 0, 2, rapid.ID[string]).Draw(rt, "branches"), "company:"+tenant)
		l.makePartitions(t)
		l.append(t, drafts[:begin]...)
		p.Wake()
		snapshot, cursor := l.snapshot(t, event.StateQuery{Tenant: tenant, Limit: 3, Rooms: token}, nil)
		if begin < len(drafts) {
			l.append(t, drafts[begin:]...)
		}
		shown, live := model{}, model{}
		shown.put(rt, snapshot)
		live.put(rt, snapshot)
		whole := l.everything(t, tenant)
		for _, e := range whole {
			if e.Cursor.Position > cursor.Position && meet(e.Rooms, token) {
				live.fold(rt, e)
			}
		}
		upto := slices.DeleteFunc(slices.Clone(whole), func(e *event.Entry) bool { return e.Cursor.Position > cursor.Position })
		mine := func(_ event.StateKey, s *modelState) bool { return s.heardIn(token) }
		require.Equal(rt, folded(rt, upto).where(mine).lines(), shown.lines(), "shown at %s", cursor)
		want := folded(rt, whole).where(mine)
		require.Equal(rt, want.lines(), live.where(func(key event.StateKey, _ *modelState) bool { return want[key] != nil }).lines(), "from %s on", cursor)
	})
}
