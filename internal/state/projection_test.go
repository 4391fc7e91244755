package state_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
	"github.com/tailroom/tailroom/internal/state"
)

// Objects are merged, null takes away, all else replaces; what comes after the end
// is folded in, and the stream stays closed.
func TestProjection_Folds(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	p := r.project(t)
	r.append(t, draft("c1", "order:1", "newOrder", `{"id":"1","total":9007199254740993,"a":{"x":1,"y":null,"z":{"q":[1,{"n":null}]}},"gone":null}`),
		draft("c1", "", "note", `{"of":"no stream"}`),
		draft("c2", "order:1", "newOrder", `{"another":"company"}`))
	r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{"a":{"x":null,"z":{"q":null,"p":"\u0001\"é"}},"total":1.50}`, "branch:b2", "company:c1"))
	r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{"status":"delivered"}`))
	last := r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{"status":"again","a":"text"}`))
	r.await(t, last)
	states, cursor := r.all(t, event.StateQuery{Tenant: "c1"})
	require.Equal(t, last, cursor)
	require.Len(t, states, 1)
	s := states[0]
	require.JSONEq(t, `{"id":"1","total":1.50,"a":"text","status":"again"}`, string(s.Data))
	require.Equal(t, []any{int64(4), last.Position, false, false, []string{"branch:b1"}}, []any{s.Version, s.Position, s.Open, s.Incomplete, s.Rooms})
	require.Eventually(t, func() bool { return p.figure(t, "tailroom_state_folded_total") == 6 }, patience, time.Millisecond)
	require.EqualValues(t, 1, p.figure(t, "tailroom_state_leader"))
	require.Equal(t, `{"companyId":"c1","namespace":"/orders","stream":"order:1","version":4,"state":`+string(s.Data)+
		`,"open":false,"rooms":["branch:b1"],"updatedAt":"`+s.UpdatedAt.UTC().Format(event.TimeLayout)+`"}`, string(s.AppendJSON(nil)))

	then, _ := r.all(t, event.StateQuery{Tenant: "c1", At: &event.Cursor{Epoch: 1, Position: 4}})
	require.Equal(t, `{"a":{"z":{"p":"\u0001\"é"}},"id":"1","total":1.50}`, string(then[0].Data), "made of the log, as jsonb prints it")
	first, _ := r.all(t, event.StateQuery{Tenant: "c1", At: &event.Cursor{Epoch: 1, Position: 1}})
	require.Equal(t, `{"a":{"x":1,"z":{"q":[1,{"n":null}]}},"id":"1","total":9007199254740993}`, string(first[0].Data), "no number is rounded")
	everyone, _ := r.all(t, event.StateQuery{})
	require.Len(t, everyone, 2)
}

// A state that grows without end stops growing, and says so; and data that are no
// object, which nothing in Tailroom writes, hold nobody up.
func TestProjection_Poison(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	for i := range 12 {
		r.append(t, draft("c1", "order:large", "orderStatusUpdate", fmt.Sprintf(`{"part%d":%q,"last":%d}`, i, strings.Repeat("x", 24_000), i)))
	}
	r.append(t, draft("c1", "order:odd", "newOrder", `{"a":1}`))
	require.NoError(t, pgx.BeginFunc(t.Context(), r.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica; UPDATE tailroom.events SET data = '[1]' WHERE stream = 'order:odd'`)
		return err
	}))
	last := r.append(t, draft("c1", "order:odd", "orderStatusUpdate", `{"b":2}`), draft("c1", "order:large", "orderStatusUpdate", `{"part0":null}`))
	p := r.project(t)
	r.await(t, last)
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	large, odd := states[0], states[1]
	require.True(t, large.Incomplete)
	require.Equal(t, int64(13), large.Version)
	require.Less(t, len(large.Data), 256<<10)
	require.Contains(t, string(large.Data), `"last":9`, "the tenth was the last that fit")
	require.NotContains(t, string(large.Data), `"part0"`, "to shrink is possible")
	require.True(t, odd.Incomplete)
	require.Equal(t, `{"b":2}`, string(odd.Data))
	require.Contains(t, string(odd.AppendJSON(nil)), `,"incomplete":true}`)
	require.Zero(t, p.figure(t, "tailroom_state_failures_total"))
}

// Of two instances one leads. When it is cut off in the middle the other one goes
// on, and nothing is folded twice or left out.
func TestProjection_TakeOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10_000)
	proxy := pgproxy.Start(t, pgtest.Writer(r.dsn))
	first := r.projectOn(t, proxy.DSN())
	require.Eventually(t, func() bool { return first.figure(t, "tailroom_state_leader") == 1 }, patience, time.Millisecond)
	second := r.project(t)
	write := func(n int) event.Cursor {
		var last event.Cursor
		for i := range n {
			last = r.append(t, draft("c1", fmt.Sprintf("order:%d", i%7), "orderStatusUpdate", fmt.Sprintf(`{"n":%d,"of%d":true}`, i, i%3)))
		}
		return last
	}
	r.await(t, write(50))
	proxy.Cut()
	proxy.Refuse(true)
	last := write(50)
	r.await(t, last)
	require.Eventually(t, func() bool { return second.figure(t, "tailroom_state_leader") == 1 }, patience, time.Millisecond)
	require.Positive(t, second.figure(t, "tailroom_state_folded_total"))
	proxy.Refuse(false)
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, folded(t, r.entries(t, last.Position)), states)
}

