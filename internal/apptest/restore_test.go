package apptest_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// A dump is put in the place of the database under running instances: as a
// database of the same name, in the same cluster or in another one. PostgreSQL
// itself tells that it is another one.
func TestRestore_Dump(t *testing.T) {
	t.Parallel()
	for name, elsewhere := range map[string]bool{"in the same cluster": false, "in another cluster": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := pgtest.Server(t)
			dsn := pgtest.DatabaseOn(t, server)
			database := databaseOf(t, dsn)
			o := newOutage(t, dsn)
			level := o.publish(t, 4)
			dump := pgtest.Dump(t, server, database)
			ahead := o.publish(t, 4)

			if elsewhere {
				other := pgtest.Server(t)
				pgtest.DatabaseOn(t, other) // which makes the roles
				pgtest.Load(t, other, database, dump)
				o.dsn = other.URL(database)
				o.proxy.Redirect(t, o.dsn)
				pgtest.Kill(t, server)
			} else {
				pgtest.Load(t, server, "restored", dump)
				o.proxy.Refuse(true)
				until(t, server.URL("postgres"), "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE datname = '"+database+"')")
				execute(t, server.URL("postgres"),
					"ALTER DATABASE "+database+" RENAME TO before", "ALTER DATABASE restored RENAME TO "+database)
				o.proxy.Refuse(false)
			}
			o.requireForsaken(t, level, ahead)
			require.Len(t, o.epochs(t), 2, "one epoch for one loss")
		})
	}
}

// requireForsaken requires of a log that has lost what is between two cursors
// of the first epoch that everybody is told who must be, and converges.
func (o *outage) requireForsaken(t *testing.T, level, ahead string) {
	t.Helper()
	early := o.comeBack(t, ahead, o.instances...)
	o.publish(t, 2) // fewer than were lost
	requireTold(t, early, level)
	requireTold(t, o.staying, level)
	late := o.comeBack(t, ahead, o.instances...)
	same := o.comeBack(t, level, o.instances...)
	after := o.publish(t, 10)
	o.settle(t)
	requireTold(t, late, level)
	requireTold(t, same)
	require.Greater(t, parse(t, after).Epoch, int64(1))
	require.Equal(t, parse(t, level).Position, o.epochs(t).Limit(1))
}

// A base backup that is started without recovery.signal is the same cluster, on
// the same timeline. Only the instances can tell.
func TestRestore_BaseBackupWithoutRecoverySignal(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, server)
	o := newOutage(t, dsn)
	level := o.publish(t, 4)
	dir := pgtest.Dir(t)
	pgtest.BaseBackup(t, server, dir)
	ahead := o.publish(t, 4)
	pgtest.Kill(t, server)
	o.dsn = pgtest.ServerIn(t, dir).URL(databaseOf(t, dsn))
	o.proxy.Redirect(t, o.dsn)
	o.requireForsaken(t, level, ahead)
	require.Len(t, o.epochs(t), 2, "one epoch for one loss")
}

// With recovery.signal it is on a new timeline, and nobody need have been up.
func TestRestore_BaseBackupWithRecoverySignal(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, server)
	writer := &outage{instances: []*apptest.Instance{apptest.Start(t, dsn)}, service: serviceToken(t)}
	level := writer.publishBy(t, 4, writer.instances...)
	dir := pgtest.Dir(t)
	pgtest.BaseBackup(t, server, dir)
	ahead := writer.publishBy(t, 4, writer.instances...)
	writer.instances[0].Stop()
	pgtest.Kill(t, server)

	settings, err := os.OpenFile(filepath.Join(dir, "pg", "postgresql.auto.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = settings.WriteString("restore_command = 'false'\n") // there is no archive
	require.NoError(t, err)
	require.NoError(t, settings.Close())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "pg", "recovery.signal"), nil, 0o600))
	restored := pgtest.ServerIn(t, dir)
	until(t, restored.URL("postgres"), "SELECT NOT pg_is_in_recovery()")
	o := newOutage(t, restored.URL(databaseOf(t, dsn)))
	after := o.publishBy(t, 10, o.instances...)
	require.Equal(t, int64(2), parse(t, after).Epoch)
	late, same := o.comeBack(t, ahead, o.instances...), o.comeBack(t, level, o.instances...)
	o.settle(t)
	requireTold(t, late, level)
	requireTold(t, same)
	requireTold(t, o.staying)
}

