package localpg

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// ownerDir makes this binary the owner of a server instead of a test run, until
// it is killed.
const ownerDir = "LOCALPG_TEST_OWNER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(ownerDir); dir != "" {
		server, err := Start(context.Background(), Config{Dir: dir})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Fprintln(os.Stdout, server.PID())
		select {}
	}
	goleak.VerifyTestMain(m)
}

func TestServer_KeepsItsData(t *testing.T) {
	t.Parallel()
	dir := newDir(t)

	first := start(t, Config{Dir: dir})
	execute(t, first, "CREATE TABLE kept AS SELECT '42' AS answer")
	require.NoError(t, first.Stop(t.Context()))
	requireEnded(t, first.Done())
	require.NoError(t, first.Stop(t.Context()), "stopping twice")

	second := start(t, Config{Dir: dir})
	require.NotEqual(t, first.PID(), second.PID())
	require.Equal(t, "42", query(t, second, "SELECT answer FROM kept"))
	require.Equal(t, filepath.Join(dir, "pg"), second.DataDir())
	require.FileExists(t, filepath.Join(dir, "postgres.log"))

	require.NoError(t, first.Stop(t.Context()), "stopping again does not touch the successor")
	require.Equal(t, "42", query(t, second, "SELECT answer FROM kept"))
}

func TestServer_Settings(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Dir: newDir(t), Settings: map[string]string{"max_connections": "17", "fsync": "on"}})

	for expression, want := range map[string]string{
		"current_setting('max_connections')":    "17",
		"current_setting('fsync')":              "on", // asked for, against the default
		"current_setting('full_page_writes')":   "off",
		"current_setting('synchronous_commit')": "on",
		"current_setting('listen_addresses')":   "",
		"current_setting('server_encoding')":    "UTF8",
		"current_setting('timezone')":           "UTC",
		"current_setting('is_superuser')":       "on",
		"current_user":                          "tailroom",
		"current_database()":                    "tailroom",
		"'é' < 'z'":                             "false", // by code point
	} {
		require.Equal(t, want, query(t, server, "SELECT ("+expression+")::text"), expression)
	}
	require.Less(t, len(filepath.Join(server.sockets, ".s.PGSQL.5432")), 104)
}

func TestServer_Program(t *testing.T) {
	t.Parallel()
	s := start(t, Config{Dir: newDir(t)})
	out, err := s.Program(t.Context(), "pg_dump", "--dbname", s.URL("tailroom"), "--schema-only").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "PostgreSQL database dump complete")
}

func TestServer_Restart(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Dir: newDir(t)})
	execute(t, server, "CREATE TABLE kept (signal text)")

	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGQUIT, os.Kill} {
		execute(t, server, fmt.Sprintf("INSERT INTO kept VALUES ('%v')", sig))
		session := connect(t, server) // a session in the way
		pid, done := server.PID(), server.Done()

		require.NoError(t, server.Restart(t.Context(), sig), sig)

		requireEnded(t, done)
		require.NotEqual(t, pid, server.PID())
		require.Error(t, session.Ping(t.Context()))
		require.Equal(t, "1", query(t, server, fmt.Sprintf("SELECT count(*)::text FROM kept WHERE signal = '%v'", sig)))
	}
}

func TestServer_DoneWhenPostgresDies(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Dir: newDir(t)})
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGKILL))
	requireEnded(t, server.Done())
	require.NoError(t, server.Stop(t.Context()))
}

func TestServer_StopKillsWhenTimeIsUp(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, Config{Dir: dir})
	require.NoError(t, syscall.Kill(server.PID(), syscall.SIGSTOP)) // so that it cannot stop

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, server.Stop(ctx), context.DeadlineExceeded)
	requireEnded(t, server.Done())

	start(t, Config{Dir: dir}) // recovers
}

func TestStart_RefusesADirectoryInUse(t *testing.T) {
	t.Parallel()
	server := start(t, Config{Dir: newDir(t)})
	_, err := Start(t.Context(), Config{Dir: server.home})
	require.ErrorContains(t, err, "another process is using "+server.home)
	require.Equal(t, "1", query(t, server, "SELECT '1'"), "the first goes on")
}

func TestStart_StopsALeftoverPostmaster(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	predecessor, err := Start(t.Context(), Config{Dir: dir})
	require.NoError(t, err)
	execute(t, predecessor, "CREATE TABLE kept AS SELECT '42' AS answer")

	unlockHome(predecessor.lock) // as the kernel does for the dead

	successor := start(t, Config{Dir: dir})
	requireEnded(t, predecessor.Done())
	require.Equal(t, "42", query(t, successor, "SELECT answer FROM kept"))
	log, err := os.ReadFile(successor.logPath())
	require.NoError(t, err)
	require.NotContains(t, string(log), "was not properly shut down", "it was stopped cleanly")
}

