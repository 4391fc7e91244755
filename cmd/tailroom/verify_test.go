package main

import (
	"bytes"
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/verify"
)

// verifiable is the database of an instance that has published two orders and
// goes on running.
func verifiable(t *testing.T) (dsn string, pool *pgxpool.Pool, i *apptest.Instance) {
	t.Helper()
	dsn = pgtest.Database(t)
	i = apptest.Start(t, dsn)
	i.Publish(t, apptest.Token(t, access.Service, "c1"), `[
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}},
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"2","branchId":"b1"}}]`)
	return dsn, pgtest.Pool(t, dsn), i
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestVerify(t *testing.T) {
	dsn, pool, _ := verifiable(t)
	t.Setenv("DATABASE_URL", dsn)
	out, said, err := tailroom(t.Context(), nil, "verify")
	require.NoError(t, err)
	require.Regexp(t, `^Checked 2 events behind position 0 up to 1-2, \d partitions, 2 streams, 0 requests, and 2 ids of the idempotency window, in \d+\.\d s\.\nAll holds\.\n$`, out)
	require.Empty(t, said, "it was quicker than the first line of progress")

	exec(t, pool, "UPDATE tailroom.streams SET version = 2 WHERE stream = 'order:2'")
	out, _, err = tailroom(t.Context(), nil, "verify", "--quiet")
	require.EqualError(t, err, "the log has faults: 1")
	require.Equal(t, 1, exitStatus(err))
	require.Contains(t, out, "FAULT head_ahead, against invariant 3: a stream's head is ahead of its last event (1)\n"+
		"  position 2, company c1, /orders, stream order:2: expected version 1, found version 2\n"+
		"  What to do: Publishers with an expectedVersion")
	require.Contains(t, out, "\nFaults: 1, of 1 kinds.\n")

	out, said, err = tailroom(t.Context(), nil, "verify", "--json")
	require.Equal(t, 1, exitStatus(err))
	require.Empty(t, said)
	var report verify.Report
	decoder := json.NewDecoder(bytes.NewReader([]byte(out)))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&report))
	require.False(t, report.OK)
	require.Equal(t, verify.Extent{Epoch: 1, Tip: 2}, report.Log)
	require.Len(t, report.Faults, 1)
	require.Equal(t, verify.HeadAhead, report.Faults[0].Kind)
	require.Equal(t, 3, report.Faults[0].Invariant)
	require.Equal(t, []verify.Place{{
		Position: 2, CompanyID: "c1", Namespace: "/orders", Stream: "order:2", Expected: "version 1", Found: "version 2",
	}}, report.Faults[0].Examples)
	require.Contains(t, out, `"notes":[]`)
	require.WithinDuration(t, time.Now(), report.StartedAt, time.Minute)
}

// Whoever may not read what must be read is told what to grant, and so is who
// has no log.
func TestVerify_SaysWhyItCannot(t *testing.T) {
	dsn, pool, i := verifiable(t)
	_, nobody := pgtest.Login(t, dsn)
	name, reader := pgtest.Login(t, dsn, "tailroom_reader")
	_, owner := pgtest.Login(t, dsn, "tailroom_owner")
	cannot := func(want, dsn string, args ...string) {
		t.Setenv("DATABASE_URL", dsn)
		out, _, err := tailroom(t.Context(), nil, append([]string{"verify"}, args...)...)
		require.ErrorContains(t, err, want)
		require.Equal(t, 2, exitStatus(err), "no fault was found")
		require.Empty(t, out)
	}
	t.Setenv("DATABASE_URL", owner)
	_, _, err := tailroom(t.Context(), nil, "verify")
	require.NoError(t, err)
	cannot("the role "+name+" may not read tailroom.positions, tailroom.recent_ids_0, tailroom.recent_ids_1, tailroom.redactions: "+
		"to verify the log takes the rights of its owner. Let an administrator run `GRANT tailroom_owner TO \""+name+"\"`", reader)
	cannot("may not read tailroom.events, tailroom.positions", nobody)
	i.Stop() // its transactions and what is dropped could wait for each other
	exec(t, pool, "DROP TABLE tailroom.recent_ids_1 CASCADE")
	cannot("or one of an older version: it lacks tailroom.recent_ids_1. Run `tailroom migrate up`", dsn)
	exec(t, pool, "DROP SCHEMA tailroom CASCADE")
	cannot("there is no log in this database", dsn)
	cannot("failed to connect", "postgres://nobody@127.0.0.1:1/none")
	cannot("DATABASE_URL", "postgres://:x:/")
	cannot("DATABASE_URL is not set", "")
	cannot("unknown flag", dsn, "--bogus")
	cannot(`unknown command "more"`, dsn, "more")
}

func TestVerify_Interrupted(t *testing.T) {
	dsn, _, _ := verifiable(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	t.Setenv("DATABASE_URL", dsn)
	_, _, err := tailroom(ctx, nil, "verify")
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 2, exitStatus(err))
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	at := verify.Progress{Step: "events", Number: 2, Steps: 5, Done: 250_000, Total: 1_000_000}
	require.Equal(t, "[###.........] 2/5 events: 250000 of 1000000 (25 %), 125000/s, 6s left", progressLine(at, 2*time.Second))
	at.Done = 1_000_100 // it grew
	require.Equal(t, "[############] 2/5 events: 1000100 of 1000000 (100 %), 500050/s, 0s left", progressLine(at, 2*time.Second))
	at.Done = 0
	require.Equal(t, "2/5 events: 0, 0/s", progressLine(at, 0))
	at.Done, at.Total = 500, 0
	require.Equal(t, "2/5 events: 500, 250/s", progressLine(at, 2*time.Second))
}

// A terminal's line is written over, and others get a line now and then.
func TestProgress_Show(t *testing.T) {
	t.Parallel()
	at := verify.Progress{Step: "events", Number: 2, Steps: 5, Done: 10}
	for _, terminal := range []bool{false, true} {
		var out bytes.Buffer
		p := newProgress(&status{w: &out, terminal: terminal})
		p.period = time.Hour // of which nothing passes here
		p.show(at)
		require.Empty(t, out.String(), "too early")
		p.shown = p.shown.Add(-p.period)
		p.show(at)
		p.show(at)
		p.erase()
		if terminal {
			require.Regexp(t, `^`+"\r\x1b"+`\[K2/5 events: 10, \d+/s`+"\r\x1b"+`\[K$`, out.String())
		} else {
			require.Regexp(t, `^2/5 events: 10, \d+/s\n$`, out.String())
		}
	}
}
