package maintenance

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

const (
	often = 20 * time.Millisecond
	never = time.Hour
)

func TestKeeper_KeepsPartitionsAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	k := r.keeper(t, r.dsn, Policy{}, often)
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_ahead", "") == 3 })
	a := r.appender(t, k.Wake)
	for range 8 {
		a.append(t, 10, "")
		eventually(t, func() bool { return r.layout(t).Ahead() >= 3 })
	}
	r.awaitStates(t, "1 sealed, 11 sealed, 21 sealed, 31 sealed, 41 sealed, 51 sealed, 61 sealed, 71 sealed, 81 current, 91 ahead, ")
	eventually(t, func() bool { return k.figure(t, "tailroom_log_bytes", "") == float64(r.layout(t).Bytes()) })
	for _, duty := range []string{dutyPartitions, dutyIDs, dutyFigures, dutySeal, dutyRetention} {
		require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", duty), duty)
	}
}

// awaitStates waits until the partitions' states contain a text, and returns them.
func (r *rig) awaitStates(t *testing.T, text string) (states string) {
	t.Helper()
	eventually(t, func() bool {
		states = r.states(t)
		return strings.Contains(states, text)
	}, text)
	return states
}

// The first pass comes at the start, and does not wait for the lead.
func TestKeeper_BeginsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	for range 2 {
		k := r.keeper(t, r.dsn, Policy{}, never)
		eventually(t, func() bool { return k.figure(t, "tailroom_partitions_ahead", "") == 3 })
	}
}

// One leads. When its connection ends, or it does, or it is not heard any more,
// another one does.
func TestKeeper_OneLeads(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	proxy := pgproxy.Start(t, r.dsn)
	first := r.keeper(t, proxy.DSN(), Policy{}, often)
	eventually(t, func() bool { return first.leads(t) })
	keepers := []*keeper{first, r.keeper(t, r.dsn, Policy{}, often), r.keeper(t, r.dsn, Policy{}, often)}
	leader := func() (found *keeper) { // nil while there is none, or one does not know yet that it has lost the lead
		leaders := 0
		for _, k := range keepers {
			if k.leads(t) {
				leaders++
				found = k
			}
		}
		if leaders != 1 {
			return nil
		}
		return found
	}
	for _, k := range keepers { // they have all asked
		eventually(t, func() bool { return k.figure(t, "tailroom_partitions_ahead", "") == 3 })
	}
	require.Same(t, first, leader())

	since := time.Now()
	proxy.Blackhole(true) // it does not know that it does not lead any more
	eventually(t, func() bool { return keepers[1].leads(t) || keepers[2].leads(t) })
	require.Less(t, time.Since(since), idleTimeout+3*beatPeriod)
	eventually(t, func() bool { return !first.leads(t) })
	proxy.Blackhole(false)
	proxy.Cut()

	for range 3 {
		before := value[int](t, r, leaderPID)
		require.NotZero(t, before)
		r.exec(t, "SELECT pg_terminate_backend($1)", before)
		eventually(t, func() bool {
			now := value[int](t, r, leaderPID)
			return now != 0 && now != before && leader() != nil
		})
	}
	for len(keepers) > 1 {
		var old *keeper
		eventually(t, func() bool { old = leader(); return old != nil })
		since := time.Now()
		old.stop()
		require.False(t, old.leads(t))
		rest := keepers[:0]
		for _, k := range keepers {
			if k != old {
				rest = append(rest, k)
			}
		}
		keepers = rest
		eventually(t, func() bool { return leader() != nil })
		require.Less(t, time.Since(since), 3*beatPeriod)
	}
	a := r.appender(t, func() {})
	for range 3 { // and it does the work
		a.append(t, 10, "")
		eventually(t, func() bool { return r.layout(t).Ahead() == 3 })
	}
}

