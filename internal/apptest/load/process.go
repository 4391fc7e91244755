package load

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Process is an instance as a process of its own, whose CPU and memory can be
// told from the load's, and which can be killed.
type Process struct {
	URL  string
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended
}

// Build builds the program, with flags of go build, and returns its path.
func Build(t testing.TB, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tailroom")
	args := append([]string{"build", "-o", path}, flags...)
	out, err := exec.CommandContext(t.Context(), "go", append(args, "github.com/tailroom/tailroom/cmd/tailroom")...).CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

var servedAt = regexp.MustCompile(`"url":"(http://[^"]+)"`)

// StartProcess runs an instance until the test ends.
func StartProcess(t testing.TB, program, dsn, secret string, environ ...string) *Process {
	t.Helper()
	p, err := Start(t.Context(), program, io.Discard, append([]string{"DATABASE_URL=" + dsn, "JWT_SECRET=" + secret, "PORT=0"}, environ...)...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop()) })
	return p
}

// Start runs an instance with these settings, and returns when it serves. The
// context bounds that alone. What the instance logs is written to log, a line at
// a time; LOG_LEVEL must show that it serves.
func Start(ctx context.Context, program string, log io.Writer, environ ...string) (*Process, error) {
	cmd := exec.Command(program, "serve") // it ends by a signal, in order
	cmd.Env = append(os.Environ(), append([]string{
		"TAILROOM_HOST=127.0.0.1", "LOG_FORMAT=json", "TAILROOM_DRAIN_TIMEOUT=1s",
	}, environ...)...)
	logs, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	url := make(chan string, 1)
	go func() {
		defer close(p.done)
		for lines := bufio.NewReader(logs); ; {
			line, err := lines.ReadBytes('\n') // a full pipe would stop the server
			_, _ = log.Write(line)
			if err != nil {
				p.err = cmd.Wait()
				return
			}
			if m := servedAt.FindSubmatch(line); m != nil {
				select {
				case url <- string(m[1]):
				default:
				}
			}
		}
	}()
	select {
	case p.URL = <-url:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("the instance did not start: %w", cmp.Or(p.err, errors.New("it ended in order")))
	case <-ctx.Done():
		p.Signal(syscall.SIGKILL)
		<-p.done
		return nil, ctx.Err()
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended, once it has: nil is in order.
func (p *Process) Err() error { return p.err }

// Signal sends a signal. One to a process that has ended is lost.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop shuts the instance down, and returns how that ended.
func (p *Process) Stop() error {
	p.Signal(syscall.SIGTERM)
	<-p.done
	return p.err
}

// CPU is the processor time the process has used.
func (p *Process) CPU(t testing.TB) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	require.NoError(t, err)
	// Fields 14 and 15 (proc(5)), counted from behind the name, which may hold spaces.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err := strconv.ParseInt(fields[11], 10, 64)
	require.NoError(t, err)
	system, err := strconv.ParseInt(fields[12], 10, 64)
	require.NoError(t, err)
	const ticksPerSecond = 100
	return time.Duration(user+system) * time.Second / ticksPerSecond
}

// Memory is the process's resident set, in bytes.
func (p *Process) Memory(t testing.TB) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	require.NoError(t, err)
	pages, err := strconv.ParseInt(strings.Fields(string(status))[1], 10, 64)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}
