package hub

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

var errAway = errors.New("the log is away")

const large = 1 << 30 // a window that holds everything

func TestNew_ReadsTheNewestPart(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.some(preload+2500, "branch:b1")
	h := newHub(t, l, large)
	require.Equal(t, at(preload+2500), h.Tip())
	require.Equal(t, int64(2500), h.floor)
	require.Equal(t, preload, h.window.len())
	r, _ := open(t, h, room("branch:b1"))
	_, err := r.Read(t.Context(), at(2500))
	require.NoError(t, err)
	require.Zero(t, l.pages, "a resume inside the window costs no SQL")
	b, err := r.Read(t.Context(), at(2499))
	require.NoError(t, err)
	require.Equal(t, 1, l.pages)
	require.Len(t, b.Entries, coldRows)
}

func TestNew_OfAnEmptyLog(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.tip, l.floor = at(70), 70 // all of it is gone
	h := newHub(t, l, large)
	require.Equal(t, at(70), h.Tip())
	r, _ := open(t, h, room("branch:b1"))
	b, err := r.Read(t.Context(), at(70))
	require.NoError(t, err)
	require.Equal(t, event.Batch{Next: at(70), Live: true}, b)
}

func TestNew_WithoutALog(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.fail(errAway)
	_, err := New(t.Context(), Config{Log: l, System: func(*event.Event) {}, Metrics: NewMetrics(prometheus.NewRegistry())})
	require.ErrorIs(t, err, errAway)
}

func TestRead_Batches(t *testing.T) {
	t.Parallel()
	t.Run("of so many bytes", func(t *testing.T) {
		t.Parallel()
		l := newMemoryLog()
		for range 5 {
			l.append("c1", "/orders", 0, batchBytes/3, "branch:b1")
		}
		l.append("c1", "/orders", 0, 2*batchBytes, "branch:b1")
		l.append("c1", "/orders", 0, 10, "branch:b1")
		r, _ := open(t, newHub(t, l, large), room("branch:b1"))
		var sizes []int
		for cursor := at(0); cursor != at(7); {
			b, err := r.Read(t.Context(), cursor)
			require.NoError(t, err)
			sizes = append(sizes, len(b.Entries))
			cursor = b.Next
		}
		require.Equal(t, []int{2, 2, 1, 1, 1}, sizes, "one that is larger comes alone")
	})
	t.Run("once each, however many topics match", func(t *testing.T) {
		t.Parallel()
		l := newMemoryLog()
		l.append("c1", "/orders", 0, 10, "branch:b1", "branch:b2")
		l.append("c1", "/orders", 0, 10, "branch:b2", "branch:b1")
		r, _ := open(t, newHub(t, l, large), room("branch:b1"), room("branch:b2"), room(""), room("branch:b1"))
		b, err := r.Read(t.Context(), at(0))
		require.NoError(t, err)
		require.Equal(t, "1 2", positions(b.Entries))
	})
	t.Run("of others' events move the cursor", func(t *testing.T) {
		t.Parallel()
		l := newMemoryLog()
		l.some(3, "branch:b1")
		r, _ := open(t, newHub(t, l, large), room("branch:b2"))
		b, err := r.Read(t.Context(), at(1))
		require.NoError(t, err)
		require.Equal(t, event.Batch{Next: at(3), Live: true}, b)
	})
	t.Run("above the hub's tip are empty", func(t *testing.T) {
		t.Parallel()
		l := newMemoryLog()
		h := newHub(t, l, large)
		l.some(3, "branch:b1") // the hub does not know yet
		r, _ := open(t, h, room("branch:b1"))
		b, err := r.Read(t.Context(), at(3))
		require.NoError(t, err)
		require.Equal(t, event.Batch{Next: at(3), Live: true}, b)
	})
}

