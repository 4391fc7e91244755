package main

import (
	"fmt"
	"os/user"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// redactable is an instance with one event of personal data.
func redactable(t *testing.T, dsn string) (*apptest.Instance, *pgxpool.Pool) {
	t.Helper()
	i := apptest.Start(t, dsn)
	i.Publish(t, apptest.Token(t, access.Service, "c1"),
		`{"namespace":"/orders","type":"newOrder","data":{"orderId":"7","branchId":"b1","customer":{"name":"Ada Example"}}}`)
	i.Reach(t, 1)
	return i, pgtest.Pool(t, dsn)
}

func read(t *testing.T, pool *pgxpool.Pool, position int64) *event.Entry {
	t.Helper()
	e, err := eventlog.New(pool).At(t.Context(), position)
	require.NoError(t, err)
	return e
}

func TestRedact(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	i, pool := redactable(t, dsn)
	before := read(t, pool, 1)
	out, said, err := tailroom(t.Context(), nil, "redact", "--position", "1", "--reason", "request 17",
		"--actor", "officer:1", "--data", `{"orderId": "7"}`, "--yes")
	require.NoError(t, err)
	require.Equal(t, "1-2\n", out)
	for _, shown := range []string{"1-1", before.ID.String(), "c1", "/orders", "newOrder", "order:7", before.RecordedAt.UTC().Format(event.TimeLayout)} {
		require.Contains(t, said, " "+shown+"\n")
	}
	require.Contains(t, said, "events_1 was vacuumed")
	require.NotContains(t, said, "Ada")
	require.JSONEq(t, `{"orderId":"7"}`, string(read(t, pool, 1).Data))
	record := read(t, pool, 2)
	require.Equal(t, "officer:1", record.Actor)
	require.Contains(t, string(record.Data), `"reason":"request 17"`)

	i.Reach(t, 2)
	lines := i.Lines(t, "/v1/events", apptest.Token(t, access.Web, "c1"))
	require.Len(t, lines, 1)
	require.Contains(t, lines[0], `"data":{"orderId":"7"}}`)
}

// Without more words, all of the data go, in the name of who sits there.
func TestRedact_Defaults(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	_, pool := redactable(t, dsn)
	_, _, err := tailroom(t.Context(), nil, "redact", "--position", "1", "--reason", "request 17", "--yes")
	require.NoError(t, err)
	require.Equal(t, "{}", string(read(t, pool, 1).Data))
	me, err := user.Current()
	require.NoError(t, err)
	require.Equal(t, me.Username, read(t, pool, 2).Actor)
}

func TestRedact_Refused(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	_, pool := redactable(t, dsn)
	before := read(t, pool, 1)
	for want, args := range map[string]string{
		`"reason" not set`:               "--position 1 --yes",
		`"position" not set`:             "--reason x --yes",
		"no event at position 9":         "--reason x --yes --position 9",
		"no event at position 0":         "--reason x --yes --position 0",
		"--data [1]: want a JSON object": "--reason x --yes --position 1 --data [1]",
		"--data null: want a JSON":       "--reason x --yes --position 1 --data null",
		"--data {: want a JSON object":   "--reason x --yes --position 1 --data {",
		"actor is 1 to 300 printable":    "--reason x --yes --position 1 --actor " + strings.Repeat("x", 301),
		"nobody is there to ask":         "--reason x --position 1",
	} {
		out, _, err := tailroom(t.Context(), strings.NewReader("yes\n"), append([]string{"redact"}, strings.Fields(args)...)...)
		require.ErrorContains(t, err, want)
		require.Empty(t, out)
	}
	require.Equal(t, before, read(t, pool, 1))
}

// An instance's role may not. Who may is told.
func TestRedact_NotTheOwner(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	_, pool := redactable(t, dsn)
	before := read(t, pool, 1)
	name, login := pgtest.Login(t, dsn, "tailroom_writer")
	t.Setenv("DATABASE_URL", login)
	_, _, err := tailroom(t.Context(), nil, "redact", "--position", "1", "--reason", "x", "--yes")
	require.ErrorContains(t, err, fmt.Sprintf("GRANT tailroom_owner TO %q", name))
	require.Equal(t, before, read(t, pool, 1))

	_, err = pool.Exec(t.Context(), "GRANT tailroom_owner TO "+name)
	require.NoError(t, err)
	_, said, err := tailroom(t.Context(), nil, "redact", "--position", "1", "--reason", "x", "--yes")
	require.NoError(t, err)
	require.Contains(t, said, "vacuumed")
}
