package apptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// Each instance shows the others where it is reached: at the address that reaches the
// database, or where it is told.
func TestInstances_Addresses(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	first := apptest.Start(t, dsn)
	everywhere := apptest.Start(t, dsn, "TAILROOM_HOST=0.0.0.0")
	apptest.Start(t, dsn, "TAILROOM_ADVERTISE_URL=https://node-3.example:3001")
	var addresses []string
	require.NoError(t, pgtest.Pool(t, dsn).QueryRow(t.Context(),
		"SELECT array_agg(address ORDER BY started_at) FROM tailroom.instances").Scan(&addresses))
	require.Equal(t, []string{first.URL, everywhere.URL, "https://node-3.example:3001"}, addresses)
}