func TestWake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		_, mine := open(t, h, room("branch:b1"))
		_, company := open(t, h, room(""))
		_, everybody := open(t, h, event.Topic{Namespace: "/orders"})
		_, other := open(t, h, room("branch:b2"), event.Topic{Tenant: "c2", Namespace: "/orders"}, event.Topic{Tenant: "c1", Namespace: "/x"})
		mover, moved := open(t, h, room("branch:b2"))
		closer, closed := open(t, h, room("branch:b1"))
		mover.Follow([]event.Topic{room("branch:b1")})
		closer.Close()
		before := l.count(&l.tails)

		l.some(5, "branch:b1")
		h.Wake(5)
		synctest.Wait()
		for _, wake := range []chan struct{}{mine, company, everybody, moved} {
			require.True(t, woken(wake))
			require.False(t, woken(wake), "several events are one wake")
		}
		require.False(t, woken(other))
		require.False(t, woken(closed))
		require.Equal(t, before+1, l.count(&l.tails), "one read for all")

		h.Wake(5) // a hint of what has been read
		h.Wake(3)
		synctest.Wait()
		require.Equal(t, before+1, l.count(&l.tails))
		h.Wake(0) // "look"
		synctest.Wait()
		require.Equal(t, before+2, l.count(&l.tails))
		require.False(t, woken(mine), "nothing was new")

		mover.Follow(nil)
		l.some(1, "branch:b1")
		h.Wake(6)
		synctest.Wait()
		require.True(t, woken(mine))
		require.False(t, woken(moved))
	})
}

// A signal that is lost costs latency: the log is read after some silence.
func TestPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		_, wake := open(t, h, room("branch:b1"))
		l.some(1, "branch:b1")
		begin := time.Now()
		<-wake
		require.Equal(t, time.Minute, time.Since(begin))
	})
}

// More than one read's worth is read to its end.
func TestCatchUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.some(2*tailRows+1, "branch:b1")
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, at(2*tailRows+1), h.Tip())
	})
}

func TestDegradedAndBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(2, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		r, wake := open(t, h, room("branch:b1"))
		idle, idleWake := open(t, h)
		require.Empty(t, h.Degraded())

		l.fail(errAway)
		h.Wake(0)
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		require.True(t, woken(wake) && woken(idleWake), "everybody is told")
		b, err := r.Read(t.Context(), at(1))
		require.NoError(t, err)
		require.Equal(t, "2", positions(b.Entries), "what is in the window is served")
		require.Equal(t, h.Degraded(), b.Degraded)
		require.True(t, b.Live)
		<-time.After(10 * retryPause)
		require.False(t, woken(wake), "and told once")

		l.some(1, "branch:b1")
		l.fail(nil)
		<-time.After(retryPause)
		synctest.Wait()
		require.Empty(t, h.Degraded())
		require.True(t, woken(wake) && woken(idleWake))
		b, err = r.Read(t.Context(), at(2))
		require.NoError(t, err)
		require.Equal(t, "3", positions(b.Entries))
		require.Empty(t, b.Degraded)
		b, err = idle.Read(t.Context(), at(2))
		require.NoError(t, err)
		require.Equal(t, event.Batch{Next: at(3), Live: true}, b)
	})
}

// A pooled connection may have died in silence. One that fails is not the log
// being away.
func TestOneFailureIsNotSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		_, wake := open(t, h, room("branch:b1"))
		_, idle := open(t, h)
		l.some(1, "branch:b1")
		l.mu.Lock()
		l.failures = 1
		l.mu.Unlock()
		h.Wake(1)
		synctest.Wait()
		require.Zero(t, l.failures)
		require.Equal(t, at(1), h.Tip(), "at once")
		require.True(t, woken(wake))
		require.False(t, woken(idle), "who waits for something else is told nothing")
	})
}

// A page that many want at once is read once, in whatever order they name
// their topics.
func TestCold_IdenticalPagesAreReadOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(1000, "branch:b1")
		h := newHub(t, l, 1) // the newest event alone
		l.gate = make(chan struct{})
		batches := make(chan event.Batch)
		read := func(topics ...event.Topic) {
			r, _ := open(t, h, topics...)
			go func() {
				b, err := r.Read(context.Background(), at(10))
				if err != nil {
					panic(err)
				}
				batches <- b
			}()
		}
		for range 50 {
			read(room("branch:b1"), room("branch:b2"))
			read(room("branch:b2"), room("branch:b1"))
		}
		impatient, _ := open(t, h, room("branch:b2"), room("branch:b1"))
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := impatient.Read(ctx, at(10))
			left <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled, "who leaves does not wait, and takes nobody along")
		close(l.gate)
		for range 100 {
			b := <-batches
			require.Len(t, b.Entries, coldRows)
			require.Equal(t, at(10+coldRows), b.Next)
			require.False(t, b.Live)
		}
		require.Equal(t, 1, l.pages)
	})
}

