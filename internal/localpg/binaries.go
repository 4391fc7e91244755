package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// oldest is the first major version that has all that Tailroom's SQL uses.
const oldest = 15

// findBinaries returns the directory of a postgres and an initdb new enough for
// Tailroom. Data that exist can only be opened by the version that made them.
func findBinaries(ctx context.Context, data string) (string, error) {
	made, err := versionOf(data)
	if err != nil {
		return "", err
	}
	var others []string
	for _, bin := range candidates(ctx) {
		major, err := majorVersion(ctx, bin)
		if err != nil {
			continue // not a PostgreSQL after all
		}
		if made == major || made == 0 && major >= oldest {
			return bin, nil
		}
		others = append(others, fmt.Sprintf("%d in %s", major, bin))
	}
	return "", missing(made, data, others)
}

// versionOf is the major version that made the data, 0 if there are none yet.
func versionOf(data string) (int, error) {
	text, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// candidates are the directories that hold both programs, the best guess first.
// Debian and Homebrew keep a directory per version, most of them not in $PATH.
func candidates(ctx context.Context) []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			dirs = append(dirs, filepath.Dir(path))
		}
	}
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql@*/bin",
		"/usr/local/opt/postgresql@*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		found, _ := filepath.Glob(pattern)
		slices.Sort(found) // all versions that matter have two digits
		slices.Reverse(found)
		dirs = append(dirs, found...)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		_, noServer := os.Stat(filepath.Join(dir, "postgres"))
		_, noInitdb := os.Stat(filepath.Join(dir, "initdb"))
		return noServer != nil || noInitdb != nil
	})
}

// versionLine finds 15 in "postgres (PostgreSQL) 15.18 (Debian …)", 19 in "… 19beta1".
var versionLine = regexp.MustCompile(`PostgreSQL\) (\d+)`)

func majorVersion(ctx context.Context, bin string) (int, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "--version").Output()
	if err != nil {
		return 0, err
	}
	match := versionLine.FindSubmatch(out)
	if match == nil {
		return 0, fmt.Errorf("%s/postgres --version says %q", bin, out)
	}
	return strconv.Atoi(string(match[1]))
}

// missing explains what to install, in a command to type where one is known.
func missing(made int, data string, others []string) error {
	want, debian, brew := "PostgreSQL 15 or newer", "postgresql", "postgresql@16"
	if made != 0 {
		want = fmt.Sprintf("PostgreSQL %d, which made the data in %s,", made, data)
		debian, brew = fmt.Sprintf("postgresql-%d", made), fmt.Sprintf("postgresql@%d", made)
	}
	install := "install it with your package manager, or put its postgres into $PATH"
	if runtime.GOOS == "darwin" {
		install = "install it with: brew install " + brew
	} else if _, err := os.Stat("/etc/debian_version"); err == nil {
		install = "install it with: apt-get install " + debian
	}
	found := ""
	if len(others) > 0 {
		found = fmt.Sprintf(" (only %s)", strings.Join(others, ", "))
	}
	return fmt.Errorf("%s is not here%s; %s", want, found, install)
}
