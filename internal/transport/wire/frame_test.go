package wire

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// unframe takes a whole frame off the front of b.
func unframe(t testing.TB, b []byte) (first byte, payload, rest []byte) {
	t.Helper()
	first, length, at := b[0], uint64(b[1]), 2
	switch length {
	case 126:
		length, at = uint64(binary.BigEndian.Uint16(b[2:])), 4
		require.GreaterOrEqual(t, length, uint64(126), "not the shortest form")
	case 127:
		length, at = binary.BigEndian.Uint64(b[2:]), 10
		require.GreaterOrEqual(t, length, uint64(1<<16), "not the shortest form")
	}
	require.LessOrEqual(t, length, uint64(len(b)-at), "masked, or longer than what there is")
	end := at + int(length)
	return first, b[at:end], b[end:]
}

// FuzzFrames holds that whatever is framed, plain or compressed and one after
// the other, is found again.
func FuzzFrames(f *testing.F) {
	for _, size := range []int{0, 1, 124, 125, 126, 127, 1<<16 - 1, 1 << 16, 1<<16 + 1, 300_000} {
		f.Add(bytes.Repeat([]byte("ab"), size/2+1)[:size], []byte("before"))
	}
	f.Add([]byte(strings.Repeat("\x00\x00\xff\xff", 9)), []byte(nil))
	f.Fuzz(func(t *testing.T, payload, before []byte) {
		b := AppendText(nil, func(b []byte) []byte { return append(b, before...) })
		b = append(b, DeflatedText(payload)...)
		b = AppendText(b, func(b []byte) []byte { return append(b, payload...) })
		b = AppendHeader(b, Ping, false, 0)

		first, got, rest := unframe(t, b)
		require.EqualValues(t, finBit|Text, first)
		require.True(t, bytes.Equal(before, got))
		first, got, rest = unframe(t, rest)
		require.EqualValues(t, finBit|rsv1Bit|Text, first)
		inflated, err := io.ReadAll(flate.NewReader(io.MultiReader(bytes.NewReader(got), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))))
		require.NoError(t, err)
		require.True(t, bytes.Equal(payload, inflated))
		first, got, rest = unframe(t, rest)
		require.EqualValues(t, finBit|Text, first)
		require.True(t, bytes.Equal(payload, got))
		require.Equal(t, []byte{finBit | Ping, 0}, rest)
	})
}
