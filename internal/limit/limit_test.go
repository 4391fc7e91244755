package limit

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

func limits(c Config) *Limits {
	c.Metrics = prometheus.NewRegistry()
	return New(c)
}

// refused returns after what time to come back.
func refused(t *testing.T, err error) time.Duration {
	t.Helper()
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, problem.RateLimited, p.Code)
	require.Positive(t, p.Retry)
	return p.Retry
}

// hit is how often a limit was, as its metric has it.
func (l *Limits) hit(t *testing.T, name Name) int {
	t.Helper()
	families, err := l.config.Metrics.(*prometheus.Registry).Gather()
	require.NoError(t, err)
	require.Equal(t, "tailroom_limited_total", families[0].GetName())
	for _, m := range families[0].GetMetric() {
		if m.GetLabel()[0].GetValue() == string(name) {
			return int(m.GetCounter().GetValue())
		}
	}
	require.Fail(t, "there is no such figure", name)
	return 0
}

func TestPublish_ASecondsWorthAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{PublishRatePerCompany: 10})
		require.NoError(t, l.Publish("c1", 4))
		require.NoError(t, l.Publish("c1", 6))
		require.Equal(t, 100*time.Millisecond, refused(t, l.Publish("c1", 1)))
		require.Equal(t, 500*time.Millisecond, refused(t, l.Publish("c1", 5)), "a refusal takes nothing")
		require.NoError(t, l.Publish("c2", 10), "another company's")
		<-time.After(500 * time.Millisecond)
		require.NoError(t, l.Publish("c1", 5))
		require.Equal(t, 2, l.hit(t, PublishRatePerCompany))
		<-time.After(time.Hour)
		require.NoError(t, l.Publish("c1", 10))
		refused(t, l.Publish("c1", 1))
	})
}

// A group that is larger than a second's worth is not refused for ever: it goes
// when nothing else was published for a second, and is paid for afterwards.
func TestPublish_LargeGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{PublishRatePerCompany: 10})
		require.NoError(t, l.Publish("c1", 1))
		wait := refused(t, l.Publish("c1", 35))
		require.Equal(t, 100*time.Millisecond, wait)
		<-time.After(wait)
		require.NoError(t, l.Publish("c1", 35))
		require.Equal(t, 2600*time.Millisecond, refused(t, l.Publish("c1", 1)))
		<-time.After(2600 * time.Millisecond)
		require.NoError(t, l.Publish("c1", 1))
	})
}

// Orders have the rate of a company's events, and are counted by themselves.
func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{PublishRatePerCompany: 10})
		require.NoError(t, l.Publish("c1", 100))
		for range 10 {
			require.NoError(t, l.Order("c1"))
		}
		require.Equal(t, 100*time.Millisecond, refused(t, l.Order("c1")))
		require.Equal(t, 1, l.hit(t, PublishRatePerCompany))
		require.NoError(t, l.Order("c2"))
		<-time.After(100 * time.Millisecond)
		require.NoError(t, l.Order("c1"))
		require.NoError(t, limits(Config{}).Order("c1"))
	})
}

// Companies that were active long ago take no memory.
func TestRates_ForgetIdleCompanies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{PublishRatePerCompany: 10})
		for n := range 100_000 {
			require.NoError(t, l.Publish(fmt.Sprint(n), 10))
			if n%1000 == 0 {
				<-time.After(time.Second)
			}
		}
		require.LessOrEqual(t, len(l.publishes.buckets), 2*leastSweep)
		// Those that are active are kept, however many they are.
		for n := range 5000 {
			require.NoError(t, l.Publish(fmt.Sprint("busy", n), 10))
		}
		for n := range 5000 {
			refused(t, l.Publish(fmt.Sprint("busy", n), 10))
		}
	})
}

func TestPace_Frames(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{FrameRatePerConnection: 3, FrameRatePerCompany: 5})
		one, two, other := l.Pace(), l.Pace(), l.Pace()
		for range 3 {
			require.NoError(t, one.Frame("c1"))
		}
		require.ErrorContains(t, one.Frame("c1"), "the connection sends more than 3 messages a second")
		require.NoError(t, two.Frame("c1"))
		require.NoError(t, two.Frame("c1"))
		err := two.Frame("c1")
		require.ErrorContains(t, err, "the company's connections send more than 5 messages a second")
		require.Equal(t, 200*time.Millisecond, refused(t, err))
		require.NoError(t, other.Frame("c2"))
		require.NoError(t, other.Frame(""), "of no company")
		require.Equal(t, 1, l.hit(t, FrameRatePerConnection))
		require.Equal(t, 1, l.hit(t, FrameRatePerCompany))
	})
}

func TestPace_Flooding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := limits(Config{FrameRatePerConnection: 1})
		p := l.Pace()
		for range maxRefusals {
			require.False(t, p.Flooding())
		}
		require.True(t, p.Flooding())
		require.Equal(t, 1, l.hit(t, Flood))
		// Who is refused now and then, for days, stays.
		p = l.Pace()
		for range 100_000 {
			require.False(t, p.Flooding())
			<-time.After(time.Second / forgivenPerSecond)
		}
	})
}

func TestSeats(t *testing.T) {
	t.Parallel()
	l := limits(Config{SessionsPerCompany: 2, SessionsPerAddress: 1})
	first, err := l.Session("c1")
	require.NoError(t, err)
	second, err := l.Session("c1")
	require.NoError(t, err)
	_, err = l.Session("c1")
	require.Equal(t, sessionRetry, refused(t, err))
	_, err = l.Session("c2")
	require.NoError(t, err)
	for range 5 { // of every company
		_, err = l.Session("")
		require.NoError(t, err)
	}
	first.Leave()
	third, err := l.Session("c1")
	require.NoError(t, err)
	second.Leave()
	third.Leave()
	require.NotContains(t, l.companies.taken, "c1")
	require.Equal(t, 1, l.hit(t, SessionsPerCompany))
}

func TestSeats_ByAddress(t *testing.T) {
	t.Parallel()
	l := limits(Config{SessionsPerAddress: 1})
	take := func(address string) error {
		_, err := l.Address(netip.MustParseAddr(address))
		return err
	}
	require.NoError(t, take("198.51.100.1"))
	refused(t, take("198.51.100.1"))
	require.NoError(t, take("198.51.100.2"))
	require.NoError(t, take("2001:db8:0:1::1"))
	refused(t, take("2001:db8:0:1:ffff::9"))
	require.NoError(t, take("2001:db8:0:2::1"), "another network")
	require.Equal(t, 2, l.hit(t, SessionsPerAddress))
}

func TestOff_RefusesNothing(t *testing.T) {
	t.Parallel()
	l := limits(Config{})
	p := l.Pace()
	for range 10_000 {
		require.NoError(t, p.Frame("c1"))
		require.NoError(t, p.Publish(1000))
		require.NoError(t, l.Publish("c1", 1000))
		seat, err := l.Session("c1")
		require.NoError(t, err)
		seat.Leave()
		_, err = l.Address(netip.MustParseAddr("::1"))
		require.NoError(t, err)
	}
	for _, name := range names {
		require.Zero(t, l.hit(t, name), name)
	}
}

// What a limit costs for each frame.
func BenchmarkFrame(b *testing.B) {
	for name, c := range map[string]Config{"off": {}, "on": {FrameRatePerConnection: 1 << 40, FrameRatePerCompany: 1 << 40}} {
		b.Run(name, func(b *testing.B) {
			l := limits(c)
			pace := l.Pace()
			for b.Loop() {
				_ = pace.Frame("c1")
			}
		})
	}
}
