package verify_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/verify"
)

var benchEvents = flag.Int("events", 1_000_000, "how many events BenchmarkVerify verifies")

// BenchmarkVerify verifies a log of a million events in partitions of a quarter of
// that: how long it takes, how much memory the process comes to need, and what
// becomes of appends meanwhile. Run it with -benchtime 1x.
func BenchmarkVerify(b *testing.B) {
	r := newRig(b, *benchEvents/4)
	var serial atomic.Int64
	r.load(b, *benchEvents, &serial)
	r.exec(b, "SELECT tailroom.partitions_ahead(8)")
	r.exec(b, "VACUUM ANALYZE tailroom.events")
	binary := filepath.Join(b.TempDir(), "tailroom")
	out, err := exec.Command("go", "build", "-o", binary, "../../cmd/tailroom").CombinedOutput()
	require.NoError(b, err, string(out))

	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			require.Empty(b, r.verifyAll(b).Faults)
		}
		b.ReportMetric(float64(*benchEvents*b.N)/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("process", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(binary, "verify", "--quiet")
			cmd.Env = append(os.Environ(), "DATABASE_URL="+r.dsn)
			out, err := cmd.CombinedOutput()
			require.NoError(b, err, string(out))
			b.ReportMetric(float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)/1024, "MiB")
			b.ReportMetric(cmd.ProcessState.UserTime().Seconds()+cmd.ProcessState.SystemTime().Seconds(), "cpu-s")
		}
	})
	for name, pace := range map[string]time.Duration{"saturated": 0, "paced": 16 * time.Millisecond} {
		b.Run("appends/"+name, func(b *testing.B) {
			var rates, p99s []float64
			var without, with figures
			for b.Loop() {
				for range 6 { // by turns, because the machine changes as well
					without = r.appends(b, pace, &serial, func(ctx context.Context) { <-ctx.Done() })
					with = r.appends(b, pace, &serial, func(ctx context.Context) {
						_, err := verify.Run(ctx, r.dsn, verify.Config{Window: 24 * time.Hour})
						require.ErrorIs(b, err, context.DeadlineExceeded, "the log is too small for this")
					})
					rates, p99s = append(rates, with.rate/without.rate), append(p99s, float64(with.p99)/float64(without.p99))
				}
			}
			slices.Sort(rates)
			slices.Sort(p99s)
			b.ReportMetric(without.rate, "without/s")
			b.ReportMetric(with.rate, "with/s")
			b.ReportMetric(rates[len(rates)/2], "ratio")
			b.ReportMetric(without.p99.Seconds()*1000, "without-p99-ms")
			b.ReportMetric(p99s[len(p99s)/2], "p99-ratio")
		})
	}
}

func (r *rig) verifyAll(b *testing.B) *verify.Report {
	b.Helper()
	report, err := verify.Run(b.Context(), r.dsn, verify.Config{Window: 24 * time.Hour})
	require.NoError(b, err)
	return report
}

// load appends many events: orders that have five, printers that have thousands,
// some of no stream.
func (r *rig) load(b *testing.B, events int, serial *atomic.Int64) {
	b.Helper()
	g, ctx := errgroup.WithContext(b.Context())
	for range 4 {
		g.Go(func() error {
			for serial.Load() < int64(events) {
				group := make([]event.Draft, 500)
				for i := range group {
					group[i] = benchDraft(serial.Add(1))
				}
				if _, err := r.Append(ctx, nil, group); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
}

func benchDraft(n int64) event.Draft {
	d := draft(fmt.Sprintf("c%d", n%50), fmt.Sprintf("order:%d", n/250*50+n%50))
	switch n % 10 {
	case 3:
		d.Stream = fmt.Sprintf("printer:%d", n%7)
	case 7:
		d.Stream = ""
	}
	d.Rooms = d.Rooms[:1]
	d.Data = []byte(`{"orderId":"1042","branchId":"b7","currency":"EUR","total":4250,"channel":"web","customer":{"name":"Ada"},` +
		`"lines":[{"sku":"margherita","quantity":2,"unitPrice":1050},{"sku":"tiramisu","quantity":1,"unitPrice":650}]}`)
	return d
}

type figures struct {
	rate float64 // events a second
	p99  time.Duration
}

// appends has single events appended by eight writers, each at most one in each pace,
// while something else goes on, for five seconds.
func (r *rig) appends(b *testing.B, pace time.Duration, serial *atomic.Int64, meanwhile func(context.Context)) figures {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	const writers = 8
	var stop atomic.Bool
	var g errgroup.Group
	took := make([][]time.Duration, writers)
	begun := time.Now()
	for w := range writers {
		g.Go(func() error {
			for next := time.Now(); !stop.Load(); next = next.Add(pace) {
				<-time.After(time.Until(next))
				sent := time.Now()
				if _, err := r.Append(b.Context(), nil, []event.Draft{benchDraft(serial.Add(1))}); err != nil {
					return err
				}
				took[w] = append(took[w], time.Since(sent))
			}
			return nil
		})
	}
	meanwhile(ctx)
	stop.Store(true)
	require.NoError(b, g.Wait())
	all := slices.Concat(took...)
	slices.Sort(all)
	return figures{rate: float64(len(all)) / time.Since(begun).Seconds(), p99: all[len(all)*99/100]}
}
