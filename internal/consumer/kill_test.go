package consumer_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/load"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// The instance that has a consumer is killed again and again. The consumer comes back
// to another at once and misses nothing; what had not been written is delivered
// twice. A consumer that does not come back counts as gone since its instance has.
func TestConsumer_InstanceKilled(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	program := load.Build(t)
	environ := []string{"DATABASE_URL=" + pgtest.Writer(dsn), "JWT_SECRET=" + apptest.Secret, "PORT=0", "INSTANCE_ID=victim", "TAILROOM_MIGRATE=off"}
	stays := apptest.Start(t, dsn)
	service, agent := apptest.Token(t, access.Service, "c1"), tokenOf(t, "agent", access.DesktopApp, "c1", "b1")
	var got []int64
	next, acked := int64(1), int64(0)
	for round := range 3 {
		p, err := load.Start(t.Context(), program, apptest.Log, environ...)
		require.NoError(t, err)
		killed := false
		t.Cleanup(func() {
			if !killed {
				p.Signal(syscall.SIGKILL)
				<-p.Done()
			}
		})
		victim := &apptest.Instance{URL: p.URL}
		require.Equal(t, "victim", victim.Get(t, "/healthz", "").Field("instance"), "the one before is dead")
		s, welcome := victim.Consume(t, agent, "k", orders)
		require.GreaterOrEqual(t, parsePosition(t, welcome.Cursor), acked)
		lost, _ := victim.Consume(t, agent, fmt.Sprint("lost-", round), orders)
		lost.Until(t, "live")
		for range 5 {
			order(t, stays, service, fmt.Sprint(next), "b1")
			next++
		}
		for len(got) == 0 || got[len(got)-1] < next-1 {
			for _, e := range s.Next(t).Decoded(t) {
				got = append(got, e.Position)
				s.Ack(t, e.Cursor)
			}
		}
		if round > 0 { // the first one dies with what was acknowledged last
			stays.AwaitConsumer(t, service, "k", func(c apptest.Consumer) bool { return c.Cursor == fmt.Sprintf("1-%d", next-1) })
			acked = next - 1
		}
		p.Signal(syscall.SIGKILL)
		<-p.Done()
		killed = true
		died := time.Now()

		s, welcome = stays.Consume(t, agent, "k", orders)
		from := parsePosition(t, welcome.Cursor)
		require.GreaterOrEqual(t, from, acked)
		require.LessOrEqual(t, from, next-1)
		for _, position := range positions(t, s, int(next-1-from)) {
			from++
			require.Equal(t, from, position)
		}
		s.Ack(t, fmt.Sprintf("1-%d", next-1))
		stays.AwaitConsumer(t, service, "k", func(c apptest.Consumer) bool { return c.Cursor == fmt.Sprintf("1-%d", next-1) })
		acked = next - 1
		require.NoError(t, s.Conn.CloseNow())
		gone := stays.AwaitConsumer(t, service, fmt.Sprint("lost-", round), away)
		require.WithinDuration(t, died, gone.Since, 4*time.Second)
	}
	seen := map[int64]bool{}
	for _, position := range got {
		seen[position] = true
	}
	require.Len(t, seen, int(next-1))
}

func parsePosition(t *testing.T, cursor string) (position int64) {
	t.Helper()
	_, err := fmt.Sscanf(cursor, "1-%d", &position)
	require.NoError(t, err)
	return position
}
