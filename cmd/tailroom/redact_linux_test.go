package main

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

// newTerminal returns both sides of a pseudo-terminal.
func newTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { person.Close() })
	var number, locked int32
	for request, value := range map[uintptr]*int32{syscall.TIOCGPTN: &number, syscall.TIOCSPTLCK: &locked} {
		_, _, failed := syscall.Syscall(syscall.SYS_IOCTL, person.Fd(), request, uintptr(unsafe.Pointer(value)))
		require.Zero(t, failed)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { program.Close() })
	return person, program
}

// Whoever sits at a terminal is asked. Only a whole yes is one.
func TestRedact_Asks(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	_, pool := redactable(t, dsn)
	before := read(t, pool, 1)
	ask := func(answer string) (string, string, error) {
		person, program := newTerminal(t)
		_, err := person.WriteString(answer)
		require.NoError(t, err)
		return tailroom(t.Context(), program, "redact", "--position", "1", "--reason", "request 17")
	}
	for _, answer := range []string{"no\n", "\n", "y\n", "\x04"} { // the last is Ctrl-D
		out, said, err := ask(answer)
		require.ErrorContains(t, err, "nothing was changed")
		require.Empty(t, out)
		require.Contains(t, said, "erased for ever")
		require.Equal(t, before, read(t, pool, 1))
	}
	out, _, err := ask("yes\n")
	require.NoError(t, err)
	require.Equal(t, "1-2\n", out)
	require.True(t, bytes.Equal([]byte("{}"), read(t, pool, 1).Data))
}