func TestStart_AfterAKilledOwner(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerDir+"="+dir)
	owner.Stderr = os.Stderr
	stdout, err := owner.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, owner.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)

	require.NoError(t, owner.Process.Kill())
	require.Error(t, owner.Wait())

	if runtime.GOOS == "linux" {
		require.Eventually(t, func() bool { return commandLine(t.Context(), pid) == "" },
			30*time.Second, pollInterval, "postgres ends with its owner")
	}
	server := start(t, Config{Dir: dir})
	require.NotEqual(t, pid, server.PID())
}

// The file of a postmaster that was killed names a process that has nothing to
// do with it: after a reboot, say.
func TestStart_IgnoresANumberUsedAgain(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	server := start(t, Config{Dir: dir})
	require.NoError(t, server.Stop(t.Context()))

	bystander := exec.Command("sleep", "600")
	bystander.SysProcAttr = server.account.attributes() // Postgres fears only its own user's
	bystander.Dir = "/"
	require.NoError(t, bystander.Start())
	t.Cleanup(func() {
		_ = bystander.Process.Kill()
		_ = bystander.Wait()
	})
	pidFile := filepath.Join(server.DataDir(), "postmaster.pid")
	lines := fmt.Sprintf("%d\n%s\n1700000000\n5432\n/tmp\n\n", bystander.Process.Pid, server.DataDir())
	require.NoError(t, os.WriteFile(pidFile, []byte(lines), 0o600))
	require.NoError(t, server.account.own(pidFile))

	start(t, Config{Dir: dir})
	require.NotEmpty(t, commandLine(t.Context(), bystander.Process.Pid), "the bystander lives")
}

func TestStart_AfterAnInterruptedInitdb(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	go func() {
		_, err := Start(ctx, Config{Dir: dir})
		failed <- err
	}()
	begun := filepath.Join(dir, "pg.unfinished", "PG_VERSION")
	require.Eventually(t, func() bool { _, err := os.Stat(begun); return err == nil },
		30*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-failed, context.Canceled)
	require.NoDirExists(t, filepath.Join(dir, "pg"))
	require.NoDirExists(t, filepath.Join(dir, "pg.unfinished"))

	// Killed instead of interrupted, it leaves its rubbish.
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "pg.unfinished", "base"), 0o700))
	start(t, Config{Dir: dir})
	require.NoDirExists(t, filepath.Join(dir, "pg.unfinished"))
}

func TestStart_FailureQuotesTheLog(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	_, err := Start(t.Context(), Config{Dir: dir, Settings: map[string]string{"shared_buffers": "plenty"}})
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers": "plenty"`)

	start(t, Config{Dir: dir}) // nothing is left in the way
}

func TestStart_WithALongPath(t *testing.T) {
	t.Parallel()
	start(t, Config{Dir: filepath.Join(newDir(t), strings.Repeat("long/", 40))})
}

func TestStart_WhereItsUserCannotGo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root's server runs as another user")
	}
	private := newDir(t)
	require.NoError(t, os.Chmod(private, 0o700))
	dir := filepath.Join(private, "project")
	home := filepath.Join(fallbackHome, shortHash(dir))
	t.Cleanup(func() { os.RemoveAll(home) })

	server := start(t, Config{Dir: dir})
	require.Equal(t, filepath.Join(home, "pg"), server.DataDir())
}

func TestMakeSocketDir_RefusesAnothersDirectory(t *testing.T) {
	t.Parallel()
	data := newDir(t)
	trap := filepath.Join(os.TempDir(), "tailroom-"+shortHash(data))
	require.NoError(t, os.Symlink(data, trap))
	t.Cleanup(func() { os.Remove(trap) })

	_, err := makeSocketDir(account{}, data)
	require.ErrorContains(t, err, "belongs to somebody else")
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	data := newDir(t)
	bin, err := findBinaries(t.Context(), data)
	require.NoError(t, err)
	major, err := majorVersion(t.Context(), bin)
	require.NoError(t, err)
	require.GreaterOrEqual(t, major, oldest)

	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("12\n"), 0o600))
	_, err = findBinaries(t.Context(), data)
	require.ErrorContains(t, err, "PostgreSQL 12, which made the data in "+data)
	require.ErrorContains(t, err, fmt.Sprintf("only %d in ", major))
	require.ErrorContains(t, err, "install")
}

func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "localpg-test-") //nolint:usetesting // only its owner may enter that one
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	dir, err = filepath.EvalSymlinks(dir)
	require.NoError(t, err)
	return dir
}

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	server, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return server
}

func connect(t *testing.T, server *Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), server.URL("tailroom"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func execute(t *testing.T, server *Server, sql string) {
	t.Helper()
	_, err := connect(t, server).Exec(t.Context(), sql)
	require.NoError(t, err)
}

func query(t *testing.T, server *Server, sql string) (value string) {
	t.Helper()
	require.NoError(t, connect(t, server).QueryRow(t.Context(), sql).Scan(&value))
	return value
}

func requireEnded(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		require.Fail(t, "postgres has not ended")
	}
}
