package socketio

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

func TestPID(t *testing.T) {
	t.Parallel()
	key, former := bytes.Repeat([]byte("k"), 32), bytes.Repeat([]byte("f"), 32)
	mine := owner{access.Grant{Subject: "u1", Tenant: "c1", Narrowed: "b1"}, "/orders"}
	c := claim{sid: newSID(), cursor: event.Cursor{Epoch: 3, Position: event.MaxPosition}, issued: time.Unix(1_800_000_000, 0)}
	require.Len(t, c.sid, 20)
	pid := sealer{key}.seal(c, mine)

	for name, s := range map[string]sealer{"the key": {key}, "a key of before": {former, key}} {
		read, ok := s.open(pid, mine)
		require.True(t, ok, name)
		require.Equal(t, c, read, name)
	}
	_, ok := sealer{former}.open(pid, mine)
	require.False(t, ok, "another key")
	for name, other := range map[string]owner{
		"subject":   {access.Grant{Subject: "u2", Tenant: "c1", Narrowed: "b1"}, "/orders"},
		"company":   {access.Grant{Subject: "u1", Tenant: "c2", Narrowed: "b1"}, "/orders"},
		"branch":    {access.Grant{Subject: "u1", Tenant: "c1", Narrowed: "b2"}, "/orders"},
		"no branch": {access.Grant{Subject: "u1", Tenant: "c1"}, "/orders"},
		"namespace": {access.Grant{Subject: "u1", Tenant: "c1", Narrowed: "b1"}, "/availability"},
		"borders":   {access.Grant{Subject: "u1c", Tenant: "1", Narrowed: "b1"}, "/orders"},
	} {
		_, ok := sealer{key}.open(pid, other)
		require.False(t, ok, name)
	}
	for i := range pid { // each character counts
		changed := []byte(pid)
		changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
		read, ok := sealer{key}.open(string(changed), mine)
		require.False(t, ok, i)
		require.Zero(t, read, "nothing of it is believed")
	}
	for _, text := range []string{"", "p", pid[:len(pid)-1], pid + "A", pid + "=", strings.Repeat("A", 1<<16), "💥"} {
		_, ok := sealer{key}.open(text, mine)
		require.False(t, ok)
	}
}

func TestParseOffset(t *testing.T) {
	t.Parallel()
	c, ok := parseOffset("p2-1042")
	require.True(t, ok)
	require.Equal(t, event.Cursor{Epoch: 2, Position: 1042}, c)
	require.Equal(t, "p2-1042", string(appendOffset(nil, c)))
	for _, foreign := range []string{"", "p", "2-1042", "pearliest", "pnow", "p2", "p2-", "p02-1", "p2-1042 ", "P2-1042", "1718000000000-0", "hello", "p2-9007199254740993"} {
		_, ok := parseOffset(foreign)
		require.False(t, ok, foreign)
	}
}

func FuzzPID(f *testing.F) {
	key := bytes.Repeat([]byte("k"), 32)
	o := owner{access.Grant{Subject: "u", Tenant: "c"}, "/orders"}
	f.Add(sealer{key}.seal(claim{sid: newSID(), cursor: event.Cursor{Epoch: 1, Position: 7}}, o))
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, pid string) {
		if c, ok := (sealer{key}).open(pid, o); ok {
			require.Equal(t, pid, sealer{key}.seal(c, o))
		}
	})
}
