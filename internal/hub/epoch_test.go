package hub

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
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
					switch n := random.IntN(25) * (1 + random.IntN(4)); random.IntN(3) {
					case 0:
						l.lose(n)
					case 1:
						l.loseUnknowingly(n)
					case 2:
						l.loseLife(random.IntN(10))
					}
					for range random.IntN(2) * random.IntN(60) { // maybe, before anybody looks
						appendRandom(random, l)
					}
					h.Wake(0) // the line broke as well
					synctest.Wait()
					requireWindow(t, h, l)
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
					m := &model{topics: randomTopics(random), cursor: start, from: start.Position}
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
			m.requireWhole(t, l)
			m.Close()
		}
	})
}

// requireWhole checks that what the reader has in the end is the log, filtered.
func (m *model) requireWhole(t *testing.T, l *memoryLog) {
	t.Helper()
	want := slices.DeleteFunc(l.all(), func(e *event.Entry) bool { return e.Cursor.Position <= m.from || !follows(m.topics, e) })
	require.Equal(t, positions(want), positions(m.got))
	for i, e := range want {
		require.Equal(t, e.ID, m.got[i].ID)
	}
}

// readOn reads once. A cursor that the log does not hold must be reset, any
// other must be served. Who is reset gives up what he has beyond.
func (m *model) readOn(t *testing.T, l *memoryLog) (reset bool) {
	t.Helper()
	resume, holds := l.holds(m.cursor)
	if holds {
		m.read(t, l)
		return false
	}
	_, err := m.Read(t.Context(), m.cursor)
	var told *event.Reset
	require.ErrorAs(t, err, &told)
	require.Equal(t, event.Diverged, told.Reason)
	require.Equal(t, resume, told.Resume)
	m.cursor, m.from = told.Resume, min(m.from, told.Resume.Position)
	m.got = slices.DeleteFunc(m.got, func(e *event.Entry) bool { return e.Cursor.Position > m.cursor.Position })
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
		require.Equal(t, event.Cursor{Epoch: 2, Position: 3}, h.Tip())
		requireWindow(t, h, l)
	})
}

// A volume is put back, and nothing tells that it is another one than before.
// Its positions are handed out again in the same epoch, by somebody who does not
// know. The hub finds its events gone, and begins the epoch that tells.
func TestHub_LogLosesItsEndUnknowingly(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]int{"nothing since": 0, "fewer than were lost": 2, "as many": 7, "more": 30} {
		for name2, limit := range map[string]int{"a large window": large, "a window that is too small": 3000} {
			synctest.Test(t, func(t *testing.T) {
				l := newMemoryLog()
				l.some(20, "branch:b1")
				h, other := newHub(t, l, limit), newHub(t, l, large)
				run(t, h)
				run(t, other)
				synctest.Wait()
				what := name + ", " + name2
				ahead, wake := open(t, h, room("branch:b1"))
				level, _ := open(t, h, room("branch:b1"))
				elsewhere, _ := open(t, other, room("branch:b1"))
				l.loseUnknowingly(7)
				l.some(fresh, "branch:b1")
				h.Wake(0)
				other.Wake(0)
				synctest.Wait()
				require.Equal(t, event.Cursor{Epoch: 2, Position: 13 + int64(fresh)}, h.Tip(), what)
				require.Equal(t, []int64{0, 13}, []int64{l.epochs[0].Survived, l.epochs[1].Survived}, what)
				require.Len(t, l.epochs, 2, "two hubs notice, and one opens it")
				requireWindow(t, h, l)
				requireWindow(t, other, l)

				require.True(t, woken(wake), what)
				for _, r := range []*Reader{ahead, elsewhere} {
					_, err := r.Read(t.Context(), at(20))
					var told *event.Reset
					require.ErrorAs(t, err, &told, what)
					require.Equal(t, at(13), told.Resume, what)
				}
				b, err := level.Read(t.Context(), at(13))
				require.NoError(t, err)
				require.Len(t, b.Entries, fresh, what)
				for _, e := range b.Entries {
					require.Equal(t, int64(2), e.Cursor.Epoch, what)
				}
			})
		}
	}
}

