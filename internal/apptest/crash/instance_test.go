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
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/pgtest/pgproxy"
)

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
		"PORT=" + port, "TAILROOM_ADVERTISE_URL=" + i.url, "INSTANCE_ID=" + fmt.Sprint("i", number), "JWT_SECRET=" + apptest.Secret,
		"TAILROOM_JWT_SECRET_PREVIOUS=" + apptest.SecretPrevious, "CLUSTER_SECRET=" + apptest.ClusterSecret,
		"DATABASE_URL=" + pgtest.Writer(i.appends.DSN()), "TAILROOM_LISTEN_DATABASE_URL=" + pgtest.Writer(i.listen.DSN()), "GORACE=halt_on_error=1",
	}, c.settings...)
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

// givenPorts are those that freePort has returned. An instance binds its own only
// later, and rounds are played side by side.
var givenPorts sync.Map

// freePort is a port below those that the system gives to connections: somebody
// who dials an instance that is dead must not come by its port. It is below those
// of pgtest as well, whose servers are started beside these by other packages.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		port := strconv.Itoa(10_000 + rand.IntN(10_000))
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
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
		} else {
			fmt.Fprintln(i.said, err)
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
