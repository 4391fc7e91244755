package state_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/state"
)

// life is a log that is written, read, retained and rebuilt all at once, and what
// there ever was in it.
type life struct {
	*rig
	history []*event.Entry // of what retention has dropped
}

// everything there ever was, of a company.
func (l *life) everything(t testing.TB, tenant string) []*event.Entry {
	t.Helper()
	var list []*event.Entry
	for _, e := range slices.Concat(l.history, l.entries(t, event.MaxPosition)) {
		if e.Tenant == tenant {
			list = append(list, e)
		}
	}
	return list
}

// retain does what retention does with the partitions that end below a position.
func (l *life) retain(t testing.TB, below int64) {
	t.Helper()
	floor := (below - 1) / l.size * l.size
	conn, err := pgx.Connect(t.Context(), l.dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if floor <= value[int64](t, l.rig, "SELECT floor FROM tailroom.log") {
		return
	}
	gone := l.entries(t, floor)
	require.NoError(t, state.Closes(closes).RaiseFloor(t.Context(), conn, floor))
	l.history = append(l.history, gone...)
	for _, name := range value[[]string](t, l.rig, "SELECT array_agg(name ORDER BY first) FROM tailroom.partitions WHERE beyond <= $1 + 1", floor) {
		l.exec(t, "ALTER TABLE tailroom.events DETACH PARTITION tailroom."+name+" CONCURRENTLY")
		l.exec(t, "DROP TABLE tailroom."+name)
		l.exec(t, "DELETE FROM tailroom.partitions WHERE name = $1", name)
	}
}

func (l *life) rebuild(t testing.TB) {
	t.Helper()
	_, err := state.Rebuild(t.Context(), l.dsn, closes, func(state.Progress) {})
	require.NoError(t, err)
}

// genDraft draws an event: of few streams, so that each has many, to any rooms, with
// a patch of few fields, so that they meet.
func genDraft(tenant string) *rapid.Generator[event.Draft] {
	value := rapid.SampledFrom([]string{`null`, `1`, `1e2`, `"x"`, `[1,null]`, `{}`, `{"x":1}`, `{"x":null,"y":{"x":2}}`, `{"y":{"x":null}}`})
	return rapid.Custom(func(t *rapid.T) event.Draft {
		fields := rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "cc", "é"}), value, 0, 3).Draw(t, "data")
		var members []string
		for name, v := range fields {
			members = append(members, fmt.Sprintf("%q:%s", name, v))
		}
		rooms := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"branch:b1", "branch:b2", "branch:b3", "company:" + tenant}), 1, 3, rapid.ID[string]).Draw(t, "rooms")
		stream := rapid.SampledFrom([]string{"order:1", "order:10", "order:2", "job:1", "order:é", "order:3", ""}).Draw(t, "stream")
		name := rapid.SampledFrom([]string{"newOrder", "newOrder", "newOrder", "orderStatusUpdate", "orderCancelled"}).Draw(t, "type")
		d := draft(tenant, stream, name, "{"+strings.Join(members, ",")+"}", rooms...)
		if rapid.Bool().Draw(t, "printing") {
			d.Namespace = "/printing-ws"
		}
		return d
	})
}

