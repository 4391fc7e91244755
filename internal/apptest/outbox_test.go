package apptest_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	osexec "os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Two instances are killed in turn, at any moment, while an application publishes
// with SQL. The log has what was committed, once and in order, and nothing else.
func TestOutbox_InstancesAreKilledInTurn(t *testing.T) {
	t.Parallel()
	dsn, tailroom := pgtest.Database(t), load.Build(t)
	start := func() *load.Process {
		p, err := load.Start(t.Context(), tailroom, apptest.Log, "DATABASE_URL="+pgtest.Writer(dsn), "JWT_SECRET="+apptest.Secret, "PORT=0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = p.Stop() })
		return p
	}
	instances := []*load.Process{start(), start()}

	const writers, kills = 4, 6
	var application load.Transactions
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var g errgroup.Group
	for seed := range uint64(writers) {
		g.Go(func() error { return application.Run(ctx, dsn, seed) })
	}
	pool := pgtest.Pool(t, dsn)
	random := newRandom(t)()
	for n := range kills {
		// At whatever the leader does some transactions after the outbox was
		// relayed last, which one of the two does.
		relayed := count(t, pool, "SELECT last_value FROM tailroom.positions")
		next := relayed + random.Int64N(200)
		apptest.Eventually(t, func() bool { return count(t, pool, "SELECT last_value FROM tailroom.positions") > next },
			apptest.Patience, time.Millisecond)
		instances[n%2].Signal(syscall.SIGKILL)
		<-instances[n%2].Done()
		instances[n%2] = start()
	}
	cancel()
	require.NoError(t, g.Wait())
	apptest.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM tailroom.outbox") == 0 },
		apptest.Patience, 10*time.Millisecond)
	require.Zero(t, count(t, pool, "SELECT count(*) FROM tailroom.outbox_rejected"))
	rows, err := pool.Query(t.Context(), "SELECT id::text FROM tailroom.events ORDER BY position")
	require.NoError(t, err)
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	application.Check(t, ids)
	require.Equal(t, count(t, pool, "SELECT count(DISTINCT stream) FROM tailroom.events"),
		count(t, pool, "SELECT count(*) FROM (SELECT FROM tailroom.events GROUP BY stream HAVING max(version) = count(*)) s"),
		"versions are dense")
	t.Logf("%d transactions, %d events", application.Count(), len(ids))
}

// The leader is killed while its backend waits for the append lock. That must not
// keep the lead until the wait is over.
func TestOutbox_LeaderIsKilledWaiting(t *testing.T) {
	t.Parallel()
	dsn, tailroom := pgtest.Database(t), load.Build(t)
	first, err := load.Start(t.Context(), tailroom, apptest.Log, "DATABASE_URL="+pgtest.Writer(dsn), "JWT_SECRET="+apptest.Secret, "PORT=0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = first.Stop() })
	apptest.Eventually(t, func() bool { return (&apptest.Instance{URL: first.URL}).Metric(t, "tailroom_outbox_leader") == 1 },
		apptest.Patience, time.Millisecond)
	second := apptest.Start(t, dsn)

	pool := pgtest.Pool(t, dsn)
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	const order = `('c1', '/orders', 'newOrder', '{"orderId": "1", "branchId": "b7"}')`
	_, err = tx.Exec(t.Context(), "SELECT tailroom.append"+order)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), "SELECT tailroom.publish"+order)
	require.NoError(t, err)
	apptest.Eventually(t, func() bool {
		return count(t, pool, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 1 AND NOT granted
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
	}, apptest.Patience, time.Millisecond)
	waits := count(t, pool, `SELECT pid FROM pg_stat_activity WHERE application_name = 'tailroom outbox' AND wait_event_type = 'Lock'
		AND datname = current_database()`)
	first.Signal(syscall.SIGKILL)
	<-first.Done()
	apptest.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM pg_stat_activity WHERE pid = "+fmt.Sprint(waits)) == 0
	}, 4*time.Second, 10*time.Millisecond, "before its statement is given up for taking too long")
	second.AwaitMetric(t, "tailroom_outbox_leader", 1)
	require.NoError(t, tx.Commit(t.Context()))
	second.Reach(t, 2)
}

func count(t *testing.T, pool *pgxpool.Pool, sql string) (n int64) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

