package main

import (
	"encoding/json"
	"os"
	"os/user"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// A catalogue is too strict. What it refused is listed, and retried when the
// catalogue is corrected.
func TestOutbox(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	catalogue := filepath.Join(t.TempDir(), "catalogue.yaml")
	write := func(schema string) {
		require.NoError(t, os.WriteFile(catalogue, []byte(`namespaces: {/orders: {events: {note: {rooms: ["company:{companyId}"], schema: `+schema+`}}}}`), 0o600))
	}
	run := func(args ...string) string {
		out, _, err := tailroom(t.Context(), nil, append([]string{"outbox"}, args...)...)
		require.NoError(t, err)
		return out
	}
	write(`{properties: {n: {maximum: 1}}}`)
	strict := apptest.Start(t, dsn, "CATALOG_FILE="+catalogue)
	require.Equal(t, "nothing waits, 0 rows rejected\n", run("list"))
	pool := pgtest.Pool(t, dsn)
	publish := func() {
		_, err := pool.Exec(t.Context(), `SELECT tailroom.publish('c1', '/orders', 'note', jsonb_build_object('n', n)) FROM generate_series(1, 5) AS n`)
		require.NoError(t, err)
	}
	publish()
	rejected := func(rows int) {
		apptest.Eventually(t, func() bool {
			return strict.Metric(t, `tailroom_outbox_rejected_total{code="schema_violation"}`) == float64(rows)
		},
			apptest.Patience, time.Millisecond)
	}
	rejected(4)

	out := run("list")
	require.Regexp(t, `^nothing waits, 4 rows rejected
ROW +REJECTED +COMPANY +NAMESPACE +TYPE +ACTOR +CODE +REASON
2 +\S+Z +c1 +/orders +note +sql:tailroom +schema_violation +data/n maximum: got 2, want 1
3 .*
4 .*
5 .*
$`, out)
	require.Regexp(t, "(?s)^nothing waits, 4 rows rejected\nROW.*\n3 .*\n4 .*\nthere may be more: --after 4\n$", run("list", "--after", "2", "--limit", "2"))
	var o eventlog.Outbox
	require.NoError(t, json.Unmarshal([]byte(run("list", "--json", "--limit", "1")), &o))
	require.EqualValues(t, 4, o.Rejected)
	require.Len(t, o.Rows, 1)
	require.Equal(t, "c1", o.Rows[0].Tenant)
	require.Equal(t, "1 row thrown away\n", run("discard", "2"))
	require.Equal(t, "1 row put back into the outbox\n", run("retry", "3"))
	rejected(5) // it is not better yet

	strict.Stop()
	publish()
	require.Regexp(t, `^5 rows waiting, the first for \S+s, 3 rows rejected\n`, run("list"))
	out, _, err := tailroom(t.Context(), nil, "outbox", "discard", "5", "77")
	require.ErrorContains(t, err, "no rejected rows have the numbers [77]")
	require.Equal(t, "1 row thrown away\n", out)
	write(`{properties: {n: {type: integer}}}`)
	lenient := apptest.Start(t, dsn, "CATALOG_FILE="+catalogue)
	lenient.Reach(t, 9) // six rows, and three orders of ours
	require.Equal(t, "2 rows put back into the outbox\n", run("retry", "--all", "--reason", "the catalogue was corrected", "--actor", "officer:1"))
	lenient.Reach(t, 12)
	require.Equal(t, "nothing waits, 0 rows rejected\n", run("list"))
	require.Equal(t, "0 rows thrown away\n", run("discard", "--all"))
	var order string
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT string_agg(data->>'n', ',' ORDER BY position) FROM tailroom.events").Scan(&order))
	require.Equal(t, "1,1,2,3,4,5,4,3", order, "in the order of their numbers: 3 was retried before")
	me, err := user.Current()
	require.NoError(t, err)
	var told []string
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT array_agg(concat_ws(' ', type, data->>'count', data->>'reason', data->>'actor') ORDER BY position)
		FROM tailroom.events WHERE namespace = '/system'`).Scan(&told))
	require.Equal(t, []string{
		"outboxDiscarded 1 " + me.Username, "outboxRetried 1 " + me.Username, "outboxDiscarded 1 " + me.Username,
		"outboxRetried 2 the catalogue was corrected officer:1",
	}, told)
}

func TestOutbox_MustBeToldWhichRows(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"retry"}, {"discard"}, {"retry", "1", "--all"}, {"discard", "--all", "1"}} {
		_, _, err := tailroom(t.Context(), nil, append([]string{"outbox"}, args...)...)
		require.ErrorContains(t, err, "name the rows, by their numbers from `tailroom outbox list`, or say --all")
	}
	_, _, err := tailroom(t.Context(), nil, "outbox", "discard", "one")
	require.ErrorContains(t, err, `"one" is no number of a row`)
	_, _, err = tailroom(t.Context(), nil, "outbox", "list", "--limit", "0")
	require.ErrorContains(t, err, "--limit is from 1 to 10000")
}
