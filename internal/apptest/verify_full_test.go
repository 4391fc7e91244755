package apptest_test

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Every connection of an instance is TLS when its database's URL says
// verify-full, and none is made to a server that cannot prove who it is: when
// another takes its place, the instance waits until the right one is back.
func TestDatabase_VerifyFull(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	cert, key := authority.Sign(t, time.Now().Add(time.Hour), "localhost")
	server, port := pgtest.TLSServer(t, cert, key)
	dsn := pgtest.DatabaseOn(t, server)
	pool := pgtest.Pool(t, dsn)
	i := apptest.Start(t, pgtest.TLSAddress(dsn, "localhost", port, authority.File), "TAILROOM_PUBLISH_TIMEOUT=500ms")
	service := apptest.Token(t, access.Service, "c1")
	order := `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`
	socket, _ := i.Hello(t, apptest.Token(t, access.Web, "c1"), "", `[{"namespace":"/orders"}]`)
	socket.Until(t, "live")

	names := []string{
		"tailroom append", "tailroom listen", "tailroom live", "tailroom maintenance", "tailroom outbox", "tailroom query",
		"tailroom state",
	}
	// connections are the instance's: their names, and which of them lack TLS.
	connections := func() (all, plain []string) {
		err := pool.QueryRow(t.Context(), `SELECT coalesce(array_agg(DISTINCT a.application_name), '{}'),
				coalesce(array_agg(a.application_name) FILTER (WHERE NOT s.ssl), '{}')
			FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
			WHERE a.application_name LIKE 'tailroom %' AND a.datname = current_database()`).Scan(&all, &plain)
		require.NoError(t, err)
		return all, plain
	}
	connected := func() bool {
		answer := i.Post(t, service, order) // if it is refused, it may be in the log nevertheless
		if answer.Status != http.StatusCreated || i.Get(t, "/v1/events", service).Status != http.StatusOK {
			return false
		}
		last := decode[struct{ Events []apptest.Receipt }](t, answer.Body).Events[0].ID
		for heard := ""; heard != last; {
			for _, e := range socket.Next(t).Decoded(t) {
				heard = e.ID
			}
		}
		all, plain := connections()
		require.Empty(t, plain)
		return !slices.ContainsFunc(names, func(name string) bool { return !slices.Contains(all, name) })
	}
	apptest.Eventually(t, connected, apptest.Patience, 20*time.Millisecond)

	for name, show := range map[string]func() ([]byte, []byte){
		"another authority": func() ([]byte, []byte) {
			return certtest.NewAuthority(t).Sign(t, time.Now().Add(time.Hour), "localhost")
		},
		"another host": func() ([]byte, []byte) { return authority.Sign(t, time.Now().Add(time.Hour), "elsewhere.example") },
		"expired":      func() ([]byte, []byte) { return authority.Sign(t, time.Now().Add(-time.Minute), "localhost") },
	} {
		other, otherKey := show()
		pgtest.Show(t, server, other, otherKey)
		// Those too that were made with the certificate of before while it went.
		apptest.Eventually(t, func() bool {
			tag, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
				WHERE application_name LIKE 'tailroom %' AND datname = current_database()`)
			require.NoError(t, err)
			return tag.RowsAffected() == 0
		}, apptest.Patience, 20*time.Millisecond, name)
		socket.Until(t, "degraded")
		require.Equal(t, "unavailable", i.Post(t, service, order).Code(), name)
		awaitNotifications(t, i, "poll-only")
		// Longer than any of them waits before it tries again.
		require.Never(t, func() bool {
			all, _ := connections()
			return len(all) > 0
		}, 3*time.Second, 50*time.Millisecond, name)

		pgtest.Show(t, server, cert, key)
		socket.Until(t, "live")
		apptest.Eventually(t, connected, apptest.Patience, 20*time.Millisecond, name)
		awaitNotifications(t, i, "listening")
	}
}
