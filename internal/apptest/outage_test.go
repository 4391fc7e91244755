package apptest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// outage is two instances that stay up while their database is replaced by one
// that has less, the readers that are connected to them all along, and the
// readers that come back afterwards. In the end what each of them has must be
// the log, whatever he had in between.
type outage struct {
	proxy     *pgproxy.Proxy
	dsn       string // of the log as it is now, past the proxy
	instances []*apptest.Instance
	service   string
	published int

	ctx     context.Context //nolint:containedctx // of the readers
	cancel  context.CancelFunc
	reading errgroup.Group
	staying []*follower
	back    []*follower
}

// newOutage begins with readers who are live.
func newOutage(t *testing.T, dsn string) *outage {
	t.Helper()
	o := &outage{proxy: pgproxy.Start(t, dsn), dsn: dsn, service: serviceToken(t)}
	o.ctx, o.cancel = context.WithCancel(t.Context())
	t.Cleanup(o.cancel)
	for range 2 {
		i := apptest.Start(t, o.proxy.DSN(), "TAILROOM_HEARTBEAT=2s")
		o.instances = append(o.instances, i)
		for _, f := range audience(t) {
			o.stay(i, f, f.socket)
		}
		for _, f := range audience(t)[:2] {
			f.cursor = "1-0"
			o.stay(i, f, f.stream)
		}
	}
	o.awaitLive(t)
	return o
}

func (o *outage) stay(i *apptest.Instance, f *follower, follow func(context.Context, *apptest.Instance, func() bool) error) {
	f.forgiving = true
	o.staying = append(o.staying, f)
	n := len(o.staying)
	o.reading.Go(func() error {
		if err := follow(o.ctx, i, func() bool { return f.ends > 0 }); err != nil {
			f.tell(err.Error())
			return fmt.Errorf("follower %d, told %v: %w", n, f.says(), err)
		}
		return nil
	})
}

// awaitLive waits until whoever stays connected is live.
func (o *outage) awaitLive(t *testing.T) {
	t.Helper()
	for n, f := range o.staying {
		require.Eventually(t, func() bool {
			says := f.says()
			return len(says) > 0 && says[len(says)-1] == "live"
		}, apptest.Patience, 5*time.Millisecond, "follower %d", n)
	}
}

// publish publishes n events by the instances in turn, waits until everybody
// has them, and returns the last one's cursor.
func (o *outage) publish(t *testing.T, n int) string {
	t.Helper()
	cursor := o.publishBy(t, n, o.instances...)
	for n, f := range o.staying {
		apptest.Eventually(t, func() bool { return f.has(parse(t, cursor)) }, apptest.Patience, 5*time.Millisecond,
			"follower %d has not come to %s: %v", n, cursor, f)
	}
	return cursor
}

func (o *outage) publishBy(t *testing.T, n int, instances ...*apptest.Instance) (cursor string) {
	t.Helper()
	for range n {
		o.published++
		cursor = instances[o.published%len(instances)].Publish(t, o.service, fmt.Sprintf(
			`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b%d"}}`, o.published%3, 1+o.published%3,
		))[0].Cursor
	}
	return cursor
}

// comeBack connects readers of everything with a cursor, one by each instance.
func (o *outage) comeBack(t *testing.T, cursor string, instances ...*apptest.Instance) []*follower {
	t.Helper()
	var list []*follower
	for _, i := range instances {
		f := &follower{
			token: apptest.Token(t, access.Web, "c1"), namespace: "/orders", cursor: cursor, begun: true, forgiving: true,
			matches: func(e *event.Entry) bool { return e.Tenant == "c1" && e.Namespace == "/orders" },
		}
		f.from, f.to = parse(t, cursor).Position, parse(t, cursor).Position
		list = append(list, f)
		o.reading.Go(func() error { return f.socket(o.ctx, i, func() bool { return f.ends > 0 }) })
	}
	o.back = append(o.back, list...)
	return list
}

// settle ends it all: whoever stayed and whoever came back has read the log to
// its end, and what he has is the log.
func (o *outage) settle(t *testing.T) []*event.Entry {
	t.Helper()
	defer time.AfterFunc(2*apptest.Patience, o.cancel).Stop()
	o.comeBack(t, "1-0", o.instances...) // what an instance holds in memory is the log as well
	end(t, o.instances[0], "c1")
	end(t, o.instances[1], "c2")
	require.NoError(t, o.reading.Wait())
	log := readLog(t, o.dsn)
	for n, f := range slices.Concat(o.staying, o.back) {
		require.NoError(t, f.check(log, f.matches), "follower %d, told %v", n, f.says())
		require.Equal(t, 1, f.ends)
		require.NotContains(t, f.says(), "closed")
	}
	require.NoError(t, (&promises{}).check(log), "versions are dense, ids are there once")
	epochs := o.epochs(t)
	for _, e := range log {
		require.Equal(t, epochs.At(e.Cursor.Position), e.Cursor)
	}
	return log
}

func (o *outage) epochs(t *testing.T) event.Epochs {
	t.Helper()
	epochs, err := eventlog.New(pgtest.Pool(t, o.dsn)).Epochs(t.Context())
	require.NoError(t, err)
	return epochs
}

// requireTold requires that each follower was told to go on from these places,
// and nothing else.
func requireTold(t *testing.T, followers []*follower, resumes ...string) {
	t.Helper()
	for n, f := range followers {
		require.Eventually(t, func() bool { return len(f.toldResumes()) >= len(resumes) }, apptest.Patience, 5*time.Millisecond,
			"follower %d", n)
		require.Equal(t, resumes, f.toldResumes(), "follower %d", n)
	}
}

func parse(t *testing.T, cursor string) event.Cursor {
	t.Helper()
	c, err := event.ParseCursor(cursor)
	require.NoError(t, err)
	return c
}

// query is the result of a query for one value, on a connection of its own.
func query[T any](t *testing.T, dsn, sql string) (value T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&value))
	return value
}

func execute(t *testing.T, dsn string, statements ...string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	for _, sql := range statements {
		_, err = conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
}

func until(t *testing.T, dsn, sql string) {
	t.Helper()
	apptest.Eventually(t, func() bool { return query[bool](t, dsn, sql) }, apptest.Patience, 20*time.Millisecond, sql)
}

// databaseOf is the name of a DSN's database.
func databaseOf(t *testing.T, dsn string) string {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	require.NoError(t, err)
	return config.Database
}

func serviceToken(t *testing.T) string {
	t.Helper()
	return apptest.Token(t, access.Service, "c1")
}