// A snapshot of the volume is put back under running instances, and before they
// notice, one that knows nothing of it appends: the same positions again, in the
// same epoch, fewer or more than were lost. Those who come later are told, and
// so are the readers that the newcomer had led astray.
func TestRestore_VolumeSnapshot(t *testing.T) {
	t.Parallel()
	for name, since := range map[string]int{"noticed at once": 0, "fewer appended": 3, "more appended": 12} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, snapshot := pgtest.Dir(t), pgtest.Dir(t)
			server := pgtest.ServerIn(t, dir)
			dsn := pgtest.DatabaseOn(t, server)
			o := newOutage(t, dsn)
			level := o.publish(t, 4)
			require.NoError(t, server.Stop(t.Context()))
			pgtest.Snapshot(t, server, snapshot)
			server = pgtest.ServerIn(t, dir)
			ahead := o.publish(t, 6)

			o.proxy.Refuse(true)
			pgtest.Kill(t, server)
			pgtest.PutBack(t, snapshot, server)
			pgtest.ServerIn(t, dir)
			var astray []*follower
			if since > 0 {
				newcomer := apptest.Start(t, dsn)
				astray = o.comeBack(t, level, newcomer)
				last := o.publishBy(t, since, newcomer)
				require.Equal(t, int64(1), parse(t, last).Epoch, "nothing can tell him")
				apptest.Eventually(t, func() bool { return astray[0].has(parse(t, last)) }, apptest.Patience, 5*time.Millisecond)
			}
			o.proxy.Refuse(false)
			o.requireForsaken(t, level, ahead)
			requireTold(t, astray, level)
			if since == 0 {
				require.Len(t, o.epochs(t), 2, "one epoch for one loss")
			}
		})
	}
}

// When nobody is up who could notice, somebody has to say so. This is also what
// the checks are worth: without it they find a reader that goes on with
// positions that were handed out twice.
func TestRestore_NobodyNoticed(t *testing.T) {
	t.Parallel()
	for name, said := range map[string]bool{"and nobody says so": false, "tailroom epoch new": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, snapshot := pgtest.Dir(t), pgtest.Dir(t)
			server := pgtest.ServerIn(t, dir)
			dsn := pgtest.DatabaseOn(t, server)
			o := &outage{dsn: dsn, service: serviceToken(t), ctx: t.Context()}
			before := apptest.Start(t, dsn)
			level := o.publishBy(t, 4, before)
			before.Stop()
			require.NoError(t, server.Stop(t.Context()))
			pgtest.Snapshot(t, server, snapshot)
			server = pgtest.ServerIn(t, dir)
			before = apptest.Start(t, dsn)
			ahead := o.publishBy(t, 6, before)
			before.Stop()
			pgtest.Kill(t, server)
			pgtest.PutBack(t, snapshot, server)
			pgtest.ServerIn(t, dir)
			if said {
				opened, err := eventlog.New(pgtest.Pool(t, dsn)).OpenEpoch(t.Context(), "the volume was put back", "officer:1")
				require.NoError(t, err)
				require.Equal(t, int64(2), opened.Number)
			}

			o.instances = []*apptest.Instance{apptest.Start(t, dsn), apptest.Start(t, dsn)}
			o.publishBy(t, 10, o.instances...)
			late := o.comeBack(t, ahead, o.instances...)
			same := o.comeBack(t, level, o.instances...)
			end(t, o.instances[0], "c1")
			require.NoError(t, o.reading.Wait())
			log := readLog(t, dsn)
			for _, f := range same {
				require.NoError(t, f.check(log, f.matches))
			}
			requireTold(t, same)
			for _, f := range late {
				f.from = parse(t, level).Position // what he had of what was lost he gives up only if he is told
				if said {
					require.NoError(t, f.check(log, f.matches))
				} else {
					require.ErrorContains(t, f.check(log, f.matches), "skipped 5")
				}
			}
			if said {
				requireTold(t, late, level)
			}
		})
	}
}