const leaderPID = `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1952541036 AND objid = 4
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// An append that finds no partition has one made at once, by its own instance.
func TestKeeper_NoPartitionLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	leader := r.begin(t, pgx.ReadCommitted) // who leads, and makes none by chance
	_, err := leader.Exec(t.Context(), "SELECT pg_advisory_xact_lock(1952541036, 4)")
	require.NoError(t, err)
	k := r.keeper(t, r.dsn, Policy{}, never)
	a := r.appender(t, k.Wake)
	a.append(t, 20, "") // all that there is room for
	require.Zero(t, r.layout(t).Ahead())
	refused := 0
	eventually(t, func() bool {
		_, err := a.Append(t.Context(), nil, drafts(1))
		if err != nil {
			refused++
		}
		return err == nil
	})
	require.Positive(t, refused)
	require.False(t, k.leads(t))
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_ahead", "") >= 2 })
}

// A leader that does not do its work is no reason to run out of partitions.
func TestKeeper_LeaderAsleep(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5)
	asleep := r.keeper(t, r.dsn, Policy{}, never)
	eventually(t, func() bool { return asleep.leads(t) })
	k := r.keeper(t, r.dsn, Policy{}, often)
	a := r.appender(t, func() { t.Error("no partition") })
	for range 20 {
		a.append(t, 5, "")
		eventually(t, func() bool { return r.layout(t).Ahead() >= enoughAhead })
	}
	require.False(t, k.leads(t))
}

// A duty that fails is counted, logged and tried again; the others are done. That
// few partitions are left is said once, and when there are enough again.
func TestKeeper_FailuresAndAlarm(t *testing.T) { //nolint:paralleltest // it looks into the log of the process
	r := newRig(t, 5)
	var logged lines
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	r.exec(t, `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no tables today'; END $$`)
	r.exec(t, `CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.refuse()`)
	r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = now() - interval '2 hours'")

	k := r.keeper(t, r.dsn, Policy{}, often)
	a := r.appender(t, k.Wake)
	a.append(t, 11, "") // in the third of four
	eventually(t, func() bool { return logged.count("few empty partitions are left") == 1 })
	failed := k.figure(t, "tailroom_maintenance_failures_total", dutyPartitions)
	eventually(t, func() bool {
		return k.figure(t, "tailroom_maintenance_failures_total", dutyPartitions) >= failed+3
	})
	require.Equal(t, 1, logged.count("few empty partitions are left"))
	require.Contains(t, logged.String(), "level=ERROR")
	require.Positive(t, logged.count("no tables today"))
	require.Equal(t, 1.0, k.figure(t, "tailroom_partitions_ahead", ""))
	eventually(t, func() bool {
		return value[bool](t, r, "SELECT ids_rotated_at > now() - interval '1 hour' FROM tailroom.log")
	})
	require.Contains(t, r.awaitStates(t, "6 sealed"), "1 sealed")

	r.exec(t, "DROP EVENT TRIGGER refuse")
	eventually(t, func() bool { return logged.count("there are enough empty partitions again") == 1 })
	require.Equal(t, 3.0, k.figure(t, "tailroom_partitions_ahead", ""))
	k.stop()
	require.Equal(t, 1, logged.count("few empty partitions are left"))
}

func TestKeeper_RotatesIDs(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	k := r.idle(t, r.dsn, Policy{})
	conn := k.sweeper(t)
	r.appender(t, k.Wake).append(t, 3, "")
	for range 2 { // each table once
		table := value[int](t, r, "SELECT ids_table FROM tailroom.log")
		r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = now() - interval '59 minutes'")
		require.NoError(t, k.pass(t.Context(), conn, true))
		require.Equal(t, table, value[int](t, r, "SELECT ids_table FROM tailroom.log"), "it is not time yet")
		require.Equal(t, 3, value[int](t, r, "SELECT count(*) FROM tailroom.recent_ids"))
		r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = now() - interval '61 minutes'")
		require.NoError(t, k.pass(t.Context(), conn, false))
		require.Equal(t, table, value[int](t, r, "SELECT ids_table FROM tailroom.log"), "it does not lead")
		require.NoError(t, k.pass(t.Context(), conn, true))
		require.Equal(t, 1-table, value[int](t, r, "SELECT ids_table FROM tailroom.log"))
	}
	require.Zero(t, value[int](t, r, "SELECT count(*) FROM tailroom.recent_ids"))
}

