package eventlog_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// requireConsistent checks what holds of every log whose ids were never
// forgotten: it is sound, ids are unique within a tenant, and the idempotency
// window says what the events say.
func requireConsistent(t *testing.T, r *rig) {
	t.Helper()
	requireSound(t, r)
	type id struct {
		tenant string
		id     [16]byte
	}
	ids := map[id]int64{}
	for _, e := range r.all(t) {
		key := id{e.Tenant, e.ID}
		require.Zero(t, ids[key], "%v is in the log twice", key)
		ids[key] = e.Cursor.Position
	}

	rows, err := r.pool.Query(t.Context(), "SELECT tenant, id, position FROM tailroom.recent_ids")
	require.NoError(t, err)
	window := map[id]int64{}
	for rows.Next() {
		var key id
		var position int64
		require.NoError(t, rows.Scan(&key.tenant, &key.id, &position))
		window[key] = position
	}
	require.NoError(t, rows.Err())
	require.Equal(t, ids, window)
}

// requireSound checks what holds of every log: positions strictly increase,
// epochs never decrease, each stream's versions are dense from 1 in the order of
// positions, and the heads say what the events say.
func requireSound(t *testing.T, r *rig) {
	t.Helper()
	type stream struct{ tenant, namespace, name string }
	type head struct{ version, position int64 }
	heads := map[stream]head{}
	var last event.Cursor
	for _, e := range r.all(t) {
		require.Greater(t, e.Cursor.Position, last.Position)
		require.GreaterOrEqual(t, e.Cursor.Epoch, last.Epoch)
		last = e.Cursor
		if e.Stream == "" {
			require.Zero(t, e.Version)
			continue
		}
		s := stream{e.Tenant, e.Namespace, e.Stream}
		require.Equal(t, heads[s].version+1, e.Version, "%v at %d", s, e.Cursor.Position)
		heads[s] = head{e.Version, e.Cursor.Position}
	}

	rows, err := r.pool.Query(t.Context(), "SELECT tenant, namespace, stream, version, last_position FROM tailroom.streams")
	require.NoError(t, err)
	kept := map[stream]head{}
	for rows.Next() {
		var s stream
		var h head
		require.NoError(t, rows.Scan(&s.tenant, &s.namespace, &s.name, &h.version, &h.position))
		kept[s] = h
	}
	require.NoError(t, rows.Err())
	require.Equal(t, heads, kept)
}

// requireState requires an error of PostgreSQL with a SQLSTATE.
func requireState(t *testing.T, err error, state string) {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, state, pg.Code, pg.Message)
}
