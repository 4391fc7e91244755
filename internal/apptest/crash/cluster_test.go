package crash_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

// patience is how long a round waits for what must happen.
const patience = time.Minute

// settings make an instance's timeouts short, and its window small, so that replay
// crosses the seam between it and the log.
var settings = []string{
	"TAILROOM_HEARTBEAT=1s", "TAILROOM_WRITE_TIMEOUT=2s", "TAILROOM_HELLO_TIMEOUT=2s", "TAILROOM_PUBLISH_TIMEOUT=1s",
	"TAILROOM_POLL_INTERVAL=250ms", "TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=16KiB",
	"TAILROOM_MIGRATE=off",
}

// partitionSize lets partitions turn over within a round.
const partitionSize = 1000

// cluster is a PostgreSQL server and instances.
type cluster struct {
	server    *localpg.Server
	machine   *machine
	program   string
	dsn       string // of the log, past the proxies
	instances []*instance
}

// newCluster runs a cluster until the test ends.
func newCluster(t *testing.T, program string, size int) *cluster {
	t.Helper()
	c := &cluster{program: program, machine: newMachine(t)}
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
	require.NoError(t, c.execute(ctx, fmt.Sprintf("UPDATE tailroom.log SET partition_size = %d; %s", partitionSize, businessTable)))
	for n := range size {
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
	cmd.Env = append(os.Environ(), "DATABASE_URL="+c.dsn)
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

// instance is one server process at one address, started again whenever it ends.
type instance struct {
	url             string
	program         string
	environ         []string
	appends, listen *pgproxy.Proxy // its ways to the database: for queries and appends, and for the rest
	said            *tail

	mu      sync.Mutex
	process *load.Process // nil: none runs
	leaving bool
}

func (c *cluster) newInstance(t *testing.T, number int) *instance {
	t.Helper()
	i := &instance{program: c.program, appends: pgproxy.Start(t, c.dsn), listen: pgproxy.Start(t, c.dsn), said: new(tail)}
	port := freePort(t)
	i.url = "http://127.0.0.1:" + port
	i.environ = append([]string{
		"PORT=" + port, "INSTANCE_ID=" + fmt.Sprint("i", number), "JWT_SECRET=" + apptest.Secret,
		"DATABASE_URL=" + pgtest.Writer(i.appends.DSN()), "TAILROOM_LISTEN_DATABASE_URL=" + pgtest.Writer(i.listen.DSN()), "GORACE=halt_on_error=1",
	}, settings...)
	ctx, cancel := context.WithCancel(context.Background())
	supervised := make(chan struct{})
	go func() {
		defer close(supervised)
		i.supervise(ctx)
	}()
	t.Cleanup(func() { // whatever state a failed test has left it in
		cancel()
		i.mu.Lock()
		i.leaving = true
		if i.process != nil {
			i.process.Signal(syscall.SIGKILL)
		}
		i.mu.Unlock()
		<-supervised
	})
	return i
}

// freePort is a port below those that the system gives to connections: somebody
// who dials an instance that is dead must not come by its port.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		port := strconv.Itoa(10_000 + rand.IntN(20_000))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
}

// supervise starts the process, and again when it ends, until it is to stay down.
func (i *instance) supervise(ctx context.Context) {
	for ctx.Err() == nil {
		p, err := load.Start(ctx, i.program, i.said, i.environ...)
		if err == nil {
			i.mu.Lock()
			i.process = p
			if i.leaving {
				p.Signal(syscall.SIGKILL)
			}
			i.mu.Unlock()
			<-p.Done()
		}
		i.mu.Lock()
		i.process = nil
		leaving := i.leaving
		i.mu.Unlock()
		if leaving {
			return
		}
		wait(ctx, 100*time.Millisecond)
	}
}

// running is the process that runs.
func (i *instance) running(ctx context.Context) (*load.Process, error) {
	var p *load.Process
	return p, eventually(ctx, i.url+" runs", func(context.Context) error {
		i.mu.Lock()
		defer i.mu.Unlock()
		if p = i.process; p == nil {
			return errors.New("it does not")
		}
		return nil
	})
}

// signal sends a signal to the process that runs. One that ends it is waited for.
func (i *instance) signal(ctx context.Context, s syscall.Signal) error {
	p, err := i.running(ctx)
	if err != nil {
		return err
	}
	p.Signal(s)
	if s != syscall.SIGKILL && s != syscall.SIGTERM {
		return nil
	}
	select {
	case <-p.Done():
	case <-time.After(patience):
		return fmt.Errorf("%s does not end on %v", i.url, s)
	}
	if s == syscall.SIGTERM && p.Err() != nil {
		return fmt.Errorf("%s was asked to stop: %w", i.url, p.Err())
	}
	return nil
}

// leave ends the instance in order, for good.
func (i *instance) leave(ctx context.Context) error {
	i.mu.Lock()
	i.leaving = true
	i.mu.Unlock()
	return i.signal(ctx, syscall.SIGTERM)
}

// get reads a path that needs no token.
func (i *instance) get(ctx context.Context, path string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+path, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// well is an error unless the instance is ready and hears notifications.
func (i *instance) well(ctx context.Context) error {
	status, body, err := i.get(ctx, "/readyz")
	if err != nil {
		return err
	}
	var health struct {
		Notifications string `json:"notifications"`
	}
	if err := json.Unmarshal(body, &health); err != nil {
		return err
	}
	if status != http.StatusOK || health.Notifications != "listening" {
		return fmt.Errorf("%s says %s", i.url, body)
	}
	return nil
}

// metric is a figure of the instance's.
func (i *instance) metric(ctx context.Context, name string) (float64, error) {
	_, body, err := i.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return 0, fmt.Errorf("there is no metric %s", name)
}

// tail keeps the end of what an instance says, and the lines that no instance
// should ever say, with some that follow.
type tail struct {
	mu    sync.Mutex
	lines bytes.Buffer
	wrong []string
	more  int // lines that go with the last of wrong
}

func (l *tail) Write(line []byte) (int, error) {
	apptest.Look("an instance's log", line)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines.Write(line)
	if l.lines.Len() > 64<<10 {
		l.lines.Next(32 << 10)
	}
	for _, sign := range []string{"panic:", "fatal error:", "WARNING: DATA RACE", "lost its end"} {
		if bytes.Contains(line, []byte(sign)) {
			l.more = 50
		}
	}
	if l.more > 0 {
		l.more--
		l.wrong = append(l.wrong, string(line))
	}
	return len(line), nil
}

// unheard are the lines that should not be there.
func (l *tail) unheard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wrong
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return lastLines(l.lines.Bytes(), 60)
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
