package migrations_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/migrations"
)

// as is the address of a server's database for one of its roles.
func as(t *testing.T, server *localpg.Server, role, database string) string {
	t.Helper()
	u, err := url.Parse(server.URL(database))
	require.NoError(t, err)
	u.User = url.User(role)
	return u.String()
}

// A role that owns the database and may make roles need not be a superuser. Its
// next database in the cluster finds the roles there.
func TestUp_WithoutASuperuser(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t) // which has none of Tailroom's roles
	admin := connect(t, server.URL("postgres"))
	exec(t, admin, "CREATE ROLE app LOGIN CREATEROLE")
	for _, database := range []string{"first", "second"} {
		exec(t, admin, "CREATE DATABASE "+database+" OWNER app")
		dsn := as(t, server, "app", database)
		require.NoError(t, migrations.Up(t.Context(), dsn))
		requireStatus(t, dsn, newest(t), false)
		conn := connect(t, dsn)
		whole := schema(t, conn)
		exec(t, conn, "SELECT tailroom.partitions_ahead(1)")
		for range newest(t) {
			require.NoError(t, migrations.Down(t.Context(), dsn))
		}
		require.Empty(t, schema(t, conn))
		require.NoError(t, migrations.Up(t.Context(), dsn))
		require.Equal(t, whole, schema(t, conn))
	}
	var roles int
	require.NoError(t, admin.QueryRow(t.Context(), `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tailroom\_%'`).Scan(&roles))
	require.Equal(t, 5, roles)
}

// A role that may not make roles is told what an administrator must run. When
// that was run, word for word, it goes on.
func TestUp_WithoutTheRightToMakeRoles(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	admin := connect(t, server.URL("postgres"))
	told := regexp.MustCompile(`let an administrator run ((?:[^;]+;)+) \(SQLSTATE 42501\)`)
	for _, owner := range []string{"app", "Of another-app"} { // for the second, the roles are there
		exec(t, admin, `CREATE ROLE "`+owner+`" LOGIN`)
		exec(t, admin, `CREATE DATABASE "`+owner+`" OWNER "`+owner+`"`)
		dsn := as(t, server, owner, owner)
		err := migrations.Up(t.Context(), dsn)
		require.ErrorContains(t, err, "tailroom migrate retry")
		requireStatus(t, dsn, 5, true)
		statements := told.FindStringSubmatch(err.Error())
		require.NotNil(t, statements, err)
		require.Equal(t, owner == "app", strings.Contains(statements[1], "CREATE ROLE tailroom_owner NOLOGIN; "), statements[1])
		require.NotContains(t, statements[1], "SUPERUSER")

		err = migrations.Retry(t.Context(), dsn)
		require.ErrorContains(t, err, statements[1], "nothing was mended yet")
		exec(t, admin, statements[1])
		require.NoError(t, migrations.Retry(t.Context(), dsn))
		requireStatus(t, dsn, newest(t), false)
	}
}

// An instance's role, which may not migrate, is kept from nothing when there is
// nothing to do, and told what to do when there is.
func TestUp_AsAnInstance(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	instance := pgtest.Writer(dsn)
	require.NotEqual(t, dsn, instance)
	require.NoError(t, migrations.Up(t.Context(), instance))
	require.NoError(t, migrations.Down(t.Context(), dsn))
	err := migrations.Up(t.Context(), instance)
	require.ErrorContains(t, err, "may not migrate the database: let one that owns it run `tailroom migrate up`")
	requireStatus(t, dsn, newest(t)-1, false)
	require.NoError(t, migrations.Up(t.Context(), dsn))
	require.NoError(t, migrations.Up(t.Context(), instance))
}
