package state_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/state"
)

// large gives as many streams a state of 200 kB each.
func (r *rig) large(t testing.TB, streams int) {
	t.Helper()
	for i := range streams {
		r.append(t, draft("c1", fmt.Sprintf("order:%d", i), "newOrder", fmt.Sprintf(`{"n":%d,"large":%q}`, i, strings.Repeat("x", 200_000))))
	}
}

// touch writes something small to each of them, at once.
func (r *rig) touch(t testing.TB, streams int, data string) event.Cursor {
	t.Helper()
	var drafts []event.Draft
	for i := range streams {
		drafts = append(drafts, draft("c1", fmt.Sprintf("order:%d", i), "orderStatusUpdate", data))
	}
	return r.append(t, drafts...)
}

// watch notes what each write of a table has.
func (r *rig) watch(t testing.TB, table string) {
	t.Helper()
	r.exec(t, `CREATE TABLE public.writes (rows bigint, size bigint);
		CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
		$$BEGIN INSERT INTO public.writes SELECT count(*), sum(octet_length(state::text)) FROM written; RETURN NULL; END$$;
		CREATE TRIGGER noted AFTER INSERT ON tailroom.`+table+` REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.note();
		CREATE TRIGGER noted_too AFTER UPDATE ON tailroom.`+table+` REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.note()`)
}

// A little that happens to many large states is not folded all at once: neither by
// who leads nor for the floor.
func TestProjection_LargeStates(t *testing.T) {
	t.Parallel()
	l := &life{rig: newRig(t, 400)}
	p := l.project(t)
	l.large(t, 100)
	l.await(t, l.tip(t))
	p.stop()
	last := l.touch(t, 100, `{"status":"accepted"}`)
	l.watch(t, "states")
	l.project(t)
	l.await(t, last)
	require.LessOrEqual(t, value[int64](t, l.rig, "SELECT max(size) FROM public.writes"), int64(17<<20))
	require.EqualValues(t, 100, value[int64](t, l.rig, "SELECT sum(rows)::bigint FROM public.writes"))
	states, _ := l.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, folded(t, l.entries(t, last.Position)), states)

	l.exec(t, "DROP TABLE public.writes; DROP FUNCTION public.note CASCADE")
	l.watch(t, "state_floor")
	for range 3 {
		l.touch(t, 100, `{"status":"ready"}`)
	}
	l.makePartitions(t)
	last = l.touch(t, 1, `{"status":"ready"}`)
	l.await(t, last)
	l.retain(t, last.Position)
	require.EqualValues(t, 400, value[int64](t, l.rig, "SELECT floor FROM tailroom.log"))
	require.LessOrEqual(t, value[int64](t, l.rig, "SELECT max(size) FROM public.writes"), int64(17<<20))
}

// What compresses well is as large in memory as anything else.
func TestProjection_CompressedData(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	for i := range 60 {
		r.append(t, draft("c1", fmt.Sprintf("order:%d", i), "newOrder", fmt.Sprintf(`{"large":%q}`, strings.Repeat("x", 200_000))))
	}
	r.watch(t, "states")
	r.project(t)
	r.await(t, r.tip(t))
	require.LessOrEqual(t, value[int64](t, r, "SELECT max(size) FROM public.writes"), int64(5<<20))
}

