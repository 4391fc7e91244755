package engineio

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestParsePacket(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]packet{
		`0{"sid":"x"}`: {kind: '0', data: []byte(`{"sid":"x"}`)},
		"1":            {kind: '1', data: []byte{}},
		"2probe":       {kind: '2', data: []byte("probe")},
		"3":            {kind: '3', data: []byte{}},
		"4héllo":       {kind: '4', data: []byte("héllo")},
		"4":            {kind: '4', data: []byte{}},
		"5":            {kind: '5', data: []byte{}},
		"6":            {kind: '6', data: []byte{}},
		"bAQIDBA==":    {kind: '4', binary: true, data: []byte{1, 2, 3, 4}},
		"b":            {kind: '4', binary: true, data: []byte{}},
	} {
		got, err := parsePacket([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "7", "abc", "\x1e", "bAQI", "b????", "B", "\x00", "４hello"} {
		_, err := parsePacket([]byte(text))
		require.Error(t, err, text)
	}
}

// FuzzPackets holds that a payload is what stands between the separators, and that what
// is joined comes apart again.
func FuzzPackets(f *testing.F) {
	for _, seed := range []string{
		"", "4hello", "4a\x1e4b\x1e4c", "4hello\x1ebAQIDBA==", "abc", "4a\x1e\x1e4b", "\x1e", "4a\x1e", "1", "3\x1e3", "b\x1eb=", "2probe\x1e5\x1e6\x1e0{}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		texts := bytes.Split(payload, []byte{separator})
		var again []byte
		n := 0
		for p, err := range packets(payload) {
			require.Less(t, n, len(texts))
			want, wrong := parsePacket(texts[n])
			require.Equal(t, wrong, err)
			n++
			if err != nil {
				return
			}
			require.Equal(t, want, p)
			if p.binary {
				require.EqualValues(t, messagePacket, p.kind)
				again = appendPacket(again, binaryPacket, base64.StdEncoding.AppendEncode(nil, p.data))
				continue
			}
			require.NotContains(t, string(p.data), "\x1e")
			again = appendPacket(again, p.kind, p.data)
		}
		require.Len(t, texts, n)
		// Base64 may be broken into lines, and its last digit has bits to spare.
		if !bytes.Contains(payload, []byte("b")) {
			require.Equal(t, payload, again)
		}
		n = 0
		for p, err := range packets(again) {
			require.NoError(t, err)
			want, _ := parsePacket(texts[n])
			require.Equal(t, want, p)
			n++
		}
	})
}

// FuzzOwner holds that whatever names an owner is written as we write it.
func FuzzOwner(f *testing.F) {
	f.Add(newSID(uuid.New()))
	f.Add(newSID(uuid.Nil))
	f.Add("AAAAAAAAAAAAAAAAAAAAAB.x")
	f.Add("AAAAAAAAAAAAAAAAAAAAA\nA.x")
	f.Add(".")
	f.Add("")
	f.Fuzz(func(t *testing.T, sid string) {
		owner, ok := Owner(sid)
		if !ok {
			require.Equal(t, uuid.Nil, owner)
			return
		}
		require.Equal(t, newSID(owner)[:23], sid[:23])
	})
}

func TestSID(t *testing.T) {
	t.Parallel()
	owner := uuid.New()
	a, b := newSID(owner), newSID(owner)
	require.Regexp(t, `^[\w-]{22}\.[\w-]{22}$`, a)
	require.NotEqual(t, a, b)
	require.Equal(t, a[:23], b[:23])
	got, ok := Owner(a)
	require.True(t, ok)
	require.Equal(t, owner, got)
	_, ok = Owner(a[1:])
	require.False(t, ok)
}
