package state_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/state"
)

// owner is a connection as a sweep has it.
func (r *rig) owner(t testing.TB) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

// orders appends some events of some streams.
func (r *rig) orders(t testing.TB, n int) event.Cursor {
	t.Helper()
	r.makePartitions(t)
	var last event.Cursor
	for i := range n {
		last = r.append(t, draft("c1", fmt.Sprintf("order:%d", i%9), "orderStatusUpdate", fmt.Sprintf(`{"n":%d,"of%d":[%d]}`, i, i%4, i)))
	}
	return last
}

// A rebuild folds what is in the log by the rules of now, while the states of before
// are served; then nothing is left of them. It can be interrupted.
func TestRebuild(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10_000)
	p := r.project(t)
	last := r.orders(t, 100)
	r.await(t, last)
	want := folded(t, r.entries(t, last.Position))

	writer := pgtest.Writer(r.dsn)
	ctx, interrupt := context.WithCancel(t.Context())
	_, err := state.Rebuild(ctx, writer, closes, func(p state.Progress) {
		if p.Step == "events" {
			interrupt()
		}
	})
	require.ErrorIs(t, err, context.Canceled)
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, want, states)

	stricter := func(string, string, []byte) bool { return true }
	served := 0
	done, err := state.Rebuild(t.Context(), writer, stricter, func(state.Progress) {
		served++
		before, _ := r.all(t, event.StateQuery{Tenant: "c1", At: &last})
		require.Len(t, before, 9)
	})
	require.NoError(t, err)
	require.Positive(t, served)
	require.Equal(t, last, done.Cursor)
	require.EqualValues(t, 100, done.Events)
	states, _ = r.all(t, event.StateQuery{Tenant: "c1"})
	for _, s := range states {
		require.False(t, s.Open)
		want[s.StateKey].open = false
	}
	requireSame(t, want, states)
	require.EqualValues(t, 1, value[int](t, r, "SELECT count(*) FROM tailroom.state_generations"))
	require.EqualValues(t, 9, value[int](t, r, "SELECT count(*) FROM tailroom.states"))

	more := r.append(t, draft("c1", "order:new", "newOrder", `{}`))
	p.Wake()
	r.await(t, more)
	require.Zero(t, p.figure(t, "tailroom_state_restarts_total"))
}

// The later of two rebuilds is the one that counts.
func TestRebuild_TwoAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10_000)
	r.project(t)
	last := r.orders(t, 50)
	r.await(t, last)
	var second error
	once := false
	_, first := state.Rebuild(t.Context(), r.dsn, closes, func(state.Progress) {
		if !once {
			once = true
			_, second = state.Rebuild(t.Context(), r.dsn, closes, func(state.Progress) {})
		}
	})
	require.NoError(t, second)
	require.ErrorContains(t, first, "another rebuild has begun")
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, folded(t, r.entries(t, last.Position)), states)
}

// States that have not come as far as the live ones do not take their place: what
// somebody was given would be unsaid.
func TestRebuild_NotBeforeItHasCaughtUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10_000)
	p := r.project(t)
	last := r.orders(t, 20)
	r.await(t, last)
	p.stop()
	behind := value[int64](t, r, "SELECT tailroom.state_begin(1, $1)", last.Position-1)
	require.False(t, value[bool](t, r, "SELECT tailroom.state_switch($1, false)", behind))
	at, err := r.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Equal(t, last, at)
	level := value[int64](t, r, "SELECT tailroom.state_begin(1, $1)", last.Position)
	require.False(t, value[bool](t, r, "SELECT tailroom.state_switch($1, false)", behind), "it was given up")
	require.True(t, value[bool](t, r, "SELECT tailroom.state_switch($1, false)", level))
}

// What retention drops stays in the states: in the present ones, in those as of a
// cursor, and in those that are made anew; below the floor there are none.
func TestFloor(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 40)}
	p := l.project(t)
	l.orders(t, 30)
	require.ErrorContains(t, state.Closes(closes).RaiseFloor(t.Context(), l.owner(t), 40), "retention waits for them")
	last := l.append(t, draft("c1", "order:early", "newOrder", `{"kept":true}`))
	for range 3 {
		last = l.orders(t, 30)
		l.await(t, last)
		l.retain(t, last.Position)
	}
	require.EqualValues(t, 120, value[int](t, l.rig, "SELECT floor FROM tailroom.log"))
	require.EqualValues(t, 10, value[int](t, l.rig, "SELECT count(*) FROM tailroom.state_floor"), "one for each stream")
	whole := l.everything(t, "c1")
	check := func(position int64) {
		t.Helper()
		states, _ := l.all(t, event.StateQuery{Tenant: "c1", At: &event.Cursor{Epoch: 1, Position: position}})
		requireSame(t, folded(t, whole[:position]), states, position)
	}
	check(120)
	check(121)
	check(last.Position)
	_, err := l.Page(t.Context(), event.StateQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 1, At: &event.Cursor{Epoch: 1, Position: 119}})
	var reset *event.Reset
	require.ErrorAs(t, err, &reset)
	require.Equal(t, []string{event.Expired, "1-120", "1-120"}, []string{reset.Reason, reset.Oldest.String(), reset.Resume.String()})

	l.rebuild(t)
	check(120)
	check(last.Position)

	// A projection that was away while somebody raised the floor past it begins there.
	p.stop()
	last = l.orders(t, 60)
	l.exec(t, "DELETE FROM tailroom.state_generations")
	l.exec(t, "INSERT INTO tailroom.state_generations (status, epoch, position) VALUES ('live', 1, 7)")
	p = l.project(t)
	l.await(t, last)
	whole = l.everything(t, "c1")
	check(last.Position)
	require.EqualValues(t, 1, p.figure(t, "tailroom_state_restarts_total"))
}

