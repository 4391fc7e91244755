package apptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// loseEnd makes the log what it is after a failover to a standby that lagged:
// events above a position never were, and the identity is another one. What
// does that to a table that refuses it is a superuser's replication role.
const loseEnd = `
	BEGIN;
	SET LOCAL session_replication_role = replica;
	DELETE FROM tailroom.events WHERE position > 3;
	DELETE FROM tailroom.recent_ids_0 WHERE position > 3;
	UPDATE tailroom.streams SET version = 3, last_position = 3;
	UPDATE tailroom.epochs SET identity = 'the primary before';
	COMMIT`

// A log that has lost its end under a running instance hands positions out
// again. Nobody takes the new events for the old ones: who was beyond the end is
// told where to go on, who was not goes on, and everybody gets every new event.
func TestLogLosesItsEnd(t *testing.T) {
	t.Parallel()
	for name, heard := range map[string]bool{"the line breaks": true, "nothing breaks": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pgtest.Database(t)
			pool := pgtest.Pool(t, dsn)
			i := apptest.Start(t, dsn)
			service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
			publish := func(n int) {
				for range n {
					i.Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`)
				}
			}
			publish(5)
			i.Reach(t, 5) // else it could be live before the last
			ahead, _ := i.Hello(t, web, "earliest", `[{"namespace":"/orders"}]`)
			ahead.Collect(t, 5)
			ahead.Until(t, "live")

			awaitNotifications(t, i, "listening")
			_, err := pool.Exec(t.Context(), loseEnd)
			require.NoError(t, err)
			if heard {
				require.Positive(t, terminate(t, pool, "tailroom listen"))
			}
			publish(4)

			said := ahead.Until(t, "reset")
			reset := said[len(said)-1]
			require.Equal(t, "diverged", reset.Reason)
			require.Equal(t, "1-3", reset.Resume)
			var cursors []string
			for _, e := range ahead.Collect(t, 4) {
				cursors = append(cursors, e.Cursor)
			}
			require.Equal(t, []string{"2-4", "2-5", "2-6", "2-7"}, cursors)

			behind, _ := i.Hello(t, web, "1-2", `[{"namespace":"/orders"}]`)
			require.Len(t, behind.Collect(t, 5), 5)
			late, welcome := i.Hello(t, web, "1-5", `[{"namespace":"/orders"}]`)
			require.Equal(t, "1-3", welcome.Cursor)
			require.Equal(t, "diverged", late.Next(t).Reason)
		})
	}
}
