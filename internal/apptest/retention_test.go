package apptest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/app"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Retention by size, as an instance does it by itself: the oldest partitions go,
// and clients that come with a cursor from there are told so on every way in. A
// stream of which nothing is left goes on with its next version.
func TestRetention_TellsLateClients(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 100")
	require.NoError(t, err)
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	before := apptest.Start(t, dsn)
	order := func(i *apptest.Instance, id string) apptest.Receipt {
		return i.Publish(t, service, fmt.Sprintf(
			`{"namespace":"/orders","type":"newOrder","data":{"orderId":%q,"branchId":"b1","note":%q}}`, id, noise(8_000)))[0]
	}
	require.Equal(t, int64(1), *order(before, "first").Version)
	for range 350 {
		order(before, "1042")
	}
	before.Stop()

	_, owner := pgtest.Login(t, dsn, "tailroom_owner")
	i := apptest.Start(t, owner, append([]string{"RETENTION=30d,2400KiB"}, tinyWindow...)...)
	// One sweep seals the partitions and the next one, twenty seconds later, drops them.
	apptest.Eventually(t, func() bool { return i.Metric(t, "tailroom_partitions_dropped_total") >= 2 },
		3*apptest.Patience, apptest.Patience/1000)
	layout, err := eventlog.New(pool).Layout(t.Context())
	require.NoError(t, err)
	require.LessOrEqual(t, layout.Bytes(), int64(2400<<10))
	floor := layout.Floor
	require.Equal(t, int64(200), floor)
	oldest := fmt.Sprintf("1-%d", floor)

	for _, cursor := range []string{"1-0", "1-1", fmt.Sprintf("1-%d", floor-1)} {
		socket, welcome := i.Hello(t, web, cursor, `[{"namespace":"/orders"}]`)
		require.Equal(t, oldest, welcome.Cursor)
		reset := socket.Next(t)
		require.Equal(t, "reset", reset.Type)
		require.Equal(t, []string{"expired", oldest, oldest}, []string{reset.Reason, reset.Oldest, reset.Resume})
		require.Equal(t, floor+1, socket.Next(t).Decoded(t)[0].Position)

		stream := i.Stream(t, web, "cursor="+cursor)
		block, err := stream.Next(t)
		for err == nil && block.Event == "" {
			block, err = stream.Next(t)
		}
		require.NoError(t, err)
		require.Equal(t, "tailroom.reset", block.Event)
		require.Contains(t, block.Data, `"reason":"expired"`)
		require.Contains(t, block.Data, fmt.Sprintf(`"resume":%q`, oldest))

		answer := i.Get(t, "/v1/events?after="+cursor, service)
		require.Equal(t, http.StatusGone, answer.Status)
		require.Equal(t, []string{"cursor_expired", oldest, oldest},
			[]string{answer.Code(), answer.Field("oldest"), answer.Field("resume")})
	}
	events, _, _ := i.History(t, service, "after="+oldest+"&limit=10000")
	require.Equal(t, int(351-floor), len(events)) // the events are 8 KB each, nobody wants to see them
	require.Equal(t, floor+1, events[0].Position)
	socket, _ := i.Hello(t, web, oldest, `[{"namespace":"/orders"}]`)
	require.Equal(t, "events", socket.Next(t).Type, "a cursor at the floor is good")

	require.Equal(t, int64(2), *order(i, "first").Version)
}

// noise is text that does not compress.
func noise(n int) string {
	var b strings.Builder
	random := uint64(n)
	for b.Len() < n {
		random = random*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%016x", random)
	}
	return b.String()[:n]
}

// When no partition is left and none can be made, a publish is refused with the
// reason and stays harmless; as soon as one can be made, publishing goes on.
func TestNoPartitionLeft(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	_, err := pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 10")
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	_, err = pool.Exec(t.Context(), `CREATE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no tables today'; END $$`)
	require.NoError(t, err)
	_, err = pool.Exec(t.Context(), `CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.refuse()`)
	require.NoError(t, err)
	service := apptest.Token(t, access.Service, "c1")
	body := `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`
	for range 40 {
		i.Publish(t, service, body)
	}
	for range 3 {
		refused := i.Post(t, service, body)
		require.Equal(t, http.StatusServiceUnavailable, refused.Status, string(refused.Body))
		require.Equal(t, "unavailable", refused.Code())
		require.Contains(t, refused.Field("detail"), "no partition to write to")
		require.Contains(t, refused.Field("detail"), "tailroom partitions list")
		require.Equal(t, "1", refused.Header.Get("Retry-After"))
	}
	apptest.Eventually(t, func() bool { return i.Metric(t, "tailroom_partitions_ahead") == 0 },
		apptest.Patience, apptest.Patience/300)
	require.Zero(t, i.Metric(t, "tailroom_append_retries_total"))
	require.Equal(t, http.StatusOK, i.Get(t, "/readyz", "").Status, "reading goes on")
	events, _, _ := i.History(t, service, "limit=1000")
	require.Len(t, events, 40)

	_, err = pool.Exec(t.Context(), "DROP EVENT TRIGGER refuse")
	require.NoError(t, err)
	apptest.Eventually(t, func() bool { return i.Post(t, service, body).Status == http.StatusCreated },
		apptest.Patience, apptest.Patience/300)
	apptest.Eventually(t, func() bool { return i.Metric(t, "tailroom_partitions_ahead") >= 2 },
		apptest.Patience, apptest.Patience/300)
}

// An instance that may not do what its settings ask for does not start.
func TestRetention_NeedsTheOwner(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	name, login := pgtest.Login(t, dsn, "tailroom_writer")
	c, err := config.Load([]string{
		"DATABASE_URL=" + login, "JWT_SECRET=" + apptest.Secret, "PORT=0", "TAILROOM_MIGRATE=off", "RETENTION=90d",
	}, pflag.NewFlagSet("test", pflag.ContinueOnError))
	require.NoError(t, err)
	_, err = app.Build(t.Context(), c, "test")
	require.ErrorContains(t, err, "RETENTION is set, but the database role "+name+" may not detach partitions")
	require.ErrorContains(t, err, "GRANT tailroom_owner TO "+name)
}
