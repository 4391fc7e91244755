package hub

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// Random events, and now and then the log loses its end. Readers that are
// beyond what survived are told where to go on; from there on, and for all
// others, nothing is left out, repeated, or of the past that was lost.
func TestHub_LogLosesItsEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(7, 7))
		l := newMemoryLog()
		for range 50 {
			appendRandom(random, l)
		}
		h := newHub(t, l, 40_000)
		run(t, h)
		synctest.Wait()
		var readers []*model
		resets := 0
		for range 4000 {
			switch random.IntN(12) {
			case 0, 1, 2:
				for range random.IntN(6) {
					appendRandom(random, l)
				}
				h.Wake(l.Tip())
				synctest.Wait()
			case 3:
				if random.IntN(8) == 0 {
					l.lose(random.IntN(25))
					for range random.IntN(2) * random.IntN(30) { // maybe, before anybody looks
						appendRandom(random, l)
					}
					h.Wake(0) // the line broke as well
					synctest.Wait()
				}
			case 4:
				if len(readers) < 12 {
					start, reset, err := h.Locate(t.Context(), event.Start{
						Origin: event.At, Cursor: event.Cursor{Epoch: h.Tip().Epoch, Position: random.Int64N(h.Tip().Position + 5)},
					})
					require.NoError(t, err)
					if reset != nil {
						require.Equal(t, start, reset.Resume)
					}
					m := &model{topics: randomTopics(random), cursor: start}
					m.Reader = h.NewReader(m.topics, make(chan struct{}, 1))
					readers = append(readers, m)
				}
			case 5:
				if len(readers) > 6 {
					i := random.IntN(len(readers))
					readers[i].Close()
					readers = slices.Delete(readers, i, i+1)
				}
			default:
				if len(readers) > 0 && pick(random, readers).readOn(t, l) {
					resets++
				}
			}
		}
		require.Greater(t, resets, 20)
		appendRandom(random, l)
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, l.tip, h.Tip())
		requireWindow(t, h, l)
		for _, m := range readers {
			for reads := 0; m.cursor != l.tip; reads++ {
				require.Less(t, reads, 10_000, "at %v, the tip is %v", m.cursor, l.tip)
				m.readOn(t, l)
			}
			m.Close()
		}
	})
}

// readOn reads once. A cursor that the log does not hold must be reset, any
// other must be served.
func (m *model) readOn(t *testing.T, l *memoryLog) (reset bool) {
	t.Helper()
	resume, holds := l.holds(m.cursor)
	if holds || m.cursor.Epoch == l.tip.Epoch { // that a log without a successor is shorter, only the next epoch shows
		m.read(t, l)
		return false
	}
	_, err := m.Read(t.Context(), m.cursor)
	var told *event.Reset
	require.ErrorAs(t, err, &told)
	require.Equal(t, event.Diverged, told.Reason)
	require.Equal(t, resume, told.Resume)
	m.cursor = told.Resume
	return true
}

// Nothing breaks, and the log that lost its end grows beyond where it was: the
// first event of the new epoch that the hub comes to see makes it look back.
func TestHub_LogLosesItsEndUnnoticed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		ahead, wake := open(t, h, room("branch:b1"))
		l.lose(7)
		l.some(8, "branch:b1") // 4 to 11 again, and more
		h.Wake(11)
		synctest.Wait()
		require.True(t, woken(wake))
		_, err := ahead.Read(t.Context(), at(10))
		var reset *event.Reset
		require.ErrorAs(t, err, &reset)
		require.Equal(t, at(3), reset.Resume)
		b, err := ahead.Read(t.Context(), reset.Resume)
		require.NoError(t, err)
		require.Equal(t, "4 5 6 7 8 9 10 11", positions(b.Entries))
		for _, e := range b.Entries {
			require.Equal(t, int64(2), e.Cursor.Epoch)
		}
	})
}

// A log that comes back shorter than it went away is looked at closely.
func TestHub_LogLosesItsEndWhileAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.fail(errAway)
		h.Wake(11)
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		l.lose(7)
		l.fail(nil)
		<-time.After(retryPause)
		synctest.Wait()
		require.Empty(t, h.Degraded())
		require.Equal(t, at(3), h.Tip())
		requireWindow(t, h, l)
	})
}

// An epoch that begins without an event moves the tip into it.
func TestHub_EpochWithoutEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.failOver()
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, event.Cursor{Epoch: 2, Position: 10}, h.Tip())
		r, _ := open(t, h, room("branch:b1"))
		for _, cursor := range []event.Cursor{at(10), h.Tip()} {
			b, err := r.Read(t.Context(), cursor)
			require.NoError(t, err)
			require.Empty(t, b.Entries)
			require.True(t, b.Live)
		}
	})
}

// A reader who was located in an epoch that the hub has not come to yet is not
// served from the past that the hub still believes in, and makes it look.
func TestHub_ReaderOfALaterEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.lose(7)
		l.some(2, "branch:b1") // 4 and 5 again
		start, reset, err := h.Locate(context.Background(), event.Start{})
		require.NoError(t, err)
		require.Nil(t, reset)
		require.Equal(t, event.Cursor{Epoch: 2, Position: 5}, start)
		late, wake := open(t, h, room("branch:b1"))
		b, err := late.Read(t.Context(), start)
		require.NoError(t, err)
		require.Equal(t, event.Batch{Next: start, Live: true}, b)
		synctest.Wait()
		require.Equal(t, start, h.Tip())
		woken(wake)
		l.some(1, "branch:b1")
		h.Wake(6)
		synctest.Wait()
		require.True(t, woken(wake))
		b, err = late.Read(t.Context(), start)
		require.NoError(t, err)
		require.Equal(t, "6", positions(b.Entries))
	})
}

// The epochs and the tip are read one after the other, and an epoch may be
// opened in between: what survived must not be taken from the new one.
func TestHub_EpochOpensWhileTheHubLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		between := &betweenReads{memoryLog: l}
		h := newHubOn(t, between, large)
		run(t, h)
		synctest.Wait()
		r, _ := open(t, h, room("branch:b1"))
		l.lose(7)
		between.do = func() { l.some(2, "branch:b1") } // 4 and 5 again
		h.Wake(0)
		synctest.Wait()
		require.Nil(t, between.do, "it was in between")
		_, err := r.Read(t.Context(), at(10))
		var reset *event.Reset
		require.ErrorAs(t, err, &reset)
		require.Equal(t, at(3), reset.Resume)
		b, err := r.Read(t.Context(), reset.Resume)
		require.NoError(t, err)
		require.Equal(t, "4 5", positions(b.Entries))
		require.Equal(t, int64(2), b.Entries[0].Cursor.Epoch)
	})
}

// betweenReads does something between the two reads of the log's bounds and
// epochs, in whatever order they come.
type betweenReads struct {
	*memoryLog
	do   func()
	seen int
}

func (b *betweenReads) between() {
	if b.seen++; b.do != nil && b.seen%2 == 1 {
		b.do()
		b.do = nil
	}
}

func (b *betweenReads) Bounds(ctx context.Context) (event.Bounds, error) {
	bounds, err := b.memoryLog.Bounds(ctx)
	b.between()
	return bounds, err
}

func (b *betweenReads) Epochs(ctx context.Context) (event.Epochs, error) {
	epochs, err := b.memoryLog.Epochs(ctx)
	b.between()
	return epochs, err
}
