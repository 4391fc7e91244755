package event_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// FuzzParseStart holds that what is accepted as a cursor is exactly what a
// Cursor prints.
func FuzzParseStart(f *testing.F) {
	for _, seed := range []string{
		"", "now", "earliest", "1-0", "1-1042", "9007199254740992-9007199254740992", "1-9007199254740993",
		"0-1", "01-1", "1-01", "-1-1", "+1-1", "1--1", "1-", "-", "1-1-1", "1_000-1", "１-1", "1-1\n", "null",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start, err := event.ParseStart(s)
		if err != nil {
			require.ErrorIs(t, err, event.ErrCursor)
			return
		}
		if start.Origin != event.At {
			require.Contains(t, []string{"", "now", "earliest"}, s)
			return
		}
		require.Equal(t, s, start.Cursor.String())
		require.Positive(t, start.Cursor.Epoch)
		require.LessOrEqual(t, start.Cursor.Position, event.MaxPosition)
	})
}

// FuzzParseRoom holds that a room that is accepted is in colon form, stays
// itself when parsed again, and holds no character that needs escaping anywhere.
func FuzzParseRoom(f *testing.F) {
	for _, seed := range []string{"branch:7", "branch_7", "company:c-1", "company_", "branch:", "room:1", "branch:a b", "branch:é", "branch__7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		room, err := event.ParseRoom(s)
		if err != nil {
			require.Empty(t, room)
			return
		}
		again, err := event.ParseRoom(room)
		require.NoError(t, err)
		require.Equal(t, room, again)
		require.True(t, strings.HasPrefix(room, "branch:") || strings.HasPrefix(room, "company:"))
		require.Equal(t, len(s), len(room))
	})
}

// FuzzCompact holds Compact against encoding/json, whose Compact copies.
func FuzzCompact(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a": 1, "b": [1, 2]}`, `{"a b": "c \" : , d\\"}`, "\t{ \"x\" :\n{} }\r", `[" \\", "\\\" "]`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if !json.Valid(src) {
			return
		}
		want := compactByJSON(t, src)
		require.Equal(t, want, string(event.Compact(append([]byte(nil), src...))))
	})
}

// FuzzAppendString holds AppendString against encoding/json: what it writes is
// read back as what encoding/json would have written.
func FuzzAppendString(f *testing.F) {
	for _, seed := range []string{"", "a", "\"\\\n\x00\x7f", "é😀", "\xff", "</script>\u2028"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		theirs, err := json.Marshal(s)
		require.NoError(t, err)
		var want, got string
		require.NoError(t, json.Unmarshal(theirs, &want))
		require.NoError(t, json.Unmarshal(event.AppendString(nil, s), &got))
		require.Equal(t, want, got)
	})
}

func compactByJSON(t *testing.T, src []byte) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, json.Compact(&b, src))
	return b.String()
}
