package telemetry

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{
		"json": `"msg":"listening","instance":"i1","component":"api","port":3001}`,
		"text": `msg=listening instance=i1 component=api port=3001`,
	} {
		var out strings.Builder
		log := NewLogger(&out, format, slog.LevelInfo, "i1").With("component", "api")
		log.Debug("not shown")
		log.Info("listening", "port", 3001)
		require.Equal(t, 1, strings.Count(out.String(), "\n"), format)
		require.Contains(t, out.String(), want, format)
	}
}
