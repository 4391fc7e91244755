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

	"github.com/tailroom/tailroom/internal/localpg"
)

// writer is a role that may log in, and is a member of tailroom_writer and of
// nothing else. Every server has it that this package has migrated.
const writer = "writer_for_tests"

// WriterPassword stands in the addresses of Writer. The servers ask for none,
// but it must appear nowhere.
const WriterPassword = "the-password-of-a-writer-for-tests"

const makeWriter = `DO $$ BEGIN
	CREATE ROLE ` + writer + ` LOGIN IN ROLE tailroom_writer;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$`

// Writer is the address of a database for the role that an instance needs: a
// mere member of tailroom_writer. dsn is that of the superuser; another role's
// is returned as it is.
func Writer(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.User.Username() != localpg.Superuser {
		return dsn
	}
	u.User = url.UserPassword(writer, WriterPassword)
	return u.String()
}

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
