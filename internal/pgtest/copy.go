package pgtest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
)

// Dir makes a directory for a server, or for a copy of its data. It is removed
// when the test ends.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := newDir()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// ServerIn starts a server on the data of a directory, which are made if there
// are none. It is stopped when the test ends.
func ServerIn(t testing.TB, dir string) *localpg.Server {
	t.Helper()
	return start(t, config(dir))
}

func start(t testing.TB, c localpg.Config) *localpg.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	server, err := localpg.Start(ctx, c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, stop(server)) })
	return server
}

// BaseBackup takes a base backup of a server into a directory that ServerIn can
// start it in. Options are those of pg_basebackup: with --write-recovery-conf it
// becomes a standby, without it starts as if nothing had been.
func BaseBackup(t testing.TB, server *localpg.Server, dir string, options ...string) {
	t.Helper()
	data := makeData(t, server, dir)
	options = append([]string{
		"--dbname", server.URL("postgres"), "--pgdata", data, "--checkpoint", "fast", "--no-sync",
	}, options...)
	Run(t, server, "pg_basebackup", options...)
}

// Run runs one of PostgreSQL's programs, which must succeed, and returns what
// it prints.
func Run(t testing.TB, server *localpg.Server, program string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := server.Program(ctx, program, args...).CombinedOutput()
	require.NoError(t, err, "%s: %s", program, out)
	return string(out)
}

// Snapshot copies the data of a server that does not run, as a snapshot of its
// volume would, into a directory that ServerIn can start it in. What was there
// before is gone.
func Snapshot(t testing.TB, server *localpg.Server, dir string) {
	t.Helper()
	restore(t, server.DataDir(), filepath.Join(dir, "pg"))
}

// PutBack replaces the data of a server that does not run by a snapshot of them.
func PutBack(t testing.TB, dir string, server *localpg.Server) {
	t.Helper()
	restore(t, filepath.Join(dir, "pg"), server.DataDir())
}

func restore(t testing.TB, from, to string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(to))
	out, err := exec.CommandContext(t.Context(), "cp", "-a", from, to).CombinedOutput()
	require.NoError(t, err, string(out))
}

// Kill ends a server as a power failure does, and waits until it is gone.
func Kill(t testing.TB, server *localpg.Server) {
	t.Helper()
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGKILL))
	<-server.Done()
	require.NoError(t, stop(server))
}

// makeData makes the empty data directory of a copy, which belongs to whom the
// server's belong.
func makeData(t testing.TB, server *localpg.Server, dir string) string {
	t.Helper()
	data := filepath.Join(dir, "pg")
	require.NoError(t, os.Mkdir(data, 0o700))
	info, err := os.Stat(server.DataDir())
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t) //nolint:forcetypeassert // so on every unix
	require.NoError(t, os.Chown(data, int(owner.Uid), int(owner.Gid)))
	return data
}

// Dump writes a dump of a database into a file.
func Dump(t testing.TB, server *localpg.Server, database string) (file string) {
	t.Helper()
	file = filepath.Join(makeData(t, server, Dir(t)), "dump")
	Run(t, server, "pg_dump", "--dbname", server.URL(database), "--format", "custom", "--file", file)
	return file
}

// Load makes a database of a dump.
func Load(t testing.TB, server *localpg.Server, database, file string) {
	t.Helper()
	execute(t, server, "CREATE DATABASE "+database)
	Run(t, server, "pg_restore", "--dbname", server.URL(database), "--exit-on-error", file)
}
