package crash_test

import (
	"cmp"
	_ "embed"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

// machine is the clock and the disk that a PostgreSQL server believes in. Nothing
// of this takes rights that a container does not have: a library stands between
// the server and the system.
type machine struct {
	environ []string
	control *os.File
}

//go:embed testdata/machine.c
var machineSource []byte

// machineLibrary compiles the library, once.
var machineLibrary = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "tailroom-machine-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	source, library := filepath.Join(dir, "machine.c"), filepath.Join(dir, "machine.so")
	if err := os.WriteFile(source, machineSource, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(cmp.Or(os.Getenv("CC"), "gcc"), "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(library)
})

func newMachine(t *testing.T) *machine {
	t.Helper()
	library, err := machineLibrary()
	require.NoError(t, err, "scripts/ensure cc")
	dir := pgtest.Dir(t)
	preloaded, control := filepath.Join(dir, "machine.so"), filepath.Join(dir, "machine")
	require.NoError(t, os.WriteFile(preloaded, library, 0o755))
	m := &machine{environ: []string{"LD_PRELOAD=" + preloaded, "MACHINE=" + control}}
	m.control, err = os.OpenFile(control, os.O_CREATE|os.O_RDWR, 0o644)
	require.NoError(t, err)
	t.Cleanup(func() { m.control.Close() })
	require.NoError(t, m.control.Truncate(16))
	return m
}

// setClock makes the clock wrong by so much, in whole seconds.
func (m *machine) setClock(offset time.Duration) error { return m.set(0, int64(offset/time.Second)) }

// fillDisk lets no file grow any more, or lets them grow again.
func (m *machine) fillDisk(full bool) error {
	if full {
		return m.set(1, 1)
	}
	return m.set(1, 0)
}

func (m *machine) set(word int, value int64) error {
	_, err := m.control.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(value)), int64(word)*8)
	return err
}