// However many streams redactions are about, and however long they are, they are
// folded anew in small pieces.
func TestProjection_RedactionsOfLargeStates(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100_000)
	p := r.project(t)
	r.large(t, 40)
	first := r.append(t, draft("c1", "order:long", "newOrder", fmt.Sprintf(`{"large":%q}`, strings.Repeat("x", 60_000))))
	for range 4 {
		var drafts []event.Draft
		for i := range 1000 {
			drafts = append(drafts, draft("c1", "order:long", "orderStatusUpdate", fmt.Sprintf(`{"n":%d}`, i)))
		}
		r.append(t, drafts...)
	}
	r.await(t, r.tip(t))
	p.stop()
	r.exec(t, `SELECT tailroom.redact(p, 'request 17', 'officer:1', '{"left":1}') FROM generate_series(1, $1) p`, first.Position-1)
	r.exec(t, fmt.Sprintf(`SELECT tailroom.redact($1, 'request 17', 'officer:1', '{"large":%q}')`, strings.Repeat("y", 60_000)), first.Position)
	r.exec(t, `SELECT tailroom.redact($1, 'request 17', 'officer:1', '{"n":-1}')`, first.Position+3000)
	r.watch(t, "states")
	r.exec(t, "CREATE TRIGGER noted AFTER INSERT ON tailroom.state_keyframes REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.note()")
	r.project(t)
	last := r.tip(t)
	r.await(t, last)
	require.LessOrEqual(t, value[int64](t, r, "SELECT max(size) FROM public.writes"), int64(3<<20))
	states, _ := r.all(t, event.StateQuery{Tenant: "c1"})
	requireSame(t, folded(t, r.entries(t, last.Position)), states)
	require.EqualValues(t, 4001/64, value[int](t, r, "SELECT count(*) FROM tailroom.state_keyframes"))
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.state_keyframes WHERE state::text LIKE '%xxx%'"))
}

// What fails is tried again with less, so that one step that is too much does not
// hold up all that comes after it.
func TestProjection_LessAfterAFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	last := r.touch(t, 100, `{"status":"accepted"}`)
	r.exec(t, `CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN IF (SELECT count(*) FROM written) > 10 THEN RAISE EXCEPTION 'too much'; END IF; RETURN NULL; END$$;
		CREATE TRIGGER refused AFTER INSERT ON tailroom.states REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION public.refuse()`)
	p := r.project(t)
	r.await(t, last)
	require.Positive(t, p.figure(t, "tailroom_state_failures_total"))
}

// A page of the past is as small as one of now, however large the states were then.
func TestReader_PagesOfLargePastStates(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	r.project(t)
	r.large(t, 40)
	then := r.tip(t)
	last := r.touch(t, 40, `{"large":null}`)
	r.await(t, last)
	q := event.StateQuery{Tenant: "c1", Namespaces: []string{"/orders"}, Limit: 1000, At: &then}
	seen, pages := 0, 0
	for more := true; more; pages++ {
		page, err := r.Page(t.Context(), q)
		require.NoError(t, err)
		size := 0
		for _, s := range page.States {
			require.Contains(t, string(s.Data), "xxx")
			size += len(s.Data)
		}
		require.Less(t, size, 1<<20+256<<10)
		seen += len(page.States)
		q.After, more = page.Last, page.More
	}
	require.Equal(t, 40, seen)
	require.Equal(t, 7, pages)
}

// Looking for a time in the log is a company's turn like all else.
func TestReader_PositionAtTakesTurns(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	refused := errors.New("not its turn")
	reader := state.NewReader(state.Config{Pool: r.pool, Closes: closes, Turn: func(_ context.Context, tenant string, _ func() error) error {
		require.Equal(t, "c1", tenant)
		return refused
	}})
	_, err := reader.PositionAt(t.Context(), "c1", time.Now())
	require.ErrorIs(t, err, refused)
}

// Old states are removed also while there is always something to fold.
func TestProjection_RemovesWhileBusy(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100_000)
	r.orders(t, 20)
	p := r.project(t)
	r.await(t, r.tip(t))
	r.exec(t, "SELECT tailroom.state_begin(1, 0); SELECT tailroom.state_begin(1, 0)") // the first of them is given up
	require.Eventually(t, func() bool {
		r.append(t, draft("c1", "order:1", "orderStatusUpdate", `{}`))
		p.Wake()
		return value[int](t, r, "SELECT count(*) FROM tailroom.state_generations WHERE status = 'retired'") == 0
	}, patience, time.Millisecond)
}