// A reader at a place of an epoch that was lost together with its row is told,
// and so is one at a place that another life of the same number has as well.
func TestHub_ALifeIsLost(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"the number is free": false, "the number is used again": true} {
		synctest.Test(t, func(t *testing.T) {
			l := newMemoryLog()
			l.some(10, "branch:b1")
			h := newHub(t, l, large)
			run(t, h)
			l.failOver()
			l.some(5, "branch:b1") // 2-11 to 2-15
			h.Wake(15)
			synctest.Wait()
			require.Equal(t, event.Cursor{Epoch: 2, Position: 15}, h.Tip())
			r, _ := open(t, h, room("branch:b1"))

			l.loseLife(2) // 9 and 10 as well
			if again {
				l.some(6, "branch:b1") // 2-9 to 2-14
			}
			h.Wake(0)
			synctest.Wait()
			require.Greater(t, l.epochs.Newest(), int64(2), name)
			for _, lost := range []event.Cursor{{Epoch: 2, Position: 15}, {Epoch: 2, Position: 12}, {Epoch: 1, Position: 9}} {
				_, err := r.Read(t.Context(), lost)
				var told *event.Reset
				require.ErrorAs(t, err, &told, "%s: %v", name, lost)
				require.Equal(t, int64(8), told.Resume.Position, "%s: %v", name, lost)
			}
			_, err := r.Read(t.Context(), at(8))
			require.NoError(t, err)
		})
	}
}

// The hub has read no event of the life that was lost: only its list of lives
// tells that the number is used again.
func TestHub_ALifeIsLostOfWhichNothingWasRead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		l.failOver()
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, event.Cursor{Epoch: 2, Position: 10}, h.Tip())
		r, _ := open(t, h, room("branch:b1"))
		l.loseLife(0)          // another hub has read 2-11 to 2-15 of it
		l.some(8, "branch:b1") // 2-11 to 2-18 again
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, event.Cursor{Epoch: 3, Position: 18}, h.Tip())
		_, err := r.Read(t.Context(), event.Cursor{Epoch: 2, Position: 15})
		var told *event.Reset
		require.ErrorAs(t, err, &told)
		require.Equal(t, at(10), told.Resume)
	})
}

// A hub on a log of which retention has left nothing has no event to compare.
func TestHub_LogLosesItsEndBelowAnEmptyWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		epochs   event.Epochs // of what is put back
		tip      int64
		survived int64
	}{
		"shorter":                            {event.Epochs{{Number: 1}, {Number: 2, Survived: 60}}, 65, 65},
		"another life, which began deeper":   {event.Epochs{{Number: 1}, {Number: 3, Survived: 50}}, 90, 50},
		"another life, which began later":    {event.Epochs{{Number: 1}, {Number: 3, Survived: 65}}, 90, 60},
		"the life before, which is not over": {event.Epochs{{Number: 1}}, 90, 60},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newMemoryLog()
			l.tip, l.floor = event.Cursor{Epoch: 2, Position: 70}, 70
			l.epochs = event.Epochs{{Number: 1}, {Number: 2, Survived: 60}}
			h := newHub(t, l, large)
			run(t, h)
			synctest.Wait()
			l.epochs, l.floor = test.epochs, 0
			l.tip = event.Cursor{Epoch: l.epochs.Newest(), Position: test.tip}
			h.Wake(0)
			synctest.Wait()
			require.Equal(t, test.survived, l.epochs.Limit(2), name)
		})
	}
}

