// Package examples_test runs the examples as they are run: as processes, against
// real instances, and kills them.
package examples_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

// seed decides what happens when, as far as that can be decided.
var seed = flag.Uint64("seed", 0, "what TestExamples_SurviveEverything is made of; 0 is another one each time")

func TestMain(m *testing.M) { apptest.Main(m) }

// build builds the examples, as the test itself was built: with or without -race.
func build(t testing.TB) (folder string) {
	t.Helper()
	args := []string{"build"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	folder = t.TempDir() + string(filepath.Separator)
	out, err := exec.CommandContext(t.Context(), "go", append(args, "-o", folder, "./kitchen", "./printer-agent")...).CombinedOutput()
	require.NoError(t, err, string(out))
	return folder
}

// program is an example that is started again and again.
type program struct {
	t       testing.TB
	path    string
	args    []string
	environ []string
	said    complaints

	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	err   error         // how
}

func newProgram(t testing.TB, path, token string, args ...string) *program {
	t.Helper()
	p := &program{t: t, path: path, args: args, environ: append(os.Environ(), "TAILROOM_TOKEN="+token, "GORACE=halt_on_error=1")}
	t.Cleanup(func() { p.kill() })
	return p
}

// another is the same program once more, with further flags.
func (p *program) another(args ...string) *program {
	second := &program{t: p.t, path: p.path, args: slices.Concat(p.args, args), environ: p.environ}
	p.t.Cleanup(func() { second.kill() })
	return second
}

func (p *program) start() {
	p.t.Helper()
	require.NoError(p.t, p.tryStart())
}

// tryStart is start for goroutines beside the test's own, which may not end it.
func (p *program) tryStart() error {
	cmd, ended := exec.Command(p.path, p.args...), make(chan struct{})
	cmd.Env, cmd.Stderr = p.environ, &p.said
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.ended = cmd, ended
	go func() {
		defer close(ended)
		p.err = cmd.Wait()
	}()
	return nil
}

// kill is kill -9. It reports whether the program ran until then.
func (p *program) kill() bool {
	if p.cmd == nil {
		return true
	}
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.cmd = nil
	ended, ok := errors.AsType[*exec.ExitError](p.err)
	if !ok {
		return false
	}
	status, ok := ended.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// stop is what a service manager does.
func (p *program) stop() {
	p.t.Helper()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(p.t, p.wait())
}

// wait waits until it has ended, and returns how.
func (p *program) wait() error {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(apptest.Patience):
		require.Fail(p.t, "it does not end")
	}
	p.cmd = nil
	return p.err
}

// complaints is a program's log, of which the errors are kept.
type complaints struct {
	mu   sync.Mutex
	list []string
}

func (c *complaints) Write(text []byte) (int, error) {
	_, _ = apptest.Log.Write(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range bytes.Lines(text) {
		if !bytes.HasPrefix(line, []byte("{")) || bytes.Contains(line, []byte(`"level":"ERROR"`)) {
			c.list = append(c.list, string(line))
		}
	}
	return len(text), nil
}

// all is what was said that should not have been.
func (c *complaints) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.list)
}

// memory is a folder without a disk below it, if there is one. What kill -9 does to
// a program does not depend on a disk, and a test waits for thousands of them.
func memory(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp("/dev/shm", "tailroom-examples-") //nolint:usetesting // t.TempDir is on a disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(folder)) })
	return folder
}
