package state_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/state"
)

// fill appends events as a busy evening makes them: an order has eight, its
// neighbours come in between, and a driver says every few events where he is.
func (r *rig) fill(b testing.TB, from, n int) event.Cursor {
	b.Helper()
	var last event.Cursor
	batch := make([]event.Draft, 0, 500)
	for i := from; i < from+n; i++ {
		stream, name := fmt.Sprintf("order:%d", i/8/200*200+i%200), "orderStatusUpdate"
		data := fmt.Sprintf(`{"orderId":"%d","branchId":"b%d","status":"step %d","note":"no onions, ring twice","total":%d}`, i, i%50, i/200%8, i)
		if i%10 == 0 {
			stream, data = fmt.Sprintf("driver:%d", i/10%40), fmt.Sprintf(`{"driverId":"d","location":{"latitude":52.5,"longitude":13.%d}}`, i)
		}
		batch = append(batch, draft(fmt.Sprintf("c%d", i%20), stream, name, data, fmt.Sprintf("branch:b%d", i%50)))
		if len(batch) == cap(batch) || i == from+n-1 {
			last = r.append(b, batch...)
			batch = batch[:0]
		}
	}
	return last
}

// BenchmarkCatchUp is how fast a log that is there is folded.
func BenchmarkCatchUp(b *testing.B) {
	const events = 100_000
	r := newRig(b, 5_000_000)
	r.fill(b, 0, events)
	r.exec(b, "VACUUM ANALYZE tailroom.events")
	for b.Loop() {
		done, err := state.Rebuild(b.Context(), r.dsn, closes, func(state.Progress) {})
		require.NoError(b, err)
		require.EqualValues(b, events, done.Events)
	}
	b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkLag is how far the states are behind while 5,000 events come every
// second, from an event's commit on. An iteration is 100 ms of that.
func BenchmarkLag(b *testing.B) {
	const rate, period = 5_000, 100 * time.Millisecond
	r := newRig(b, 5_000_000)
	p := r.project(b)
	r.await(b, r.fill(b, 0, 20_000))
	type commit struct {
		last int64
		at   time.Time
	}
	commits := make(chan commit, 10_000)
	lags := make(chan []time.Duration)
	go func() {
		look := time.NewTicker(2 * time.Millisecond)
		defer look.Stop()
		var list []time.Duration
		for c := range commits {
			for {
				at, err := r.Checkpoint(b.Context())
				if err == nil && at.Position >= c.last {
					break
				}
				<-look.C
			}
			list = append(list, time.Since(c.at))
		}
		lags <- list
	}()
	tick := time.NewTicker(period / 5)
	defer tick.Stop()
	n := 20_000
	for b.Loop() {
		for range 5 {
			<-tick.C
			last := r.fill(b, n, rate/50)
			n += rate / 50
			p.Wake()
			commits <- commit{last.Position, time.Now()}
		}
	}
	close(commits)
	list := <-lags
	slices.Sort(list)
	b.ReportMetric(float64(n-20_000)/b.Elapsed().Seconds(), "events/s")
	for name, share := range map[string]float64{"p50-ms": 0.5, "p99-ms": 0.99, "max-ms": 1} {
		b.ReportMetric(float64(list[int(share*float64(len(list)-1))].Microseconds())/1000, name)
	}
}
