package eventlog_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// newSmallRig is a log with tiny partitions.
func newSmallRig(t *testing.T, size int) *rig {
	t.Helper()
	r := newRig(t)
	r.exec(t, `DO $$ DECLARE child text; BEGIN
		FOR child IN SELECT name FROM tailroom.partitions LOOP EXECUTE format('DROP TABLE tailroom.%I', child); END LOOP;
	END $$`)
	r.exec(t, "TRUNCATE tailroom.partitions")
	r.exec(t, "UPDATE tailroom.log SET partition_size = $1", size)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	return r
}

// bounds are the partitions that PostgreSQL has, in order.
func (r *rig) bounds(t *testing.T) []string {
	t.Helper()
	return value[[]string](t, r, `SELECT array_agg(pg_get_expr(relpartbound, oid) ORDER BY oid) FROM pg_class
		WHERE relispartition AND relnamespace = 'tailroom'::regnamespace AND relkind = 'r'`)
}

func partition(first, beyond int) string {
	return fmt.Sprintf("FOR VALUES FROM ('%d') TO ('%d')", first, beyond)
}

func TestPartitions_AreMadeAhead(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 10)
	want := []string{partition(1, 11), partition(11, 21), partition(21, 31), partition(31, 41)}
	require.Equal(t, want, r.bounds(t), "the one being written, and three ahead")

	a := r.running(t)
	a.append(t, drafts(9)...)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	require.Equal(t, want, r.bounds(t), "the next position is still in the first")
	a.append(t, drafts(13)...)

	g, ctx := errgroup.WithContext(t.Context())
	for range 4 { // every instance sees to it
		g.Go(func() error { return eventlog.MakePartitions(ctx, r.pool) })
	}
	require.NoError(t, g.Wait())
	want = append(want, partition(41, 51), partition(51, 61))
	require.Equal(t, want, r.bounds(t))
	require.Equal(t, len(want), value[int](t, r, "SELECT count(*) FROM tailroom.partitions"))
	require.Equal(t, 10, value[int](t, r, "SELECT count(*) FROM tailroom.events_11"), "rows are where their position says")
}

// Whoever reads the log holds locks on it for as long as his transaction is
// open. Neither he nor the appends wait for a new partition, nor it for them.
func TestPartitions_AreMadeWhileTheLogIsInUse(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 2)
	a := r.running(t)
	a.append(t, drafts(3)...)
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
	var n int
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.events").Scan(&n))
	require.Equal(t, 3, n)
	_, err = tx.Exec(t.Context(), appendOne) // it reads, and has appended
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, eventlog.MakePartitions(ctx, r.pool))
	require.NoError(t, tx.QueryRow(ctx, "SELECT count(*) FROM tailroom.events").Scan(&n))
	require.NoError(t, tx.Commit(ctx))
	require.Equal(t, []int64{5}, positions(a.append(t, draft(""))))
}

// Appends cross from one partition into the next, and single batches lie in
// several, while new ones are made. No append ever waits for that or fails: in
// a round there are fewer events than partitions ahead have room for.
func TestPartitions_TurnOverUnderLoad(t *testing.T) {
	t.Parallel()
	const size, rounds, writers, groups, largest = 20, 8, 4, 3, 5
	r := newSmallRig(t, size)
	instances := []*instance{r.running(t), r.running(t)}
	for range rounds {
		g, ctx := errgroup.WithContext(t.Context())
		g.Go(func() error { return eventlog.MakePartitions(ctx, r.pool) })
		for w := range writers {
			g.Go(func() error {
				for n := range groups {
					group := make([]event.Draft, largest-(n+w)%3)
					for i := range group {
						group[i] = draft(fmt.Sprintf("order:%d", (n+i)%5))
					}
					if _, err := instances[w%2].Append(ctx, nil, group); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	}
	for _, a := range instances {
		require.Zero(t, a.figure(t, "tailroom_append_retries_total"))
	}

	requireConsistent(t, r)
	stored := r.all(t)
	require.Greater(t, len(stored), 10*size)
	require.Equal(t, int64(len(stored)), stored[len(stored)-1].Cursor.Position, "there is no hole")
	require.GreaterOrEqual(t, len(r.bounds(t)), len(stored)/size+3)
	page, err := r.log.Page(t.Context(), []event.Topic{{Tenant: "c1", Namespace: "/orders"}}, 0, len(stored)+1)
	require.NoError(t, err)
	require.Len(t, page.Entries, len(stored))
}

// Without a partition a publish is refused at once, and somebody is told to make
// one. Nothing of it is in the log, and later it goes on as ever.
func TestPartitions_NoneLeft(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 5)
	a := r.instance(t)
	told := make(chan struct{}, 10)
	a.NoPartition = func() { told <- struct{}{} }
	a.start()
	a.append(t, drafts(20)...) // the four that there are
	group := []event.Draft{draft("order:1"), draft("")}
	for range 2 {
		_, err := wait(t, a.submit(t, group...))
		require.ErrorIs(t, err, eventlog.ErrNoPartition)
		require.NotEmpty(t, told)
		<-told
	}
	require.Len(t, r.all(t), 20)
	require.Zero(t, a.figure(t, "tailroom_append_retries_total"))

	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	receipts := a.append(t, group...)
	require.Greater(t, receipts[0].Cursor.Position, int64(20))
	require.Equal(t, int64(1), receipts[0].Version)
	require.False(t, receipts[0].Duplicate)
	require.Empty(t, told)
	requireConsistent(t, r)
}

// A constraint that an event breaks is no lack of partitions.
func TestPartitions_OtherConstraints(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(t, "ALTER TABLE tailroom.events ADD CONSTRAINT of_the_test CHECK (type <> 'newOrder')")
	a := r.instanceOn(t, r.dsn, moment)
	a.NoPartition = func() { t.Error("there is a partition") }
	a.start()
	_, err := wait(t, a.submit(t, draft("")))
	require.ErrorIs(t, err, eventlog.ErrUnavailable)
	require.ErrorContains(t, err, "of_the_test")
}

// Not even a superuser changes what is in the log by mistake.
func TestEvents_AreAppendOnly(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 2)
	r.running(t).append(t, drafts(3)...)
	require.NoError(t, eventlog.MakePartitions(t.Context(), r.pool))
	before := r.all(t)
	for _, table := range []string{"events", "events_1", "events_3"} {
		for _, statement := range []string{
			"UPDATE tailroom.%s SET data = '{}'", "UPDATE tailroom.%s SET position = position + 1", "DELETE FROM tailroom.%s", "TRUNCATE tailroom.%s",
		} {
			_, err := r.pool.Exec(t.Context(), fmt.Sprintf(statement, table))
			requireState(t, err, "TR002")
		}
	}
	for _, empty := range []string{"events_5", "events_9"} { // made ahead, the second by the later call
		_, err := r.pool.Exec(t.Context(), "TRUNCATE tailroom."+empty)
		requireState(t, err, "TR002")
	}
	require.Equal(t, before, r.all(t))
}