// A snapshot, taken at any moment while the log is written, retained and the states
// are rebuilt, and the events after its cursor come to the same as all events there
// ever were. And every page of states as of any cursor is the fold of the events up to
// there, whatever it is filtered by.
func TestProperty_SnapshotThenEvents(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 60)}
	p := l.project(t)
	companies := 0
	rapid.Check(t, func(rt *rapid.T) {
		companies++
		tenant := fmt.Sprintf("c%d", companies)
		groups := rapid.SliceOfN(rapid.SliceOfN(genDraft(tenant), 1, 12), 1, 12).Draw(rt, "groups")
		begin := rapid.IntRange(0, len(groups)-1).Draw(rt, "snapshot after")
		limit := rapid.IntRange(1, 6).Draw(rt, "limit")
		between := rapid.SliceOfN(rapid.SampledFrom([]string{"", "", "rebuild", "retain"}), 3, 3).Draw(rt, "between pages")

		l.makePartitions(t)
		appended := make(chan event.Cursor, len(groups))
		go func() {
			defer close(appended)
			for _, g := range groups {
				receipts, err := l.Append(t.Context(), nil, g)
				if err != nil {
					t.Errorf("an append failed: %v", err)
					return
				}
				p.Wake()
				appended <- receipts[len(receipts)-1].Cursor
			}
		}()
		var last event.Cursor
		for range begin {
			last = <-appended
		}
		snapshot, cursor := l.snapshot(t, event.StateQuery{Tenant: tenant, Limit: limit}, between)
		for c := range appended {
			last = c
		}

		whole := l.everything(t, tenant)
		live := model{}
		live.put(rt, snapshot)
		for _, e := range whole {
			if e.Cursor.Position > cursor.Position {
				live.fold(rt, e)
			}
		}
		require.Equal(rt, folded(rt, whole).lines(), live.lines(), "from %s on", cursor)

		l.await(t, last)
		floor := value[int64](t, l.rig, "SELECT floor FROM tailroom.log")
		for range 3 {
			at := event.Cursor{Epoch: 1, Position: rapid.Int64Range(max(floor, whole[0].Cursor.Position-2), last.Position).Draw(rt, "as of")}
			q := event.StateQuery{
				Tenant: tenant, Limit: limit, At: &at,
				Rooms:  rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"branch:b1", "branch:b2", "branch:b3"}), 0, 2, rapid.ID[string]).Draw(rt, "rooms"),
				Prefix: rapid.SampledFrom([]string{"", "order:", "order:1", "order:é", "x"}).Draw(rt, "prefix"),
				Open:   rapid.SampledFrom([]*bool{nil, new(true), new(false)}).Draw(rt, "open"),
			}
			upto := slices.DeleteFunc(slices.Clone(whole), func(e *event.Entry) bool { return e.Cursor.Position > at.Position })
			want := folded(rt, upto).where(func(key event.StateKey, s *modelState) bool {
				return (len(q.Rooms) == 0 || s.heardIn(q.Rooms)) && strings.HasPrefix(key.Stream, q.Prefix) && (q.Open == nil || *q.Open == s.open)
			})
			states, _ := l.all(t, q)
			requireSame(rt, want, states, "as of %s: %+v", at, q)
		}
	})
}

// snapshot takes one in pages, as a session does, with something between the pages.
// When retention passes its cursor it begins anew, as a session does.
func (l *life) snapshot(t testing.TB, q event.StateQuery, between []string) ([]event.State, event.Cursor) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		require.True(t, time.Now().Before(deadline))
		at, err := l.Checkpoint(t.Context())
		if errors.Is(err, state.ErrBehind) {
			continue
		}
		require.NoError(t, err)
		q.Namespaces, q.At, q.After = []string{"/orders", "/printing-ws"}, &at, event.StateKey{}
		var states []event.State
		for {
			page, err := l.Page(t.Context(), q)
			var reset *event.Reset
			if errors.As(err, &reset) && reset.Reason == event.Expired {
				break
			}
			require.NoError(t, err)
			states = append(states, page.States...)
			if !page.More {
				return states, at
			}
			q.After = page.Last
			if len(between) > 0 {
				switch between[0] {
				case "rebuild":
					l.rebuild(t)
				case "retain":
					c, err := l.Checkpoint(t.Context())
					require.NoError(t, err)
					l.retain(t, c.Position)
				}
				between = between[1:]
			}
		}
	}
}

// Far back all states are looked at instead of the events since.
func TestProperty_FarBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1_000_000)
	r.project(t)
	for i := range 40 {
		r.append(t, draft("c1", fmt.Sprintf("order:%d", i%11), "orderStatusUpdate", fmt.Sprintf(`{"n":%d}`, i), fmt.Sprintf("branch:b%d", i%3)))
	}
	before := r.tip(t)
	r.exec(t, "SELECT setval('tailroom.positions', 30000)")
	last := r.append(t, draft("c1", "order:3", "orderCancelled", `{"n":"end"}`, "branch:b9"))
	r.await(t, last)
	require.Equal(t, int64(30001), last.Position)
	for _, position := range []int64{1, 20, before.Position} {
		for _, rooms := range [][]string{nil, {"branch:b1"}, {"branch:b9"}} {
			for _, open := range []*bool{nil, new(true), new(false)} {
				q := event.StateQuery{Tenant: "c1", At: &event.Cursor{Epoch: 1, Position: position}, Rooms: rooms, Open: open}
				states, _ := r.all(t, q)
				requireSame(t, folded(t, r.entries(t, position)).where(func(_ event.StateKey, s *modelState) bool {
					return (len(rooms) == 0 || s.heardIn(rooms)) && (open == nil || *open == s.open)
				}), states)
			}
		}
	}
}
