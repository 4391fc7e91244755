package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "65536": 65536, "12B": 12, "1KB": 1000, "1kb": 1000, "256KiB": 256 << 10,
		"64 MiB": 64 << 20, "1GB": 1e9, "2gib": 2 << 30, "1TiB": 1 << 40,
	} {
		got, err := parseSize(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
		again, err := parseSize(showSize(got))
		require.NoError(t, err, text)
		require.Equal(t, want, again, text)
	}
	for _, text := range []string{"", "MiB", "1.5GiB", "1XB", "1 2", "16777217TiB", "99999999999999999999", "0x10"} {
		_, err := parseSize(text)
		require.Error(t, err, text)
	}
}