// Pages that differ are read a few at a time; who waits is served in the end.
func TestCold_Admission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(1000, "branch:b1")
		h := newHub(t, l, 1)
		l.gate = make(chan struct{})
		done := make(chan string)
		for n := range int64(40) {
			r, _ := open(t, h, room("branch:b1"))
			go func() {
				b, err := r.Read(context.Background(), at(n))
				if err != nil || len(b.Entries) == 0 || b.Entries[0].Cursor != at(n+1) {
					panic("a reader got another one's page")
				}
				done <- ""
			}()
		}
		synctest.Wait()
		require.Equal(t, coldShare, l.pages, "more is not for one company")
		r, _ := open(t, h, event.Topic{Tenant: "c2", Namespace: "/orders", Room: "branch:b1"})
		go func() {
			_, err := r.Read(context.Background(), at(0))
			done <- fmt.Sprint(err)
		}()
		synctest.Wait()
		require.Equal(t, coldShare+1, l.pages, "another does not wait behind them")
		close(l.gate)
		for range 41 {
			<-done
		}
		require.Equal(t, 41, l.pages)
		require.LessOrEqual(t, l.most, coldSlots)
	})
}

// Whoever has left does not stand in line any more: a company that comes back with
// another old cursor each time, and leaves, has nothing queued up.
func TestCold_WhoHasLeftDoesNotWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(1000, "branch:b1")
		h := newHub(t, l, 1)
		l.gate = make(chan struct{})
		read := func(ctx context.Context, n int64) chan error {
			r, _ := open(t, h, room("branch:b1"))
			done := make(chan error, 1)
			go func() {
				b, err := r.Read(ctx, at(n))
				if err == nil && (len(b.Entries) == 0 || b.Entries[0].Cursor != at(n+1)) {
					err = errors.New("another one's page")
				}
				done <- err
			}()
			synctest.Wait()
			return done
		}
		for n := range int64(coldShare) { // fill the company's places
			ctx, cancel := context.WithCancel(t.Context())
			done := read(ctx, n)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		require.Equal(t, coldShare, l.pages)
		stays := read(t.Context(), 500)
		for n := int64(400); n < 600; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			done := read(ctx, n)
			cancel()
			require.ErrorIs(t, <-done, context.Canceled)
		}
		returns := read(t.Context(), 599)
		synctest.Wait()
		close(l.gate)
		require.NoError(t, <-stays, "another asker of the page has left")
		require.NoError(t, <-returns)
		synctest.Wait()
		require.Equal(t, coldShare+2, l.pages, "nobody wants the others")
		require.Empty(t, h.cold)
	})
}

// A page is for those who asked before it was read, however long they take to go.
func TestCold_WhoAsksLaterReadsAnew(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.some(100, "branch:b1")
	h := newHub(t, l, 1)
	l.fail(errAway)
	first := h.ask("page", []event.Topic{room("branch:b1")}, at(5))
	<-first.done
	require.ErrorIs(t, first.err, errAway)
	l.fail(nil)
	second := h.ask("page", []event.Topic{room("branch:b1")}, at(5))
	h.unask("page", first)
	<-second.done
	require.NoError(t, second.err)
	require.NotEmpty(t, second.page.Entries)
	h.unask("page", second)
}

func TestCold_Errors(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.some(100, "branch:b1")
	h := newHub(t, l, 1)
	r, _ := open(t, h, room("branch:b1"))
	l.fail(errAway)
	_, err := r.Read(t.Context(), at(5))
	require.ErrorIs(t, err, errAway)
	l.fail(nil)

	l.drop(20)
	_, err = r.Read(t.Context(), at(19))
	var reset *event.Reset
	require.ErrorAs(t, err, &reset)
	require.Equal(t, &event.Reset{Reason: event.Expired, Oldest: at(20), Resume: at(20)}, reset)
	b, err := r.Read(t.Context(), reset.Resume)
	require.NoError(t, err)
	require.Equal(t, int64(21), b.Entries[0].Cursor.Position)
}

