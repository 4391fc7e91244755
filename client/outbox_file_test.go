package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func group(n int) []json.RawMessage {
	return []json.RawMessage{fmt.Appendf(nil, `{"id":"%d","data":{"text":"line\nfeed"}}`, n)}
}

func open(t *testing.T, path string) *outbox {
	t.Helper()
	o, err := openOutbox(path, 1000, 1<<30)
	require.NoError(t, err)
	return o
}

// drained takes all groups out.
func drained(t *testing.T, o *outbox) (list []string) {
	t.Helper()
	for {
		events, err := o.first()
		require.NoError(t, err)
		if events == nil {
			require.Zero(t, o.pending())
			return list
		}
		list = append(list, string(events[0]))
		require.NoError(t, o.done())
	}
}

// However much of the file a crash has left, what is read is a beginning of what was
// put, less what was done, and goes on from there.
func TestOutbox_CutAtEveryByte(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox")
	o := open(t, path)
	for n := range 4 {
		require.NoError(t, o.put(group(n)))
	}
	require.NoError(t, o.done())
	require.NoError(t, o.put(group(4)))
	require.NoError(t, o.done())
	require.NoError(t, o.close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	for _, rubbish := range []string{"", "\x00\x00\x00\n", "0badcafe {}"} {
		for length := range len(whole) + 1 {
			cut := slices.Concat(whole[:length], []byte(rubbish))
			waiting, last, end, err := scan(cut)
			require.NoError(t, err)
			lines := bytes.Count(whole[:length], []byte("\n"))
			want := [][2]uint64{{0, 0}, {1, 1}, {1, 2}, {1, 3}, {1, 4}, {2, 4}, {2, 5}, {3, 5}}[lines]
			require.Equal(t, want[1], last)
			require.Equal(t, bytes.LastIndexByte(whole[:length], '\n')+1, int(end))
			for i := range waiting {
				require.Equal(t, want[0]+uint64(i), waiting[i].number)
			}
			// The whole way, where the end of a line is near.
			if last := whole[max(0, length-2):min(len(whole), length+1)]; !bytes.Contains(last, []byte("\n")) {
				continue
			}
			require.NoError(t, os.WriteFile(path, cut, 0o600))
			o := open(t, path)
			require.NoError(t, o.put(group(9)))
			require.NoError(t, o.close())
			o = open(t, path)
			got := drained(t, o)
			require.NoError(t, o.close())
			require.Len(t, got, len(waiting)+1)
			require.Equal(t, string(group(9)[0]), got[len(waiting)])
		}
	}
}

// What a crash cannot do is not passed over: a group would be lost.
func TestOutbox_Damaged(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "outbox")
	o := open(t, path)
	require.NoError(t, o.put(group(1)))
	require.NoError(t, o.put(group(2)))
	require.NoError(t, o.close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	whole[20] ^= 1
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	_, err = openOutbox(path, 1000, 1<<30)
	require.ErrorContains(t, err, "damaged at byte 0, and more follows: move the file away")
	kept, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, whole, kept)
}

// The file does not grow for ever, whether it is ever empty or not.
func TestOutbox_IsMadeSmaller(t *testing.T) {
	t.Parallel()
	for _, waiting := range []int{0, 3} {
		path := filepath.Join(t.TempDir(), "outbox")
		o := open(t, path)
		big := []json.RawMessage{append(append([]byte(`"`), make([]byte, 50<<10)...), '"')}
		for i := range big[0] {
			if big[0][i] == 0 {
				big[0][i] = 'x'
			}
		}
		for range waiting {
			require.NoError(t, o.put(big))
		}
		for range 100 {
			require.NoError(t, o.put(big))
			require.NoError(t, o.done())
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Less(t, info.Size(), int64(compactAbove+200<<10))
		}
		require.Equal(t, waiting, o.pending())
		require.NoError(t, o.put(big))
		require.NoError(t, o.close())
		o = open(t, path)
		require.Len(t, drained(t, o), waiting+1)
		require.NoError(t, o.close())
		left, err := filepath.Glob(path + "*")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{path, path + ".lock"}, left)
	}
}

// Whatever is in the file, it is read or refused, and what is read can be written
// and read again.
func FuzzOutbox(f *testing.F) {
	good, err := record{Put: 1, Events: group(1)}.append(nil)
	require.NoError(f, err)
	more, err := record{Put: 2, Events: group(2)}.append(good)
	require.NoError(f, err)
	done, err := record{Done: 1}.append(more)
	require.NoError(f, err)
	f.Add(good)
	f.Add(done)
	f.Add(append(done, done...))
	f.Add([]byte("00000000 \n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		waiting, last, end, err := scan(file)
		if err != nil {
			return
		}
		require.LessOrEqual(t, end, int64(len(file)))
		before := uint64(0)
		for _, s := range waiting {
			r, ok := parseRecord(file[s.offset : s.offset+int64(s.length)-1])
			require.True(t, ok)
			require.Equal(t, s.number, r.Put)
			require.Greater(t, s.number, before)
			require.LessOrEqual(t, s.number, last)
			require.Len(t, r.Events, s.events)
			before = s.number
		}
		again, lastAgain, endAgain, err := scan(file[:end])
		require.NoError(t, err)
		require.Equal(t, waiting, again)
		require.Equal(t, last, lastAgain)
		require.Equal(t, end, endAgain)
	})
}

func FuzzCursorFile(f *testing.F) {
	f.Add([]byte("1-1042\n"))
	f.Add([]byte("now"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		cursor, err := parseCursor("cursor", text)
		if err == nil {
			require.Regexp(t, `^\d+-\d+$`, cursor)
		}
	})
}
