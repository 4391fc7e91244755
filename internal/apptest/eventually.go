package apptest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Eventually is require.Eventually for conditions that may fail the test themselves,
// such as one that makes a request: they run in the test's own goroutine, so what is
// wrong is said at once, and not that the condition was never satisfied.
func Eventually(t testing.TB, condition func() bool, patience, pause time.Duration, what ...any) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); <-time.After(pause) {
		if time.Now().After(end) {
			require.Fail(t, "the condition was never satisfied", what...)
		}
	}
}
