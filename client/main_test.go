package client_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/app"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// roleVariable makes the test's own program another one, which can be killed.
const roleVariable = "CLIENT_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "instance":
		exit(instance())
	case "program":
		exit(program())
	default:
		apptest.Main(m)
	}
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// instance is `tailroom serve`, as far as these tests need it. It says where it is.
func instance() error {
	c, err := config.Load(os.Environ(), pflag.NewFlagSet("test", pflag.ContinueOnError), config.Database, config.Tokens)
	if err != nil {
		return err
	}
	a, err := app.Build(context.Background(), c, "test")
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, a.URL())
	return a.Run(context.Background())
}

// spawn starts this test's program in a role, and returns the lines it says. It is
// killed when the test ends.
func spawn(t *testing.T, role string, environ ...string) (lines chan string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = slices.Concat(environ, []string{roleVariable + "=" + role, "PATH=" + os.Getenv("PATH")})
	cmd.Stderr = apptest.Log
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines = make(chan string, 10_000)
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(lines)
		var rest string
		buffer := make([]byte, 64<<10)
		for {
			n, err := out.Read(buffer)
			rest += string(buffer[:n])
			for {
				line, more, whole := strings.Cut(rest, "\n")
				if !whole {
					break
				}
				rest = more
				lines <- line
			}
			if err != nil {
				return
			}
		}
	})
	kill = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		reading.Wait()
		_ = cmd.Wait()
	})
	t.Cleanup(kill)
	return lines, kill
}

func spawnInstance(t *testing.T, dsn string, environ ...string) (*apptest.Instance, func()) {
	t.Helper()
	lines, kill := spawn(t, "instance", append([]string{
		"DATABASE_URL=" + pgtest.Writer(dsn), "JWT_SECRET=" + apptest.Secret, "TAILROOM_HOST=127.0.0.1", "PORT=0",
		"TAILROOM_MIGRATE=off", "CLUSTER_SECRET=" + apptest.ClusterSecret,
	}, environ...)...)
	select {
	case url := <-lines:
		require.NotEmpty(t, url, "the instance did not start")
		return &apptest.Instance{URL: url}, kill
	case <-time.After(apptest.Patience):
		require.Fail(t, "the instance does not say where it is")
		return nil, nil
	}
}

// static is a token source.
func static(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

func serverAt(token string, urls ...string) client.Server {
	return client.Server{URLs: urls, Token: static(token), HTTPClient: apptest.Client}
}

// follower is a Client that runs and tells everything to the test.
type follower struct {
	*client.Client

	events   chan client.Event
	statuses chan client.Status
	stop     context.CancelFunc
	ended    chan error
}

// follow runs a Client until the test ends. Of the Config, Server and what is
// special are needed.
func follow(t *testing.T, c client.Config) *follower {
	t.Helper()
	f := &follower{events: make(chan client.Event, 100_000), statuses: make(chan client.Status, 1000), ended: make(chan error, 1)}
	if c.Handler == nil {
		c.Handler = func(_ context.Context, e client.Event) error {
			f.events <- e
			return nil
		}
	}
	if c.OnStatus == nil {
		c.OnStatus = func(s client.Status) { f.statuses <- s }
	}
	var err error
	f.Client, err = client.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, f.Close()) })
	f.run(t)
	return f
}

// run runs the Client, again if it has ended.
func (f *follower) run(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	f.stop = func() { stop(); <-done }
	go func() {
		defer close(done)
		f.ended <- f.Run(ctx)
	}()
	t.Cleanup(f.stop)
}

// until waits for a phase, and returns all statuses up to it.
func (f *follower) until(t *testing.T, phase client.Phase) (list []client.Status) {
	t.Helper()
	for {
		s := next(t, f.statuses)
		list = append(list, s)
		if s.Phase == phase {
			return list
		}
	}
}

func next[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(apptest.Patience):
		require.Fail(t, "nothing came")
	}
	return v
}

// orders are events of orders, as a group.
func orders(from, to int) []client.Draft {
	var list []client.Draft
	for i := from; i < to; i++ {
		list = append(list, client.Draft{
			Namespace: "/orders", Type: "newOrder",
			Data: map[string]any{"orderId": fmt.Sprint(i), "branchId": "b7"},
		})
	}
	return list
}

// logged is what the log has for a token, as a client gets it.
func logged(t *testing.T, s client.Server) (list []client.Event) {
	t.Helper()
	for e, err := range s.History(t.Context(), client.Query{Namespaces: []string{"/orders"}}) {
		require.NoError(t, err)
		list = append(list, e)
	}
	return list
}

// collect takes as many events as the log has.
func (f *follower) collect(t *testing.T, want []client.Event) {
	t.Helper()
	for i := range want {
		require.Equal(t, string(want[i].Raw), string(next(t, f.events).Raw), "event %d", i)
	}
	require.Empty(t, f.events)
}

func web(t *testing.T) string { t.Helper(); return apptest.Token(t, access.Web, "c1", "b7") }

func service(t *testing.T) string { t.Helper(); return apptest.Token(t, access.Service, "c1") }
