package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "", 3},
		{"PORT", "PORT", 0},
		{"PROT", "PORT", 2},
		{"kitten", "sitting", 3},
		{"BYTE", "BYTES", 1},
	} {
		require.Equal(t, test.want, distance(test.a, test.b), test.a+" "+test.b)
	}
}
