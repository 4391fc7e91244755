package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// ensureCluster makes the data directory if there is none. It is made under
// another name and moved when it is whole, so that one which was interrupted
// never passes as data.
func (s *Server) ensureCluster(ctx context.Context) error {
	if _, err := os.Stat(s.DataDir()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s.cfg.Log.Info("making a new database cluster", "data", s.DataDir())

	unfinished := s.DataDir() + ".unfinished"
	defer os.RemoveAll(unfinished)
	// Both sort by code point and fold case, but plain C knows only ASCII's; not
	// every system has the other.
	var err error
	for _, locale := range []string{"C.UTF-8", "C"} {
		if err = s.initdb(ctx, unfinished, locale); err == nil {
			return os.Rename(unfinished, s.DataDir())
		}
	}
	return err
}

func (s *Server) initdb(ctx context.Context, dir, locale string) error {
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700), s.account.own(dir)); err != nil {
		return err
	}
	args := []string{
		"--pgdata", dir, "--username", Superuser, "--auth", "trust",
		"--encoding", "UTF8", "--locale", locale,
	}
	if !s.cfg.Durable {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, "initdb"), args...)
	cmd.Dir = s.home
	cmd.Env = environment()
	cmd.SysProcAttr = s.account.attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", errors.Join(err, ctx.Err()), out)
	}
	return nil
}

// environment keeps the user's PG… variables, time zone and language out.
func environment() []string {
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
}
