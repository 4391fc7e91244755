package load

import (
	"bufio"
	"bytes"
	"fmt"
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
// told from the load's.
type Process struct {
	URL string
	cmd *exec.Cmd
}

// Build builds the program and returns its path.
func Build(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tailroom")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "github.com/tailroom/tailroom/cmd/tailroom").CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

var servedAt = regexp.MustCompile(`"url":"(http://[^"]+)"`)

// StartProcess runs an instance until the test ends.
func StartProcess(t testing.TB, program, dsn, secret string, environ ...string) *Process {
	t.Helper()
	cmd := exec.Command(program, "serve") // it ends by a signal, in order
	cmd.Env = append(os.Environ(), append([]string{
		"DATABASE_URL=" + dsn, "JWT_SECRET=" + secret, "TAILROOM_HOST=127.0.0.1", "PORT=0", "LOG_FORMAT=json",
		"TAILROOM_DRAIN_TIMEOUT=1s",
	}, environ...)...)
	logs, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := &Process{cmd: cmd}
	lines := bufio.NewScanner(logs)
	for p.URL == "" && lines.Scan() {
		if m := servedAt.FindSubmatch(lines.Bytes()); m != nil {
			p.URL = string(m[1])
		}
	}
	require.NotEmpty(t, p.URL, "the instance did not start")
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() { // a full pipe would stop the server
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		_ = cmd.Wait()
	})
	return p
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