// A reader of the past gets no page of a log that the hub has not looked at: it
// would be of another past than his, or behind him.
func TestHub_ColdPageOfAnotherLife(t *testing.T) {
	t.Parallel()
	for name, fresh := range map[string]int{"shorter than he has come": 0, "beyond what he has": 12} {
		synctest.Test(t, func(t *testing.T) {
			l := newMemoryLog()
			l.some(300, "branch:b1")
			h := newHub(t, l, 1) // the newest event alone
			run(t, h)
			synctest.Wait()
			r, _ := open(t, h, room("branch:b1"))
			b, err := r.Read(t.Context(), at(0))
			require.NoError(t, err)
			require.Equal(t, at(200), b.Next)
			l.lose(110) // 190 are left
			l.some(fresh, "branch:b1")
			_, err = r.Read(t.Context(), b.Next)
			require.ErrorIs(t, err, errForeign, name)
			synctest.Wait()
			_, err = r.Read(t.Context(), b.Next)
			var told *event.Reset
			require.ErrorAs(t, err, &told, name)
			require.Equal(t, at(190), told.Resume, name)
			b, err = r.Read(t.Context(), told.Resume)
			require.NoError(t, err, name)
			require.Len(t, b.Entries, fresh, name)
		})
	}
}

// On an empty log there is no epoch yet, and nothing foreign about that.
func TestHub_ColdPageBeforeTheFirstEpoch(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.epochs, l.floor, l.tip = nil, 50, at(50)
	h := newHub(t, l, large)
	r, _ := open(t, h, room("branch:b1"))
	_, err := r.Read(t.Context(), at(3))
	var told *event.Reset
	require.ErrorAs(t, err, &told)
	require.Equal(t, event.Expired, told.Reason)
}

// Readers are told of what was lost even before the hub can read on.
func TestHub_TellsBeforeItReadsOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		r, wake := open(t, h, room("branch:b1"))
		l.loseUnknowingly(4)
		l.some(2, "branch:b1")
		l.mu.Lock()
		l.failures = 2 // of the tail
		l.mu.Unlock()
		h.Wake(0)
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		require.True(t, woken(wake))
		_, err := r.Read(t.Context(), at(10))
		var told *event.Reset
		require.ErrorAs(t, err, &told)
		require.Equal(t, at(6), told.Resume)
	})
}

// Somebody else opens an epoch just when the hub is about to.
func TestHub_SomebodyIsFaster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		rival := &rivalLog{memoryLog: l}
		h := newHubOn(t, rival, large)
		run(t, h)
		synctest.Wait()
		l.loseUnknowingly(4)
		rival.times = 3
		h.Wake(0)
		synctest.Wait()
		require.Empty(t, h.Degraded())
		require.Zero(t, rival.times)
		require.Equal(t, event.Cursor{Epoch: 4, Position: 6}, h.Tip(), "the rivals' epochs told of it")
	})
}

// rivalLog opens an epoch before it lets somebody else.
type rivalLog struct {
	*memoryLog
	times int
}

func (r *rivalLog) Forsake(ctx context.Context, loss event.Loss) (bool, error) {
	for ; r.times > 0; r.times-- {
		r.failOver()
	}
	return r.memoryLog.Forsake(ctx, loss)
}

// A standby that is not promoted yet is behind as well, and takes no epoch. The
// window stays until somebody does.
func TestHub_TheLogIsAStandby(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		standby := &standbyLog{memoryLog: l}
		standby.reading.Store(true)
		h := newHubOn(t, standby, large)
		run(t, h)
		synctest.Wait()
		l.loseUnknowingly(4)
		h.Wake(0)
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		require.Equal(t, at(10), h.Tip())
		standby.reading.Store(false)
		<-time.After(retryPause)
		synctest.Wait()
		require.Empty(t, h.Degraded())
		require.Equal(t, event.Cursor{Epoch: 2, Position: 6}, h.Tip())
	})
}

// standbyLog can be read only.
type standbyLog struct {
	*memoryLog
	reading atomic.Bool
}

func (s *standbyLog) Forsake(ctx context.Context, loss event.Loss) (bool, error) {
	if s.reading.Load() {
		return false, errAway
	}
	return s.memoryLog.Forsake(ctx, loss)
}

// In silence the hub looks closely at what it polls: behind a pooler no line
// breaks that it could notice.
func TestHub_LooksCloselyInSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(10, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.loseUnknowingly(4)
		<-time.After(time.Minute)
		synctest.Wait()
		require.Equal(t, event.Cursor{Epoch: 2, Position: 6}, h.Tip())
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