// The states of a new floor go on where they were interrupted, and count for nothing
// before the floor is there. What was redacted meanwhile is not in them.
func TestFloor_InterruptedAndRedacted(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 5000)}
	l.project(t)
	l.makePartitions(t)
	batch := make([]event.Draft, 500)
	for n := range 11 {
		for i := range batch {
			batch[i] = draft("c1", fmt.Sprintf("order:%d", i%50), "orderStatusUpdate", fmt.Sprintf(`{"n":%d,"name":"Ada"}`, 500*n+i))
		}
		l.append(t, batch...)
	}
	last := l.tip(t)
	l.await(t, last)
	fold := state.Closes(closes)

	ctx, interrupt := context.WithCancel(t.Context())
	counted := 0
	breaking := func(namespace, name string, data []byte) bool {
		if counted++; counted == 3000 {
			interrupt()
		}
		return closes(namespace, name, data)
	}
	require.Error(t, state.Closes(breaking).RaiseFloor(ctx, l.owner(t), 5000))
	require.EqualValues(t, 2000, value[int](t, l.rig, "SELECT position FROM tailroom.state_floor_progress"))
	require.Zero(t, value[int](t, l.rig, "SELECT floor FROM tailroom.log"))
	l.rebuild(t) // begins at the floor that is
	states, _ := l.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, folded(t, l.entries(t, last.Position)), states)

	l.exec(t, `SELECT tailroom.redact(7, 'request 17', 'officer:1', '{"n":-1}')`)
	require.ErrorContains(t, fold.RaiseFloor(t.Context(), l.owner(t), 5000), "an event was redacted")
	require.Zero(t, value[int](t, l.rig, "SELECT floor FROM tailroom.log"))
	l.await(t, l.tip(t))
	require.Eventually(t, func() bool { return fold.RaiseFloor(t.Context(), l.owner(t), 5000) == nil }, patience, time.Second)
	require.EqualValues(t, 5000, value[int](t, l.rig, "SELECT floor FROM tailroom.log"))
	require.EqualValues(t, 50, value[int](t, l.rig, "SELECT count(*) FROM tailroom.state_floor WHERE position > 4000 AND floor = 5000"))
}

// A time is found by its position.
func TestReader_PositionAt(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	r.project(t)
	at := func(when time.Time) int64 {
		c, err := r.PositionAt(t.Context(), "c1", when)
		require.NoError(t, err)
		return c.Position
	}
	require.Zero(t, at(time.Now()))
	for range 13 {
		r.append(t, draft("c1", "order:1", "newOrder", `{}`))
		r.exec(t, "SELECT nextval('tailroom.positions')") // a hole
	}
	for _, e := range r.entries(t, event.MaxPosition) {
		require.Equal(t, e.Cursor.Position, at(e.RecordedAt))
		require.Less(t, at(e.RecordedAt.Add(-time.Microsecond)), e.Cursor.Position)
	}
	require.Equal(t, r.tip(t).Position, at(time.Now().Add(time.Hour)))
	require.Zero(t, at(time.Now().Add(-time.Hour)))
}

// What a floor has replaced is found by the streams that it has written, however many
// there ever were, and found again after an interruption.
func TestFloor_Prunes(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 40)}
	l.project(t)
	raise := func() {
		t.Helper()
		last := l.orders(t, 45)
		l.await(t, last)
		l.retain(t, last.Position)
	}
	raise()
	l.exec(t, `INSERT INTO tailroom.state_floor (tenant, namespace, stream, floor, version, state, open, incomplete, rooms, heard, position, updated_at)
		SELECT 'c0', '/orders', 'order:' || n, 40, 1, '{}', true, false, '{branch:b1}', '{branch:b1}', 1, now() FROM generate_series(1, 5000) n;
		INSERT INTO tailroom.state_floor (tenant, namespace, stream, floor, version, state, open, incomplete, rooms, heard, position, updated_at)
		SELECT tenant, namespace, stream, 20, version, state, open, incomplete, rooms, heard, position, updated_at FROM tailroom.state_floor WHERE tenant = 'c0';
		ANALYZE tailroom.state_floor`) // as an interruption leaves it
	raise()
	require.EqualValues(t, 5009, value[int](t, l.rig, "SELECT count(*) FROM tailroom.state_floor"), "one for each stream")
	raise()
	require.EqualValues(t, 5009, value[int](t, l.rig, "SELECT count(*) FROM tailroom.state_floor"))
}
