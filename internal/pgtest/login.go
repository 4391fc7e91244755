package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

var logins atomic.Int64

// Login makes a role that may log in and is a member of some others, and is
// nothing else; and the address of a database for it. dsn is that of a superuser.
// The role is dropped when the test ends: it must not own anything by then.
func Login(t testing.TB, dsn string, groups ...string) (name, address string) {
	t.Helper()
	name = fmt.Sprintf("login_%d", logins.Add(1))
	create := "CREATE ROLE " + name + " LOGIN"
	if len(groups) > 0 {
		create += " IN ROLE " + strings.Join(groups, ", ")
	}
	run := func(sql string) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		require.NoError(t, err)
		defer func() { _ = conn.Close(ctx) }()
		_, err = conn.Exec(ctx, sql)
		require.NoError(t, err)
	}
	run(create)
	t.Cleanup(func() { run("DROP ROLE " + name) })
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.User = url.User(name)
	return name, u.String()
}
