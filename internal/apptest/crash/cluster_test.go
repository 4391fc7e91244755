package crash_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// patience is how long a round waits for what must happen.
const patience = time.Minute

// settings make an instance's timeouts short, and its window small, so that replay
// crosses the seam between it and the log.
var settings = []string{
	"TAILROOM_HEARTBEAT=1s", "TAILROOM_WRITE_TIMEOUT=2s", "TAILROOM_HELLO_TIMEOUT=2s", "TAILROOM_PUBLISH_TIMEOUT=1s",
	"TAILROOM_POLL_INTERVAL=250ms", "TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=16KiB",
	"TAILROOM_SOCKETIO_PING_INTERVAL=500ms", "TAILROOM_SOCKETIO_PING_TIMEOUT=2s", "TAILROOM_SOCKETIO_TRAILING=/printing-ws",
	"TAILROOM_MIGRATE=off",
}

// partitionSize lets partitions turn over within a round.
const partitionSize = 1000

// cluster is a PostgreSQL server and instances.
type cluster struct {
	server    *localpg.Server
	machine   *machine
	program   string
	settings  []string // of the instances and of verify
	dsn       string   // of the log, past the proxies
	instances []*instance
}

// newCluster runs a cluster until the test ends.
func newCluster(t *testing.T, program string, s *script) *cluster {
	t.Helper()
	c := &cluster{program: program, machine: newMachine(t)}
	c.settings = append(slices.Clone(settings), "TAILROOM_ID_WINDOW="+s.idWindow().String())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var err error
	c.server, err = localpg.Start(ctx, localpg.Config{
		Dir: pgtest.Dir(t), Environ: c.machine.environ,
		Settings: map[string]string{
			"shared_buffers": "64MB", "max_connections": "100", "min_wal_size": "32MB",
			"log_min_error_statement": "panic", "log_error_verbosity": "terse",
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, c.server.Stop(ctx))
	})
	c.dsn = pgtest.DatabaseOn(t, c.server)
	require.NoError(t, c.execute(ctx, fmt.Sprintf(`UPDATE tailroom.log SET partition_size = %d, ids_rotated_at = now() - interval '40 s'; %s`,
		partitionSize, businessTable))) // so that ids rotate in a short round too, where that may be
	for n := range s.instances {
		c.instances = append(c.instances, c.newInstance(t, n))
	}
	return c
}

// awaitWell waits until every instance is as it should be.
func (c *cluster) awaitWell(ctx context.Context) error {
	for _, i := range c.instances {
		if err := eventually(ctx, i.url+" is well", i.well); err != nil {
			return err
		}
	}
	return nil
}

// verify lets the log prove itself.
func (c *cluster) verify(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.program, "verify", "--quiet")
	cmd.Env = append(append(os.Environ(), c.settings...), "DATABASE_URL="+c.dsn)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tailroom verify: %w: %s", err, out)
	}
	return nil
}

// log is what PostgreSQL said last.
func (c *cluster) log() string {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(c.server.DataDir()), "postgres.log"))
	if err != nil {
		return err.Error()
	}
	return lastLines(text, 60)
}

func lastLines(text []byte, count int) string {
	lines := strings.SplitAfter(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-count-1):], "")
}

// connect connects to the database past the proxies.
func (c *cluster) connect(ctx context.Context, application string) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return pgx.Connect(ctx, c.dsn+"&application_name="+application)
}

// query runs a query for one value on a connection of its own.
func query[T any](ctx context.Context, c *cluster, sql string, args ...any) (value T, err error) {
	conn, err := c.connect(ctx, "test")
	if err != nil {
		return value, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	err = conn.QueryRow(ctx, sql, args...).Scan(&value)
	return value, err
}

func (c *cluster) execute(ctx context.Context, sql string) error {
	conn, err := c.connect(ctx, "test")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// eventually tries until it succeeds.
func eventually(ctx context.Context, what string, try func(context.Context) error) error {
	began := time.Now()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("waiting until %s: %w", what, cause)
		}
		if time.Since(began) > patience {
			return fmt.Errorf("waited %s until %s: %w", patience, what, err)
		}
		wait(ctx, 20*time.Millisecond)
	}
}

// wait lets some time pass, or ends with ctx.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