// psql runs a script with the program of that name, and returns what it prints.
func psql(t *testing.T, dsn, script string) (string, error) {
	t.Helper()
	var said bytes.Buffer
	cmd := osexec.CommandContext(t.Context(), "psql", dsn, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(script), &said, &said
	err := cmd.Run()
	return strings.TrimSpace(said.String()), err
}

// What is published with psql is in the log under the catalogue's rules, once the
// transaction has committed; what the schema refuses is rejected behind it.
func TestOutbox_FromPsqlToHistory(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	server := apptest.Start(t, dsn)
	said, err := psql(t, dsn, `
		BEGIN;
		SELECT tailroom.publish('c1', '/orders', 'newOrder', '{"orderId": "1042", "branchId": "b7"}', id => '0192f0c4-0000-7000-8000-000000000001');
		SAVEPOINT s;
		SELECT 'lost' FROM tailroom.publish('c1', '/orders', 'newOrder', '{"orderId": "1043", "branchId": "b7"}');
		ROLLBACK TO s;
		SELECT 'refused behind' FROM tailroom.publish('c1', '/orders', 'newOrder', '{"orderId": {}, "branchId": "b7"}', stream => 'order:1');
		SELECT 'second' FROM tailroom.publish(tenant => 'c1', namespace => '/orders', type => 'orderCancelled', data => jsonb_build_object('orderId', 1042, 'branchId', 'b7'));
		COMMIT;`)
	require.NoError(t, err, said)
	require.Equal(t, "0192f0c4-0000-7000-8000-000000000001\nlost\nrefused behind\nsecond", said)

	service := apptest.Token(t, access.Service, "*")
	var body string
	apptest.Eventually(t, func() bool {
		answer := server.Do(t, http.MethodGet, "/v1/events?companyId=c1", service, "", "Accept", "application/x-ndjson")
		body = string(answer.Body)
		return answer.Status == http.StatusOK && strings.Count(body, "\n") == 2
	}, apptest.Patience, time.Millisecond, body)
	require.Contains(t, body, `"id":"0192f0c4-0000-7000-8000-000000000001","namespace":"/orders","type":"newOrder","schemaVersion":1,`+
		`"companyId":"c1","rooms":["branch:b7"],"stream":"order:1042","version":1,`)
	require.Contains(t, body, `"type":"orderCancelled"`)
	require.Contains(t, body, `"version":2`)
	pool := pgtest.Pool(t, dsn)
	apptest.Eventually(t, func() bool {
		return count(t, pool, "SELECT count(*) FROM tailroom.outbox_rejected WHERE code = 'schema_violation' AND reason LIKE 'data/orderId must be %'") == 1
	}, apptest.Patience, time.Millisecond)

	said, err = psql(t, dsn, `SELECT tailroom.publish('c1', '/orders', 'newOrders', '{}');`)
	require.Error(t, err)
	require.Contains(t, said, "unknown_type: /orders has no type 'newOrders'")
	require.Contains(t, said, "HINT:  It has driverUpdate, newOrder, orderCancelled, orderStatusUpdate.")
	said, err = psql(t, dsn, `SELECT position, version FROM tailroom.append('c1', '/orders', 'newOrder', '{"orderId": "7", "branchId": "b7"}', expected_version => 0);`)
	require.NoError(t, err, said)
	require.Equal(t, "3|1", said)
	for figure, want := range map[string]float64{ // which are counted when the log has it
		`tailroom_outbox_relayed_total`: 2, `tailroom_outbox_rejected_total{code="schema_violation"}`: 1, `tailroom_outbox_rejected_total{code="unknown_type"}`: 0,
		"tailroom_outbox_leader": 1, "tailroom_outbox_waiting": 0, "tailroom_outbox_oldest_seconds": 0,
	} {
		server.AwaitMetric(t, figure, want)
	}
}

// Transactions are prepared by who turns the notification off, be it for a
// transaction, a role or the database. They are relayed when they are committed.
func TestOutbox_PreparedTransactions(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, server)
	said, err := psql(t, dsn, "ALTER SYSTEM SET max_prepared_transactions = 5")
	require.NoError(t, err, said)
	require.NoError(t, server.Restart(t.Context(), os.Interrupt))
	apptest.Start(t, dsn)
	const publish = `SELECT tailroom.publish('c1', '/orders', 'newOrder', '{"orderId": "1", "branchId": "b7"}');`
	said, err = psql(t, dsn, "BEGIN;"+publish+"PREPARE TRANSACTION 'notified';")
	require.Error(t, err)
	require.Contains(t, said, "cannot PREPARE a transaction that has executed LISTEN, UNLISTEN, or NOTIFY")

	pool := pgtest.Pool(t, dsn)
	for n, off := range []string{
		"SET tailroom.outbox_notify = off; BEGIN;", "BEGIN; SET LOCAL tailroom.outbox_notify = off;",
		"ALTER ROLE tailroom SET tailroom.outbox_notify = off; \\connect\nBEGIN;",
		"ALTER ROLE tailroom RESET ALL; ALTER DATABASE " + pool.Config().ConnConfig.Database + " SET tailroom.outbox_notify = off; \\connect\nBEGIN;",
	} {
		said, err := psql(t, dsn, off+publish+"PREPARE TRANSACTION 'p';")
		require.NoError(t, err, said)
		require.EqualValues(t, 3*n, count(t, pool, "SELECT count(*) FROM tailroom.events"))
		// Others overtake it.
		said, err = psql(t, dsn, publish+publish)
		require.NoError(t, err, said)
		apptest.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM tailroom.events") == int64(3*n+2) },
			apptest.Patience, time.Millisecond)
		said, err = psql(t, dsn, "COMMIT PREPARED 'p';")
		require.NoError(t, err, said)
		apptest.Eventually(t, func() bool { return count(t, pool, "SELECT count(*) FROM tailroom.events") == int64(3*n+3) },
			apptest.Patience, time.Millisecond)
	}
}

// An instance that drains leaves the outbox to another one at once, though its
// sessions take their time.
func TestOutbox_DrainingInstanceResigns(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	leads := func(i *apptest.Instance) bool {
		answer := i.Do(t, http.MethodGet, "/metrics", "", "")
		return bytes.Contains(answer.Body, []byte("tailroom_outbox_leader 1\n"))
	}
	first := apptest.Start(t, dsn, "TAILROOM_DRAIN_TIMEOUT=1m")
	apptest.Eventually(t, func() bool { return leads(first) }, apptest.Patience, 10*time.Millisecond)
	second := apptest.Start(t, dsn)
	sockets := make([]*apptest.Socket, 20) // some of them would stay for more than half a minute
	for n := range sockets {
		sockets[n], _ = first.Hello(t, apptest.Token(t, access.Web, "c1"), "now", `[{"namespace":"/orders"}]`)
	}
	var stopped sync.WaitGroup
	stopped.Go(first.Stop)
	apptest.Eventually(t, func() bool { return leads(second) }, 3*time.Second, 10*time.Millisecond)
	require.False(t, leads(first), "it still drains")
	for _, s := range sockets {
		require.NoError(t, s.Conn.CloseNow())
	}
	stopped.Wait()
}
