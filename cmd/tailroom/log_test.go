package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

// Whoever has no log, or no rights to it, is told what to do; and when that is
// done it is enough.
func TestCommands_SayWhatTheLogLacks(t *testing.T) {
	dsn := pgtest.Database(t)
	pool := pgtest.Pool(t, dsn)
	name, login := pgtest.Login(t, dsn)
	t.Setenv("DATABASE_URL", login)
	commands := []string{
		"epoch list", "epoch new --reason test", "outbox list", "outbox retry --all", "outbox discard --all", "partitions list",
	}
	each := func(want string) {
		for _, command := range commands {
			_, _, err := tailroom(t.Context(), nil, strings.Fields(command)...)
			if want == "" {
				require.NoError(t, err, command)
				continue
			}
			require.ErrorContains(t, err, want, command)
		}
	}
	each(fmt.Sprintf("let an administrator run `GRANT tailroom_writer TO %q`", name))
	exec(t, pool, "GRANT tailroom_writer TO "+name)
	each("")
	exec(t, pool, "DROP SCHEMA tailroom CASCADE")
	each("there is no log in this database")
	each("Run `tailroom migrate up`")
}
