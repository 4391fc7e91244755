package apptest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/state"
)

// Retain does what retention does, at once: the events up to and with floor, which is
// the end of a partition, are gone, and their streams' states are kept. The states
// must have come as far.
func Retain(t testing.TB, dsn string, floor int64) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	require.NoError(t, state.Closes(catalog.Default().Closes).RaiseFloor(t.Context(), conn, floor))
	rows, err := conn.Query(t.Context(), "SELECT name FROM tailroom.partitions WHERE beyond <= $1 + 1 ORDER BY first", floor)
	require.NoError(t, err)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	for _, name := range names {
		for _, sql := range []string{
			"ALTER TABLE tailroom.events DETACH PARTITION tailroom." + name + " CONCURRENTLY",
			"DROP TABLE tailroom." + name,
			"DELETE FROM tailroom.partitions WHERE name = '" + name + "'",
		} {
			_, err := conn.Exec(t.Context(), sql)
			require.NoError(t, err, sql)
		}
	}
}
