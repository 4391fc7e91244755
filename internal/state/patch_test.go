package state_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/state"
)

// printed is a value as jsonb prints it, without the spaces.
func printed(b []byte, value any) []byte {
	members, ok := value.(map[string]any)
	if !ok {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		return append(b, text...)
	}
	names := slices.SortedFunc(maps.Keys(members), func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(printed(b, name), ':')
		b = printed(b, members[name])
	}
	return append(b, '}')
}

func genObject() *rapid.Generator[map[string]any] {
	names := rapid.SampledFrom([]string{"", "a", "b", "cc", "é", `"`, `\`, "\n", "\n1", "{", "},", "\x7f", "ab,"})
	// No object is among them: the model writes into the target's, and each must be there once.
	leaves := rapid.SampledFrom([]any{nil, 1.0, true, "", "x", `{"a":1}`, `\`, `"}`, []any{}, []any{nil, map[string]any{"a": nil}, "]"}})
	var object func(depth int) *rapid.Generator[map[string]any]
	object = func(depth int) *rapid.Generator[map[string]any] {
		values := leaves
		if depth > 0 {
			values = rapid.OneOf(leaves, rapid.Map(object(depth-1), func(m map[string]any) any { return m }))
		}
		return rapid.MapOfN(names, values, 0, 5)
	}
	return object(3)
}

// What is merged in one pass is what RFC 7396 says, as jsonb prints it.
func TestProperty_Merge(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		target, change := genObject().Draw(rt, "target"), genObject().Draw(rt, "patch")
		before, with := printed(nil, target), printed(nil, change)
		merged, ok := state.Merge(bytes.Clone(before), bytes.Clone(with))
		require.True(rt, ok)
		require.Equal(rt, string(printed(nil, patch(target, change))), string(merged), "%s with %s", before, with)
	})
}

// The order of members and the way they are written are jsonb's.
func TestMerge_AsPostgreSQLPrints(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	jsonb := func(text string) []byte {
		var b []byte
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT $1::text::jsonb", text).Scan(&b))
		return event.Compact(b)
	}
	merged, ok := state.Merge(jsonb(`{"b":1e2,"a\n":1,"\u0001":2,"cc":{"z":0.10},"é":"\u00e9","\"":1,"A":0}`), jsonb(`{"\u0001":"\t","cc":{"zz":[null],"y":null},"é":null,"ccc":1.00}`))
	require.True(t, ok)
	require.Equal(t, string(jsonb(string(merged))), string(merged))
	require.JSONEq(t, `{"b":100,"a\n":1,"\u0001":"\t","cc":{"z":0.10,"zz":[null]},"\"":1,"A":0,"ccc":1.00}`, string(merged))
}

func TestMerge_NoObject(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{{`{"a":1}`, `[1]`}, {`{"a":1}`, `"x"`}, {`{"a":1}`, ``}, {`1`, `{}`}} {
		merged, ok := state.Merge([]byte(pair[0]), []byte(pair[1]))
		require.False(t, ok, pair)
		require.Equal(t, pair[0], string(merged))
	}
}

// A merge reads both once: neither what is deep nor what has many members is taken
// apart.
func TestMerge_OnePass(t *testing.T) { //nolint:paralleltest // what others allocate would count
	deep := strings.Repeat(`{"a":`, 60) + `{"b":"` + strings.Repeat("x", 100_000) + `"}` + strings.Repeat("}", 60)
	var wide []string
	for i := range 10_000 {
		wide = append(wide, fmt.Sprintf(`"%05d":%d`, i, i))
	}
	many := "{" + strings.Join(wide, ",") + "}"
	for name, texts := range map[string][2]string{"deep": {deep, deep}, "wide": {many, `{"00007":null}`}} {
		target, change := []byte(texts[0]), []byte(texts[1])
		allocations := testing.AllocsPerRun(1, func() {
			_, ok := state.Merge(target, change)
			require.True(t, ok)
		})
		require.LessOrEqual(t, allocations, 70.0, name)
	}
}

func BenchmarkMerge(b *testing.B) {
	deep := []byte(strings.Repeat(`{"a":`, 60) + `{"b":"` + strings.Repeat("x", 250_000) + `"}` + strings.Repeat("}", 60))
	var members []string
	for i := range 20_000 {
		members = append(members, fmt.Sprintf(`"%05d":%d`, i, i))
	}
	wide := []byte("{" + strings.Join(members, ",") + "}")
	for name, pair := range map[string][2][]byte{"deep": {deep, deep}, "wide": {wide, []byte(`{"00007":8}`)}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				state.Merge(pair[0], pair[1])
			}
		})
	}
}
