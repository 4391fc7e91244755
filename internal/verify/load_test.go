package verify_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

var loadTime = flag.Duration("load", 10*time.Second, "how long TestRun_WhileTheLogIsInUse goes on")

// Everything that may happen to a log happens, as fast as it can, while it is
// verified again and again. None of it is a fault.
func TestRun_WhileTheLogIsInUse(t *testing.T) {
	t.Parallel()
	r := newRig(t, 250)
	r.exec(t, "INSERT INTO tailroom.event_types VALUES ('/orders', 'newOrder', 1, '', '{}', '{}', NULL, '{}')")
	r.grow(t, "a", 500)
	require.NoError(t, r.maintain(t.Context()))
	other, _ := r.appender(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	conflicts := make([]int, 6)
	for w := range conflicts {
		g.Go(func() (err error) {
			conflicts[w], err = publish(ctx, []*eventlog.Appender{r.Appender, other}[w%2], w)
			return err
		})
	}
	g.Go(func() error { return often(ctx, 5*time.Millisecond, r.appendInTransaction) })
	g.Go(func() error { return often(ctx, 50*time.Millisecond, r.maintain) })
	g.Go(func() error { return often(ctx, 500*time.Millisecond, r.openEpoch) })
	g.Go(func() error { return often(ctx, 200*time.Millisecond, r.redact) })

	runs, dropped, rotated, begun := 0, 0, 0, time.Now()
	for ctx.Err() == nil && (time.Since(begun) < *loadTime ||
		(dropped == 0 || rotated == 0) && time.Since(begun) < *loadTime+patience) {
		state := func() [2]string {
			return [2]string{
				value[string](t, r, "SELECT floor::text FROM tailroom.log"), value[string](t, r, "SELECT ids_rotated_at::text FROM tailroom.log"),
			}
		}
		before := state()
		report := r.verify(t)
		require.Empty(t, report.Faults)
		require.Positive(t, report.Checked.Events)
		require.Positive(t, report.Checked.WindowIDs)
		after := state()
		runs++
		dropped += different(before[0], after[0])
		rotated += different(before[1], after[1])
	}
	cancel()
	require.NoError(t, g.Wait())
	require.Empty(t, r.verify(t).Faults)
	total := 0
	for _, n := range conflicts {
		total += n
	}
	tip, epoch := r.tip(t), value[int64](t, r, "SELECT epoch FROM tailroom.bounds")
	t.Logf("%d runs in %s up to %d-%d; the floor moved in %d, ids rotated in %d; %d conflicts",
		runs, time.Since(begun).Round(time.Second), epoch, tip, dropped, rotated, total)
	require.Positive(t, dropped)
	require.Positive(t, rotated)
	require.Positive(t, total)
	require.Greater(t, epoch, int64(3))
}

func different(a, b string) int {
	if a == b {
		return 0
	}
	return 1
}

// publish appends as fast as it can: to a few hot streams, to many that have a few
// events, to none; a part of it is conditional and mostly fails. It counts
// conflicts.
func publish(ctx context.Context, a *eventlog.Appender, writer int) (conflicts int, err error) {
	for n := 0; ctx.Err() == nil; n++ {
		group := make([]event.Draft, 1+rand.IntN(20))
		for i := range group {
			stream := [...]string{"", "printer:1", fmt.Sprintf("order:%d-%d", writer, (n+i)/4), fmt.Sprintf("order:%d", rand.IntN(500))}
			group[i] = draft(fmt.Sprintf("c%d", rand.IntN(3)), stream[rand.IntN(4)])
		}
		if n%3 == 0 {
			group[0].Stream, group[0].ExpectedVersion = "order:contended", event.Expectation{Version: rand.Int64N(3), Set: true}
		}
		_, err := a.Append(ctx, nil, group)
		var conflict *eventlog.VersionConflictError
		switch {
		case ctx.Err() != nil: // it was not told
		case errors.As(err, &conflict):
			conflicts++
		case err != nil && !errors.Is(err, eventlog.ErrNoPartition) && !errors.Is(err, eventlog.ErrUnavailable):
			return conflicts, err
		}
	}
	return conflicts, nil
}

// often does something again and again.
func often(ctx context.Context, period time.Duration, do func(context.Context) error) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := do(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// appendInTransaction is a user's transaction that takes its time, and is often
// rolled back.
func (r *rig) appendInTransaction(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		for range 3 {
			if _, err := tx.Exec(ctx, appendOne, fmt.Sprintf("order:sql-%d", rand.IntN(50))); err != nil {
				return err
			}
		}
		if rand.IntN(2) == 0 {
			return errChangedMind
		}
		return nil
	})
	var full *pgconn.PgError
	if errors.Is(err, errChangedMind) || errors.As(err, &full) && full.Code == "23514" { // no partition: they lag behind
		return nil
	}
	return err
}

var errChangedMind = errors.New("the user changed his mind")

const appendOne = `SELECT tailroom.append('c1', '/orders', 'newOrder', '{}', ARRAY['branch:b1'], $1)`

// maintain does what the instances' maintenance does, only more often: partitions,
// rotation, seals, retention.
func (r *rig) maintain(ctx context.Context) error {
	var sealable []int64
	for _, sql := range []string{
		"SELECT tailroom.partitions_ahead(20)", "SELECT tailroom.rotate_ids('200ms')",
		"UPDATE tailroom.log SET floor = greatest(floor, (SELECT last_value / 250 * 250 - 2000 FROM tailroom.positions))",
	} {
		if _, err := r.pool.Exec(ctx, sql); err != nil {
			return err
		}
	}
	rows, _ := r.pool.Query(ctx, "SELECT first FROM tailroom.partitions WHERE sealed_at IS NULL AND beyond <= (SELECT tip FROM tailroom.bounds)")
	sealable, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, first := range sealable {
		var busy *pgconn.PgError
		_, err := r.pool.Exec(ctx, "SELECT tailroom.seal_partition($1)", first)
		if err != nil && !(errors.As(err, &busy) && busy.Code == "55P03") { // somebody reads it
			return err
		}
	}
	return r.dropPartitions(ctx)
}

// openEpoch opens an epoch that takes over what was appended last.
func (r *rig) openEpoch(ctx context.Context) error {
	_, err := r.pool.Exec(ctx, "SELECT tailroom.epoch_open((SELECT greatest(last_value - $1::integer, 0) FROM tailroom.positions), 1, 'a test')",
		[...]int{20, 100, 1000}[rand.IntN(3)])
	return err
}

// redact erases the data of an event that is there.
func (r *rig) redact(ctx context.Context) error {
	_, err := r.pool.Exec(ctx, `SELECT tailroom.redact(position, 'a test', 'user:test') FROM tailroom.events
		WHERE namespace <> '/system' AND position > (SELECT tip FROM tailroom.bounds) - 1000 ORDER BY random() LIMIT 1`)
	return err
}
