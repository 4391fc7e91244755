package limit

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What an instance opens to others counts among its connections, and is refused when
// there are too many.
func TestListener_Dial(t *testing.T) {
	t.Parallel()
	other, _ := listen(t, 10)
	l, _ := listen(t, 2)
	address := other.Addr().String()
	first, err := l.Dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	second, err := l.Dial(t.Context(), "tcp", address)
	require.NoError(t, err)
	_, err = l.Dial(t.Context(), "tcp", address)
	require.ErrorIs(t, err, errFull)
	require.Equal(t, 1, l.limits.hit(t, Connections))
	require.NoError(t, first.Close())
	require.Error(t, first.Close())
	require.EqualValues(t, 1, l.open.Load())
	require.NoError(t, second.Close())
	require.NoError(t, other.Close())
	_, err = l.Dial(t.Context(), "tcp", address)
	require.Error(t, err)
	require.Zero(t, l.open.Load())
}
