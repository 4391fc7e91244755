package api_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }

// tick is how often a test looks for what must come.
const tick = 20 * time.Millisecond

// requireProblem checks an answer's status and code, and that it is a problem
// as RFC 9457 has it. It returns its fields.
func requireProblem(t testing.TB, a apptest.Answer, status int, code string, which ...any) map[string]any {
	t.Helper()
	require.Equal(t, status, a.Status, append([]any{string(a.Body)}, which...)...)
	require.Equal(t, code, a.Code(), append([]any{string(a.Body)}, which...)...)
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
	var fields map[string]any
	require.NoError(t, json.Unmarshal(a.Body, &fields))
	require.EqualValues(t, status, fields["status"])
	for _, name := range []string{"type", "title", "detail"} {
		require.NotEmpty(t, fields[name], name)
	}
	switch status {
	case 401:
		require.Contains(t, a.Header.Get("WWW-Authenticate"), "Bearer")
	case 429, 503:
		require.NotEmpty(t, a.Header.Get("Retry-After"))
	}
	return fields
}
