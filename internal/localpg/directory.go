package localpg

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

const (
	// fallbackHome is where root's servers live whose account cannot enter the
	// directory asked for.
	fallbackHome = "/var/lib/tailroom"

	// port is part of the socket's name, and of nothing else unless the settings
	// say otherwise.
	port = "5432"

	// longestSocket fits into a socket address of Linux (107) and macOS (103).
	longestSocket = 103
)

// chooseHome returns dir, or a directory of its own in fallbackHome. The path is
// free of symbolic links: a leftover postmaster is recognised by it.
func chooseHome(who account, dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for _, home := range []string{dir, filepath.Join(fallbackHome, shortHash(dir))} {
		if err := os.MkdirAll(home, 0o755); err != nil {
			return "", err
		}
		if who.canEnter(home) {
			return filepath.EvalSymlinks(home)
		}
	}
	return "", fmt.Errorf("user %s can enter neither %s nor %s", who.name, dir, fallbackHome)
}

// lockHome makes us the one user of home, until we end or close the file.
func lockHome(home string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(home, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another process is using %s", home)
	}
	return nil, fmt.Errorf("locking %s: %w", home, err)
}

// unlockHome does not leave it to Close: a process that another goroutine is
// just forking holds the file, and with it the lock, until it has called exec.
func unlockHome(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	file.Close()
}

// makeSocketDir makes the directory of the unix socket. The data directory's own
// path may be longer than a socket address can be, hence a short name derived
// from it. The name can be guessed, so a directory that somebody else has put
// there is refused.
func makeSocketDir(who account, data string) (string, error) {
	name := "tailroom-" + shortHash(data)
	dir := filepath.Join(os.TempDir(), name)
	if len(filepath.Join(dir, ".s.PGSQL.65535")) > longestSocket || !who.canEnter(os.TempDir()) {
		dir = "/tmp/" + name
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid) //nolint:forcetypeassert // so on every unix
	ours := owner == os.Geteuid() || who.credential != nil && owner == int(who.credential.Uid)
	if !info.IsDir() || !ours {
		return "", fmt.Errorf("%s belongs to somebody else", dir)
	}
	return dir, errors.Join(os.Chmod(dir, 0o700), who.own(dir))
}

func shortHash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:6])
}
