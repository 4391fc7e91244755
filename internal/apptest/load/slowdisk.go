package load

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// slowDisk is a library that makes each flush to the disk take a millisecond more.
const slowDisk = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static int flush(const char *name, int fd) {
	struct timespec millisecond = {0, 1000000};
	nanosleep(&millisecond, 0);
	return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}
int fsync(int fd) { return flush("fsync", fd); }
int fdatasync(int fd) { return flush("fdatasync", fd); }
`

// SlowDisk returns what to add to a PostgreSQL's environment so that it commits as
// on a cloud volume: each flush takes a millisecond more. The library is built in
// dir, with the C compiler. Linux only.
func SlowDisk(t testing.TB, dir string) string {
	t.Helper()
	source, library := filepath.Join(dir, "slowdisk.c"), filepath.Join(dir, "slowdisk.so")
	require.NoError(t, os.WriteFile(source, []byte(slowDisk), 0o644))
	out, err := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl").CombinedOutput()
	require.NoError(t, err, string(out))
	require.NoError(t, os.Chmod(library, 0o755)) // PostgreSQL may run as somebody else
	return "LD_PRELOAD=" + library
}
