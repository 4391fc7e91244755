package apptest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The database may be an application's, which prefers other isolation levels.
func TestInstance_InADatabaseOfAnotherIsolation(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), `DO $$ BEGIN
		EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database());
	END $$`)
	require.NoError(t, err)
	instance := apptest.Start(t, dsn)
	token := apptest.Token(t, access.Service, "c1")
	instance.Publish(t, token, smallEvent)
	_, err = pgtest.Pool(t, dsn).Exec(t.Context(), `SELECT tailroom.publish('c1', '/availability', 'newAlert', '{"message":"x"}')`)
	require.NoError(t, err)
	heard, _ := instance.Hello(t, token, "earliest", `[{"namespace":"/availability"}]`)
	heard.Collect(t, 2)
}

// Instances, whose database role is a member of tailroom_writer and of nothing
// else, have all that they need, also when partitions turn over and when they
// are to see by themselves that nothing is to be migrated.
func TestRoles_InstancesOfAWriter(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 100")
	require.NoError(t, err)
	instances := []*apptest.Instance{apptest.Start(t, dsn), apptest.Start(t, dsn, "TAILROOM_MIGRATE=on")}
	for _, i := range instances {
		awaitNotifications(t, i, "listening")
	}
	var member, owner bool
	require.NoError(t, pool.QueryRow(t.Context(), `SELECT bool_and(pg_has_role(usename, 'tailroom_writer', 'MEMBER')),
		bool_or(pg_has_role(usename, 'tailroom_owner', 'MEMBER')) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name LIKE 'tailroom %'`).Scan(&member, &owner))
	require.True(t, member)
	require.False(t, owner, "the suite proves nothing when its instances may do more")
	tr := newTraffic(t, dsn, instances)
	apptest.Eventually(t, func() bool {
		var partitions int
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.partitions").Scan(&partitions))
		return partitions > 4 // the first, and three ahead
	}, apptest.Patience, 20*time.Millisecond)
	tr.goesOn(t)

	// And the application's is a member of tailroom_publisher and of nothing else.
	_, publisher := pgtest.Login(t, dsn, "tailroom_publisher")
	application := pgtest.Pool(t, publisher)
	for _, function := range []string{"publish", "append"} {
		_, err := application.Exec(t.Context(), "SELECT tailroom."+function+`('c3', '/orders', 'newOrder', '{"orderId":"1","branchId":"b1"}')`)
		require.NoError(t, err)
	}
	heard, _ := instances[0].Hello(t, apptest.Token(t, access.Web, "c3"), "earliest", `[{"namespace":"/orders"}]`)
	heard.Collect(t, 2)

	tr.finish(t)
	leaders := 0.0
	for _, i := range instances {
		leaders += i.Metric(t, "tailroom_maintenance_leader")
		for _, duty := range []string{"partitions", "ids", "figures", "seal"} {
			require.Zero(t, i.Metric(t, `tailroom_maintenance_failures_total{duty="`+duty+`"}`), duty)
		}
	}
	require.EqualValues(t, 1, leaders)
}
