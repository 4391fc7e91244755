package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stopLeftover ends the postmaster that a killed predecessor left running on
// these data. We hold the lock on them, so nobody is using it.
func stopLeftover(ctx context.Context, data string, log *slog.Logger) error {
	pidFile := filepath.Join(data, "postmaster.pid")
	text, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		return fmt.Errorf("%s: %w", pidFile, err)
	}

	command := commandLine(ctx, pid)
	switch {
	case strings.Contains(command, dataFlag(data)):
		log.Warn("stopping the postgres that an earlier run left behind", "pid", pid)
		return stopStranger(ctx, pid, data)
	case isAlive(pid) && !strings.Contains(command, "postgres"):
		// After a reboot the number may be anybody's, and in a container without
		// an init it stays a zombie's. Postgres looks no closer than whether it is
		// alive, and would refuse to start.
		return os.Remove(pidFile)
	}
	// A dead one's file is left to Postgres, which looks for its orphans as well.
	return nil
}

// stopStranger shuts down a postmaster that is not our child, so there is
// nothing to wait on.
func stopStranger(ctx context.Context, pid int, data string) error {
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stopping postgres %d: %w", pid, err)
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for strings.Contains(commandLine(ctx, pid), dataFlag(data)) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("postgres %d of an earlier run does not stop: %w", pid, ctx.Err())
		}
	}
	return nil
}

// dataFlag is the part of a postmaster's command line that tells whose it is.
func dataFlag(data string) string { return " -D " + data + " " }

// commandLine is how a process was started, empty if there is none or it is a
// zombie.
func commandLine(ctx context.Context, pid int) string {
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil {
		return string(bytes.ReplaceAll(args, []byte{0}, []byte{' '}))
	}
	args, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	return string(args)
}

// isAlive says whether a process has this id, be it a zombie or another user's.
func isAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}