// What a leader writes that is not at the checkpoint any more comes to nothing.
func TestProjection_Fenced(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	p := r.project(t)
	r.await(t, r.append(t, draft("c1", "order:1", "newOrder", `{"a":1}`)))
	p.stop()
	last := r.append(t, draft("c1", "order:1", "newOrder", `{"a":2}`))
	fold := `SELECT tailroom.state_fold(1, 1, %d, 1, %d, '{}', '{}', '{}', '{}', '{false}', '{c1}', '{/orders}', '{order:1}', '{9}', '{"{}"}',
		'{true}', '{false}', '{branch:b1}', '{branch:b1}', '{9}', '{2026-01-31Z}')`
	require.False(t, value[bool](t, r, fmt.Sprintf(fold, 0, 2)), "it has not seen what was folded")
	require.False(t, value[bool](t, r, fmt.Sprintf(fold, 2, 3)))
	r.project(t)
	r.await(t, last)
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	require.Equal(t, `{"a":2}`, string(states[0].Data))
}

// A log that has lost its end: the states go back to what is left of it, and nobody
// is served what is not so.
func TestProjection_LogLosesItsEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	p := r.project(t)
	for i := range 20 {
		r.append(t, draft("c1", fmt.Sprintf("order:%d", i%3), "newOrder", fmt.Sprintf(`{"n":%d,"a%d":1}`, i, i)))
	}
	r.await(t, r.tip(t))
	p.stop()
	require.NoError(t, pgx.BeginFunc(t.Context(), r.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), `SET LOCAL session_replication_role = replica; DELETE FROM tailroom.events WHERE position > 11;
			DELETE FROM tailroom.recent_ids_0 WHERE position > 11; DELETE FROM tailroom.streams;
			INSERT INTO tailroom.streams SELECT tenant, namespace, stream, max(version), max(position) FROM tailroom.events GROUP BY 1, 2, 3;
			UPDATE tailroom.epochs SET identity = 'another'`)
		return err
	}))
	_, err := r.Page(t.Context(), event.StateQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 1})
	require.Error(t, err, "the checkpoint is ahead of the log")
	_, err = r.Checkpoint(t.Context())
	require.ErrorIs(t, err, state.ErrBehind)

	last := r.append(t, draft("c1", "order:0", "newOrder", `{"in":"the new epoch"}`))
	require.Equal(t, "2-12", last.String())
	for range 10 { // beyond the old checkpoint
		last = r.append(t, draft("c1", "order:1", "newOrder", `{"more":1}`))
	}
	p = r.project(t)
	r.await(t, last)
	states, cursor := r.all(t, event.StateQuery{Tenant: "c1"})
	require.Equal(t, last, cursor)
	requireSame(t, folded(t, r.entries(t, last.Position)), states)
	require.EqualValues(t, 1, p.figure(t, "tailroom_state_restarts_total"))
	var reset *event.Reset
	_, err = r.Page(t.Context(), event.StateQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 1, At: &event.Cursor{Epoch: 1, Position: 15}})
	require.ErrorAs(t, err, &reset)
	require.Equal(t, []string{event.Diverged, "1-11"}, []string{reset.Reason, reset.Resume.String()})
}

// What is erased of an event is erased of its stream's states: the present one, the
// earlier ones, and those that are being made.
func TestProjection_Redaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	p := r.project(t)
	for i := range 150 {
		r.append(t, draft("c1", "order:1", "orderStatusUpdate", fmt.Sprintf(`{"n":%d}`, i)))
		if i == 70 {
			r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{"customer":{"name":"Ada Example"},"kept":1}`))
		}
	}
	r.append(t, draft("c1", "order:2", "newOrder", `{"customer":{"name":"Ada Example"}}`))
	r.await(t, r.tip(t))
	require.EqualValues(t, 2, value[int](t, r, "SELECT count(*) FROM tailroom.state_keyframes"))
	p.stop()
	r.exec(t, `SELECT tailroom.redact(72, 'request 17', 'officer:1', '{"kept":2}'), tailroom.redact(152, 'request 17', 'officer:1')`)
	r.exec(t, `SELECT tailroom.redact(152, 'request 17', 'officer:1')`)
	r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{"n":"after"}`))
	r.project(t)
	last := r.tip(t)
	r.await(t, last)
	for _, table := range []string{"states", "state_keyframes"} {
		require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom."+table+" WHERE state::text LIKE '%Ada%'"), table)
	}
	require.EqualValues(t, 2, value[int](t, r, "SELECT count(*) FROM tailroom.state_keyframes"))
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	require.Equal(t, `{"n":"after","kept":2}`, string(states[0].Data))
	require.Equal(t, `{}`, string(states[1].Data))
	for _, position := range []int64{71, 72, 73, 129, 140} {
		then, _ := r.all(t, event.StateQuery{Tenant: "c1", At: &event.Cursor{Epoch: 1, Position: position}})
		requireSame(t, folded(t, r.entries(t, position)), then, position)
	}
}

// How far behind the states are is known without a leader.
func TestProjection_Lag(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	conn, err := pgx.Connect(t.Context(), r.dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock(1952541036, 8)")
	require.NoError(t, err)
	r.append(t, draft("c1", "order:1", "newOrder", `{}`), draft("c1", "order:2", "newOrder", `{}`))
	p := r.project(t)
	require.Eventually(t, func() bool {
		return p.figure(t, "tailroom_state_lag_events") == 2 && p.figure(t, "tailroom_state_lag_seconds") > 0
	}, patience, time.Millisecond)
	require.Zero(t, p.figure(t, "tailroom_state_leader"))
	_, err = conn.Exec(t.Context(), "SELECT pg_advisory_unlock(1952541036, 8)")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return p.figure(t, "tailroom_state_lag_events") == 0 && p.figure(t, "tailroom_state_lag_seconds") == 0
	}, patience, time.Millisecond)
}
