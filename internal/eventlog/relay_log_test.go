package eventlog

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

func TestRelay_LogsRejectionsSparinglyAndWithoutData(t *testing.T) { //nolint:paralleltest // the logger is everybody's
	before := slog.Default()
	defer slog.SetDefault(before)
	var logged bytes.Buffer
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, nil)))
	m := newRelayMetrics(prometheus.NewRegistry())
	reject := func(rows int) int {
		logged.Reset()
		for range rows {
			m.reject(t.Context(), settlement{
				row: 7, code: "schema_violation", reason: "data/orderId is required",
				draft: &event.Draft{Tenant: "c1", Namespace: "/orders", Type: "newOrder", Data: []byte(`{"name":"Ada"}`)},
			})
		}
		return strings.Count(logged.String(), "\n")
	}
	require.Equal(t, 1, reject(1))
	for _, said := range []string{
		"level=ERROR", "component=outbox", "row=7", "company=c1", "namespace=/orders", "type=newOrder", "code=schema_violation",
		`reason="data/orderId is required"`,
	} {
		require.Contains(t, logged.String(), said)
	}
	require.NotContains(t, logged.String(), "Ada")
	require.Equal(t, maxRejectionLines, reject(1000), "and one of them says that there are more")
	require.Contains(t, logged.String(), "more published rows are rejected")
	require.Zero(t, reject(1000))
	m.period = m.period.Add(-rejectionPeriod)
	require.Equal(t, 1, reject(1))
}
