package jsonvalue_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

// FuzzCheck holds Check against encoding/json: the two agree on what is JSON,
// and what passes decodes into doubles and comes back within its size.
func FuzzCheck(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, ` {"a" : [1, 2.5e-3, "\ud83d\ude00", true, {"b":null}]} `,
		`{"a":"\u0000"}`, `{"\ud800":1}`, `{"a":"\ud800\ud800\udc00"}`, `{"a":1e400}`, `{"a":-0.0e-400}`, `{"a":01}`,
		"{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\x01\"}", `{"a":1,}`, `{"a"`, strings.Repeat(`[`, 70), strings.Repeat(`{"a":`, 65) + "0",
		`{"orderId":"1042","branchId":"b7","total":1250}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := jsonvalue.Check(data, anySize)
		if err != nil && strings.Contains(err.Error(), "nested deeper") {
			return // the rest was not read
		}
		isJSON := json.Valid(data) && utf8.Valid(data)
		if err != nil {
			p, ok := errors.AsType[*problem.Error](err)
			require.True(t, ok)
			require.Equal(t, isJSON, p.Code == problem.SchemaViolation, "%q: %v", data, err)
			return
		}
		require.True(t, isJSON, "%q", data)
		var decoded map[string]any
		require.NoError(t, json.Unmarshal(data, &decoded), "%q", data)
		require.NotContains(t, string(data), "\x00")
		requireSize(t, data)
	})
}

// requireSize checks that data without numbers, white space and escapes that
// PostgreSQL would print otherwise takes the size Check says.
func requireSize(t *testing.T, data []byte) {
	t.Helper()
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, data))
	if bytes.ContainsAny(data, `\0123456789`) {
		return
	}
	require.NoError(t, jsonvalue.Check(data, compact.Len()))
	require.Error(t, jsonvalue.Check(data, compact.Len()-1))
}
