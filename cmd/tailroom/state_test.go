package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The states are made anew by the rules of another catalogue, with the role of an
// instance, while one is running.
func TestStateRebuild(t *testing.T) {
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	last := i.Publish(t, service, `[
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}},
		{"namespace":"/orders","type":"orderStatusUpdate","data":{"orderId":"2","branchId":"b1","status":"ready"}}]`)[1]
	open := func() string { return string(i.Get(t, "/v1/state?open=true&asOf="+last.Cursor, service).Body) }
	require.Contains(t, open(), "order:2")

	t.Setenv("DATABASE_URL", pgtest.Writer(dsn))
	out, said, err := tailroom(t.Context(), nil, "state", "rebuild")
	require.NoError(t, err)
	require.Regexp(t, `^The states are made anew, and were true at 1-2 when they became live: 0 from the floor, 2 events, in \d+(\.\d+)?m?s\.\n$`, out)
	require.Empty(t, said, "it was quicker than the first line of progress")
	require.Contains(t, open(), "order:2")

	file := filepath.Join(t.TempDir(), "events.yaml")
	require.NoError(t, os.WriteFile(file, []byte("namespaces: {/orders: {events: {orderStatusUpdate: {closes: {when: {status: [ready]}}}}}}"), 0o600))
	t.Setenv("CATALOG_FILE", file)
	_, _, err = tailroom(t.Context(), nil, "state", "rebuild", "--quiet")
	require.NoError(t, err)
	require.Contains(t, open(), "order:1")
	require.NotContains(t, open(), "order:2")

	t.Setenv("CATALOG_FILE", filepath.Join(t.TempDir(), "none.yaml"))
	_, _, err = tailroom(t.Context(), nil, "state", "rebuild")
	require.ErrorContains(t, err, "none.yaml")
	out, _, err = tailroom(t.Context(), nil, "state", "rebuild", "--help")
	require.NoError(t, err)
	require.Contains(t, out, "DATABASE_URL=postgres://… tailroom state rebuild")
}
