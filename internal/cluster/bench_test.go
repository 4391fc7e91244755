package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/session"
)

// BenchmarkConnections is what 10,000 sessions cost, each in three rooms of each of three
// namespaces: to show all of them, a hundred that come and go, and to read who is
// connected.
func BenchmarkConnections(b *testing.B) {
	const sessions = 10_000
	pool := pgtest.Pool(b, pgtest.Database(b)+"&jit=off") // as an instance has it
	m, err := Join(b.Context(), pool, "one", prometheus.NewRegistry())
	require.NoError(b, err)
	_, err = pool.Exec(b.Context(), "UPDATE tailroom.instances SET seen_at = now() + interval '1 hour'")
	require.NoError(b, err)
	c := NewConnections(pool, m.Incarnation(), func() {})
	watch := func(number int64) {
		r := report(number)
		rooms := []string{"company:c1", fmt.Sprint("branch:b", number%500), fmt.Sprint("branch:c", number%500)}
		r.Rooms = map[string][]string{"/orders": rooms, "/printing-ws": rooms, "/availability": rooms}
		c.Watch(number, func() session.Report { return r })
	}
	number := int64(0)
	for range sessions {
		number++
		watch(number)
	}
	begin := time.Now()
	require.NoError(b, c.Show(b.Context()))
	all := time.Since(begin)
	b.Run("Show", func(b *testing.B) {
		for b.Loop() {
			for range 100 {
				number++
				watch(number)
				c.Watch(number-sessions, nil)
			}
			require.NoError(b, c.Show(b.Context()))
		}
		b.ReportMetric(float64(all.Milliseconds()), "ms-for-all")
	})
	b.Run("Read", func(b *testing.B) {
		l := NewListing(pool, eventlog.NewShared(pool).Turn, c)
		for b.Loop() {
			counts, list, err := l.Read(b.Context(), Filter{}, Place{}, 101)
			require.NoError(b, err)
			require.Equal(b, int64(sessions), counts.Total)
			require.Len(b, list, 101)
		}
	})
	b.Run("ReadOneCompany", func(b *testing.B) {
		l := NewListing(pool, eventlog.NewShared(pool).Turn, c)
		for b.Loop() {
			_, list, err := l.Read(b.Context(), Filter{Tenant: "c2"}, Place{}, 101)
			require.NoError(b, err)
			require.Empty(b, list)
		}
	})
}