// Without a database nothing is done, and everything when it is there.
func TestKeeper_DatabaseAway(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	proxy := pgproxy.Start(t, r.dsn)
	proxy.Refuse(true)
	k := r.keeper(t, proxy.DSN(), Policy{}, often)
	r.appender(t, func() {}).append(t, 11, "")
	require.Zero(t, k.figure(t, "tailroom_partitions_ahead", ""))
	proxy.Refuse(false)
	eventually(t, func() bool { return k.figure(t, "tailroom_partitions_ahead", "") == 3 })
}

// The maintenance of an instance that owns nothing: all but retention, which says
// what it lacks.
func TestKeeper_AsTheWriter(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	name, dsn := pgtest.Login(t, r.dsn, "tailroom_writer")
	k := r.keeper(t, dsn, Policy{}, often)
	a := r.appender(t, k.Wake)
	a.append(t, 25, "")
	require.Contains(t, r.awaitStates(t, "11 sealed"), "1 sealed")
	eventually(t, func() bool { return r.layout(t).Ahead() == 3 })
	r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = now() - interval '2 hours'")
	eventually(t, func() bool {
		return value[bool](t, r, "SELECT ids_rotated_at > now() - interval '1 hour' FROM tailroom.log")
	})
	require.Equal(t, []string{"tailroom_owner"}, value[[]string](t, r,
		`SELECT array_agg(DISTINCT pg_get_userbyid(relowner)::text) FROM pg_class WHERE relnamespace = 'tailroom'::regnamespace AND relname LIKE 'events_%'`))
	for _, duty := range []string{dutyPartitions, dutyIDs, dutyFigures, dutySeal, dutyRetention} {
		require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", duty), duty)
	}

	for _, keep := range []Policy{{MaxAge: time.Hour}, {MaxBytes: 1}} {
		_, err := New(t.Context(), Config{DSN: dsn, Keep: keep, Metrics: prometheus.NewRegistry()})
		require.ErrorContains(t, err, "may not detach partitions, which belong to tailroom_owner")
		require.ErrorContains(t, err, "GRANT tailroom_owner TO "+name)
	}
}

// Revocations that no token can meet any more are forgotten, if tokens have a
// longest life; otherwise they are kept for ever.
func TestKeeper_ForgetsRevocations(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	r.exec(t, "SELECT tailroom.revoke_tokens('c1', 'old', NULL, now(), 'reason', 'actor')")
	r.exec(t, "UPDATE tailroom.revocations SET before = before - interval '63 minutes', created_at = created_at - interval '63 minutes'")
	r.exec(t, "SELECT tailroom.revoke_tokens('c1', 'young', NULL, now(), 'reason', 'actor')")
	r.exec(t, "UPDATE tailroom.revocations SET before = before - interval '61 minutes', created_at = created_at - interval '61 minutes' WHERE subject = 'young'")
	left := func() []string {
		return value[[]string](t, r, "SELECT array_agg(subject ORDER BY subject) FROM tailroom.revocations")
	}
	k := r.idle(t, r.dsn, Policy{})
	conn := k.sweeper(t)
	require.NoError(t, k.pass(t.Context(), conn, true))
	require.Equal(t, []string{"old", "young"}, left())
	k.lifetime = time.Hour
	require.NoError(t, k.pass(t.Context(), conn, false))
	require.Equal(t, []string{"old", "young"}, left(), "the leader does it")
	require.NoError(t, k.pass(t.Context(), conn, true))
	require.Equal(t, []string{"young"}, left(), "the clocks may be apart")
	require.Zero(t, k.figure(t, "tailroom_maintenance_failures_total", dutyRevocations))
}