func TestLocate(t *testing.T) {
	t.Parallel()
	l := newMemoryLog()
	l.some(10, "branch:b1")
	l.failOver()
	l.some(10, "branch:b1")
	h := newHub(t, l, 1)
	l.some(5, "branch:b1") // the hub has not read these
	l.drop(3)
	epoch := func(e, p int64) event.Cursor { return event.Cursor{Epoch: e, Position: p} }
	cursor := func(e, p int64) event.Start { return event.Start{Origin: event.At, Cursor: epoch(e, p)} }
	oldest := epoch(1, 3)
	for name, test := range map[string]struct {
		start event.Start
		want  event.Cursor
		reset *event.Reset
	}{
		"now":                               {event.Start{}, epoch(2, 25), nil},
		"earliest":                          {event.Start{Origin: event.Earliest}, oldest, nil},
		"in the window":                     {cursor(2, 20), epoch(2, 20), nil},
		"older than the window":             {cursor(2, 12), epoch(2, 12), nil},
		"newer than the hub":                {cursor(2, 25), epoch(2, 25), nil},
		"of an earlier epoch":               {cursor(1, 7), epoch(1, 7), nil},
		"the end of an earlier epoch":       {cursor(1, 10), epoch(1, 10), nil},
		"the oldest there is":               {cursor(1, 3), epoch(1, 3), nil},
		"below the floor":                   {cursor(1, 2), oldest, &event.Reset{Reason: event.Expired, Oldest: oldest, Resume: oldest}},
		"lost with an earlier epoch":        {cursor(1, 12), epoch(1, 10), &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: epoch(1, 10)}},
		"lost, at a place in the window":    {cursor(1, 20), epoch(1, 10), &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: epoch(1, 10)}},
		"above the tip":                     {cursor(2, 26), epoch(2, 25), &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: epoch(2, 25)}},
		"of an epoch that is yet to come":   {cursor(3, 5), epoch(1, 5), &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: epoch(1, 5)}},
		"of such an epoch, below the floor": {cursor(3, 2), oldest, &event.Reset{Reason: event.Diverged, Oldest: oldest, Resume: oldest}},
	} {
		got, reset, err := h.Locate(t.Context(), test.start)
		require.NoError(t, err, name)
		require.Equal(t, test.want, got, name)
		require.Equal(t, test.reset, reset, name)
	}

	before := l.bounds
	_, _, err := h.Locate(t.Context(), cursor(2, 20))
	require.NoError(t, err)
	require.Equal(t, before, l.bounds, "inside the window it costs no SQL")
	l.fail(errAway)
	_, _, err = h.Locate(t.Context(), cursor(2, 20))
	require.NoError(t, err, "and no log")
	for _, start := range []event.Start{{}, {Origin: event.Earliest}, cursor(2, 3)} {
		_, _, err = h.Locate(t.Context(), start)
		require.ErrorIs(t, err, errAway)
	}
}

// "Now" is asked of the log once for all who ask at once, and never answered
// with what was read before the question: it could miss what the asker knows
// to be committed.
func TestLocate_Fresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		h := newHub(t, l, large)
		before := l.bounds
		gate := make(chan struct{})
		l.gate = gate
		answers := make(chan event.Cursor)
		ask := func() {
			c, _, err := h.Locate(context.Background(), event.Start{})
			if err != nil {
				panic(err)
			}
			answers <- c
		}
		go ask()
		synctest.Wait() // under way; when it looks, it will find one event
		l.some(1, "branch:b1")
		for range 20 {
			go ask()
		}
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, _, err := h.Locate(ctx, event.Start{})
			left <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-left, context.Canceled)
		gate <- struct{}{}
		require.Equal(t, at(1), <-answers)
		l.some(1, "branch:b1")
		synctest.Wait()
		require.Equal(t, before+2, l.count(&l.bounds), "the rest share the second query")
		gate <- struct{}{}
		for range 20 {
			require.Equal(t, at(2), <-answers)
		}
		require.Equal(t, before+2, l.count(&l.bounds))
	})
}

// BenchmarkRead is a session that is woken for one event, among a full window.
func BenchmarkRead(b *testing.B) {
	l := newMemoryLog()
	l.some(10_000, "branch:b1")
	r := newHub(b, l, large).NewReader([]event.Topic{room("branch:b1"), room("company:c1")}, make(chan struct{}, 1))
	defer r.Close()
	b.ReportAllocs()
	for b.Loop() {
		batch, err := r.Read(b.Context(), at(9_999))
		if err != nil || len(batch.Entries) != 1 {
			b.Fatal(batch, err)
		}
	}
}
