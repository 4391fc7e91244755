package apptest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// Negative controls: logs and readers that are built wrong, each in the one
// way that our own are built against. The interleaving that breaks them is
// forced, and the checker of the other tests must find out. Beside each stands
// the right way in the same interleaving, which the checker must pass.

// naive reads positions with a query of "position > cursor", when it is told
// to. It polls by nothing and nobody.
type naive struct {
	record
	conn  *pgx.Conn
	query string
}

// newNaive starts a reader at the log's beginning.
func newNaive(t *testing.T, dsn, query string) *naive {
	t.Helper()
	return &naive{conn: connect(t, dsn), query: query}
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (n *naive) read(t *testing.T) {
	t.Helper()
	rows, err := n.conn.Query(t.Context(), n.query, n.to)
	require.NoError(t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	for _, p := range positions {
		n.deliveries = append(n.deliveries, check.Delivery{Position: p})
		n.to = p
	}
}

func (n *naive) listen(t *testing.T) {
	t.Helper()
	_, err := n.conn.Exec(t.Context(), "LISTEN tailroom; LISTEN fence")
	require.NoError(t, err)
}

// wait reads when something was notified up to now, as a reader would that
// waits for nothing else. It reports whether something was.
func (n *naive) wait(t *testing.T) (woken bool) {
	t.Helper()
	_, err := n.conn.Exec(t.Context(), "NOTIFY fence")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	for {
		notification, err := n.conn.WaitForNotification(ctx)
		require.NoError(t, err)
		if notification.Channel == "fence" {
			break
		}
		woken = true
	}
	if woken {
		n.read(t)
	}
	return woken
}

const (
	readEvents = "SELECT position FROM tailroom.events WHERE position > $1 ORDER BY position"
	// appendOne appends one event of a stream; the epoch's and the heads' rows
	// apart, what it takes is the append lock.
	appendOne = `SELECT tailroom.append_batch(false, 0, 0, 'infinity', '{}', '{}', '{}', '{}', '{}', '{}', '{}',
		'{c1}', '{/orders}', '{newOrder}', '{1}', ARRAY[gen_random_uuid()], '{branch:b1}', '{0}', '{0}', '{2026-01-31Z}',
		'{""}', '{x}', '{NULL}', '{0001-01-01 00:00:00Z}', '{"{}"}')`
)

func exec(t *testing.T, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string,
) {
	t.Helper()
	_, err := db.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func everything(*event.Entry) bool { return true }

// newLog returns the address of a log that is ready to be appended to.
func newLog(t *testing.T) string {
	t.Helper()
	dsn := pgtest.Database(t)
	require.NoError(t, eventlog.MakePartitions(t.Context(), pgtest.Pool(t, dsn)))
	return dsn
}

// Two writers: the first has drawn its number and not yet committed when the
// second commits, and a reader comes by.
func TestControl_Bigserial(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	slow, fast := connect(t, dsn), connect(t, dsn)
	exec(t, slow, "CREATE TABLE public.log (position bigserial PRIMARY KEY)")
	reader := newNaive(t, dsn, "SELECT position FROM public.log WHERE position > $1 ORDER BY position")

	tx, err := slow.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, "INSERT INTO public.log DEFAULT VALUES")
	exec(t, fast, "INSERT INTO public.log DEFAULT VALUES")
	reader.read(t)
	require.NoError(t, tx.Commit(t.Context()))
	reader.read(t)

	rows, err := fast.Query(t.Context(), "SELECT position FROM public.log ORDER BY position")
	require.NoError(t, err)
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	require.NoError(t, err)
	var log []*event.Entry
	for _, p := range positions {
		log = append(log, event.NewEntry(event.Event{Cursor: event.Cursor{Epoch: 1, Position: p}}))
	}
	require.Len(t, log, 2)
	require.ErrorContains(t, reader.check(log, everything), "skipped 1: 2 came after 0")
}

// The same with the append lock: the second writer waits, whatever the reader
// sees has nothing left out below it.
func TestControl_LockThenNumber(t *testing.T) {
	t.Parallel()
	dsn := newLog(t)
	slow, fast := connect(t, dsn), connect(t, dsn)
	reader := newNaive(t, dsn, readEvents)

	tx, err := slow.Begin(t.Context())
	require.NoError(t, err)
	exec(t, tx, appendOne)
	done := make(chan error, 1)
	go func() {
		_, err := fast.Exec(context.Background(), appendOne)
		done <- err
	}()
	await(t, reader.conn, fmt.Sprintf("SELECT coalesce(wait_event_type = 'Lock', false) FROM pg_stat_activity WHERE pid = %d", fast.PgConn().PID()))
	reader.read(t)
	require.Empty(t, reader.deliveries)
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-done)
	reader.read(t)

	log := readLog(t, dsn)
	require.Len(t, log, 2)
	require.NoError(t, reader.check(log, everything))
}

// await waits until a query is true.
func await(t *testing.T, conn *pgx.Conn, query string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	for met := false; !met; {
		require.NoError(t, conn.QueryRow(ctx, query).Scan(&met), query)
	}
}

// An event comes between reading and listening, and is heard of by nobody.
func TestControl_ReadThenListen(t *testing.T) {
	t.Parallel()
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right=%t", right), func(t *testing.T) {
			t.Parallel()
			dsn := newLog(t)
			writer, reader := connect(t, dsn), newNaive(t, dsn, readEvents)
			if right {
				reader.listen(t)
				reader.read(t)
				exec(t, writer, appendOne)
			} else {
				reader.read(t)
				exec(t, writer, appendOne)
				reader.listen(t)
			}
			require.Equal(t, right, reader.wait(t))
			err := reader.check(readLog(t, dsn), everything)
			if right {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "came to rest at 0, the log goes on to 1")
			}
		})
	}
}

// A notification is lost on its way. Who polls besides finds the event.
func TestControl_LostNotification(t *testing.T) {
	t.Parallel()
	for _, polls := range []bool{false, true} {
		t.Run(fmt.Sprintf("polls=%t", polls), func(t *testing.T) {
			t.Parallel()
			dsn := newLog(t)
			proxy := pgproxy.Start(t, dsn)
			writer, reader := connect(t, dsn), newNaive(t, proxy.DSN(), readEvents)
			reader.listen(t)
			reader.read(t)
			exec(t, writer, appendOne)
			require.True(t, reader.wait(t), "this one is heard")

			proxy.SwallowNotifications(true)
			exec(t, writer, appendOne)
			reader.swallow(t)
			proxy.SwallowNotifications(false)
			require.False(t, reader.wait(t), "this one is not")
			if polls {
				reader.read(t)
			}
			err := reader.check(readLog(t, dsn), everything)
			if polls {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, "came to rest at 1, the log goes on to 2")
			}
		})
	}
}

// swallow takes what has been sent to the reader so far past the proxy, which
// loses the notifications among it.
func (n *naive) swallow(t *testing.T) {
	t.Helper()
	// A backend sends what was notified before it answers the next statement.
	exec(t, n.conn, "SELECT 1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	_, err := n.conn.WaitForNotification(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}
