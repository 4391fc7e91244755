package pgtest

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSweep_TakesOnlyWhatIsOld(t *testing.T) {
	t.Parallel()
	fresh, err := newDir()
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(fresh) })
	old, err := newDir()
	require.NoError(t, err)
	longAgo := time.Now().Add(-25 * time.Hour)
	require.NoError(t, os.Chtimes(old, longAgo, longAgo))

	sweep()

	require.DirExists(t, fresh)
	require.NoDirExists(t, old)
}
