package apptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// standby is a real streaming standby.
func standby(t *testing.T, primary *localpg.Server) *localpg.Server {
	t.Helper()
	dir := pgtest.Dir(t)
	pgtest.BaseBackup(t, primary, dir, "--write-recovery-conf")
	return pgtest.ServerIn(t, dir)
}

// stopsReceiving lets a standby receive what the primary has, and nothing after
// that.
func stopsReceiving(t *testing.T, server, primary *localpg.Server) {
	t.Helper()
	to := query[string](t, primary.URL("postgres"), "SELECT pg_current_wal_flush_lsn()::text")
	until(t, server.URL("postgres"), "SELECT pg_last_wal_replay_lsn() >= '"+to+"'")
	execute(t, server.URL("postgres"), "ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
	until(t, server.URL("postgres"), "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// promote makes a standby the primary that the instances reach.
func (o *outage) promote(t *testing.T, server *localpg.Server, database string) {
	t.Helper()
	require.True(t, query[bool](t, server.URL("postgres"), "SELECT pg_promote()"))
	o.dsn = server.URL(database)
	o.proxy.Redirect(t, o.dsn)
}

// The primary is killed and a standby promoted that lacks the last events. Who
// had them is told, and goes on with everybody else from where the survivor
// ends; nobody else notices. The sequence that positions come from is ahead of
// the events on the survivor: a cursor in between is of nothing.
func TestFailover_ToAStandbyThatLags(t *testing.T) {
	t.Parallel()
	primary := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, primary)
	database := databaseOf(t, dsn)
	survivor := standby(t, primary)
	o := newOutage(t, dsn)
	behind := o.publish(t, 3)
	execute(t, dsn, "SELECT nextval('tailroom.positions')") // which is how sequences are used elsewhere
	level := o.publish(t, 3)
	require.Equal(t, "1-7", level)
	execute(t, dsn, "SELECT nextval('tailroom.positions')")
	stopsReceiving(t, survivor, primary)
	ahead := o.publish(t, 4)
	require.Equal(t, "1-12", ahead)
	jump := query[int64](t, survivor.URL(database), "SELECT last_value FROM tailroom.positions")
	require.Greater(t, jump, int64(30))

	pgtest.Kill(t, primary)
	o.promote(t, survivor, database)
	early := o.comeBack(t, ahead, o.instances...) // before anything is published
	o.publish(t, 2)
	requireTold(t, early, level)
	before := o.comeBack(t, behind, o.instances...)
	same := o.comeBack(t, level, o.instances...)
	late := o.comeBack(t, ahead, o.instances...)
	between := o.comeBack(t, "1-20", o.instances...)
	after := o.publish(t, 40) // beyond what was lost, and beyond the jump

	log := o.settle(t)
	requireTold(t, late, level)
	requireTold(t, between, level)
	requireTold(t, before)
	requireTold(t, same)
	requireTold(t, o.staying, level)
	require.Equal(t, int64(2), parse(t, after).Epoch)
	require.Len(t, o.epochs(t), 2)
	require.Equal(t, int64(7), o.epochs(t)[1].Survived)
	require.Equal(t, int64(8), log[6].Cursor.Position, "not behind the jump")
}

// Nothing is lost when the standby had everything: nobody is told anything.
func TestFailover_ToAStandbyThatIsLevel(t *testing.T) {
	t.Parallel()
	primary := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, primary)
	survivor := standby(t, primary)
	o := newOutage(t, dsn)
	level := o.publish(t, 5)
	stopsReceiving(t, survivor, primary)
	pgtest.Kill(t, primary)
	o.promote(t, survivor, databaseOf(t, dsn))
	back := o.comeBack(t, level, o.instances...)
	after := o.publish(t, 5)
	o.settle(t)
	requireTold(t, back)
	requireTold(t, o.staying)
	require.Equal(t, "2-10", after)
}

// Two failovers, and the second survivor has never heard of the first: not of
// its events, and not of its epoch. It would use the number again.
func TestFailover_TwiceInARow(t *testing.T) {
	t.Parallel()
	for name, stranger := range map[string]bool{"an instance that remembers appends first": false, "an instance that does not": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			primary := pgtest.Server(t)
			dsn := pgtest.DatabaseOn(t, primary)
			database := databaseOf(t, dsn)
			first, second := standby(t, primary), standby(t, primary)
			o := newOutage(t, dsn)
			behind := o.publish(t, 2)
			stopsReceiving(t, second, primary)
			o.publish(t, 2)
			stopsReceiving(t, first, primary)
			lostFirst := o.publish(t, 2)

			pgtest.Kill(t, primary)
			o.promote(t, first, database)
			lost := o.publish(t, 3)
			require.Equal(t, "2-7", lost)
			pgtest.Kill(t, first)
			o.proxy.Refuse(true)
			o.promote(t, second, database)
			if stranger {
				i := apptest.Start(t, o.dsn)
				require.Equal(t, "2-8", o.publishBy(t, 6, i), "the very number, and beyond what was lost")
			}
			o.proxy.Refuse(false)
			for _, i := range o.instances { // what is published before they have looked is taken over
				awaitMetric(t, i, "tailroom_hub_epoch", 3)
			}
			after := o.publish(t, 4)
			require.Greater(t, parse(t, after).Epoch, int64(2))
			ofFirst := o.comeBack(t, lostFirst, o.instances...)
			ofSecond := o.comeBack(t, lost, o.instances...)
			level := o.comeBack(t, behind, o.instances...)
			o.publish(t, 4)
			o.settle(t)
			requireTold(t, level)
			requireTold(t, ofFirst, "1-2")
			for _, f := range ofSecond {
				require.Len(t, f.resumes, 1)
				require.Equal(t, int64(2), parse(t, f.resumes[0]).Position)
			}
			for _, f := range o.staying {
				require.Len(t, f.resumes, 2)
				require.Equal(t, int64(2), parse(t, f.resumes[1]).Position)
			}
		})
	}
}
