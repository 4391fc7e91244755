package consumer_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

const printing = `[{"namespace":"/printing-ws"}]`

// BenchmarkCatchUp is an agent that comes back with 5,000 jobs to do: until it is
// live, and until all is acknowledged in the database. It acknowledges each message.
func BenchmarkCatchUp(b *testing.B) {
	const jobs = 5000
	dsn := pgtest.Database(b)
	p := load.StartProcess(b, load.Build(b), dsn, apptest.Secret)
	i := &apptest.Instance{URL: p.URL}
	pool := pgtest.Pool(b, dsn)
	service, agent := apptest.Token(b, access.Service, "c1"), apptest.Token(b, access.DesktopApp, "c1", "b7")
	ack := func() (position int64, connected bool) {
		require.NoError(b, pool.QueryRow(b.Context(), "SELECT position, disconnected_at IS NULL FROM tailroom.consumers").Scan(&position, &connected))
		return position, connected
	}
	s, _ := i.Consume(b, agent, "agent", printing)
	require.NoError(b, s.Conn.CloseNow())
	var live, acked time.Duration
	rounds := 0
	for b.Loop() {
		require.Eventually(b, func() bool { _, connected := ack(); return !connected }, apptest.Patience, 5*time.Millisecond)
		b.StopTimer()
		last := int64(0)
		for from := 0; from < jobs; from += 500 {
			var lines []string
			for n := range 500 {
				lines = append(lines, fmt.Sprintf(`{"namespace":"/printing-ws","type":"printJobUpdate","data":{"jobId":"j-%d-%d","branchId":"b7","orderId":"1","status":"queued"}}`, rounds, from+n))
			}
			for _, r := range i.Publish(b, service, "["+strings.Join(lines, ",")+"]") {
				last = r.Position
			}
		}
		rounds++
		b.StartTimer()
		begin := time.Now()
		s, _ := i.Consume(b, agent, "agent", printing)
		got := 0
		for {
			m := s.Next(b)
			if m.Type == "live" {
				break
			}
			got += len(m.Events)
			s.Ack(b, m.Cursor)
		}
		require.Equal(b, jobs, got)
		live += time.Since(begin)
		require.Eventually(b, func() bool { position, _ := ack(); return position >= last }, apptest.Patience, time.Millisecond)
		acked += time.Since(begin)
		require.NoError(b, s.Conn.CloseNow())
	}
	b.ReportMetric(float64(live.Milliseconds())/float64(rounds), "ms-until-live")
	b.ReportMetric(float64(acked.Milliseconds())/float64(rounds), "ms-until-acked")
}

// BenchmarkReconnect is 1,000 consumers that come back at once.
func BenchmarkReconnect(b *testing.B) {
	const consumers = 1000
	p := load.StartProcess(b, load.Build(b), pgtest.Database(b), apptest.Secret, "LOG_LEVEL=info")
	token := apptest.Token(b, access.DesktopApp, "c1", "b7")
	sockets := make([]*load.Socket, consumers)
	come := func() {
		errs := make(chan error, consumers)
		for n := range consumers {
			go func() {
				var err error
				sockets[n], err = load.DialConsumer(b.Context(), p.URL, token, fmt.Sprint("agent-", n), printing)
				errs <- err
			}()
		}
		for range consumers {
			require.NoError(b, <-errs)
		}
	}
	come()
	for b.Loop() {
		for _, s := range sockets {
			_ = s.Close()
		}
		come()
	}
	for _, s := range sockets {
		_ = s.Close()
	}
	require.Equal(b, http.StatusOK, (&apptest.Instance{URL: p.URL}).Get(b, "/healthz", "").Status)
}
