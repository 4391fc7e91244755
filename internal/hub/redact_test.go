package hub

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

// redact replaces the data of an event, and tells of it, as tailroom.redact does.
// What was read before stays as it was.
func (l *memoryLog) redact(e *event.Entry, data string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := e.Event
	left.Data = []byte(data)
	l.entries = slices.Clone(l.entries)
	for i := range l.entries {
		if l.entries[i].Cursor == e.Cursor {
			l.entries[i] = event.NewEntry(left)
		}
	}
	l.tip.Position++
	l.entries = append(l.entries, event.NewEntry(event.Event{
		Cursor: l.tip, ID: uuid.New(), Tenant: e.Tenant, Namespace: "/system", Type: "eventRedacted", Rooms: []string{"company:" + e.Tenant},
		CausationID: uuid.NullUUID{UUID: e.ID, Valid: true}, Data: fmt.Appendf(nil, `{"position":%d}`, e.Cursor.Position),
	}))
}

// requireWhole checks that the window's accounts are right, and that it and its
// topics hold the same entries.
func requireWhole(t *testing.T, h *Hub) {
	t.Helper()
	bytes := 0
	topics := map[event.Topic][]*event.Entry{}
	for _, e := range h.window.all() {
		bytes += e.Size()
		for _, key := range e.Topics(nil) {
			topics[key] = append(topics[key], e)
		}
	}
	require.Equal(t, bytes, h.bytes)
	for key, list := range topics {
		require.True(t, slices.Equal(list, h.topics[key].entries.all()), "%v", key)
	}
}

func TestRedact_WindowForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(5, "branch:b1")
		secret := l.append("c1", "/orders", 0, 500, "branch:b1", "branch:b2", "branch:b1") // one room twice
		l.some(40, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		old := string(secret.Deflated(func(e *event.Entry) []byte { return e.JSON() }))
		require.Contains(t, old, "xxxxx")

		l.redact(secret, `{"erased":true}`)
		h.Wake(l.Tip())
		synctest.Wait()
		for _, topic := range []event.Topic{room("branch:b1"), room("branch:b2"), room(""), {Namespace: "/orders"}} {
			r, _ := open(t, h, topic)
			b, err := r.Read(t.Context(), at(5))
			require.NoError(t, err)
			e := b.Entries[0]
			require.Equal(t, secret.Cursor, e.Cursor)
			require.JSONEq(t, `{"erased":true}`, string(e.Data))
			require.NotContains(t, string(e.JSON()), "xxxxx")
			require.NotContains(t, string(e.Deflated(func(e *event.Entry) []byte { return e.JSON() })), "xxxxx")
		}
		require.Zero(t, l.count(&l.pages), "it is served from the window")
		requireWhole(t, h)

		l.redact(secret, `{}`) // again
		h.Wake(l.Tip())
		synctest.Wait()
		require.Equal(t, "{}", string(h.window.at(6).Data))
		require.Equal(t, at(l.Tip()), h.Tip())
		requireWhole(t, h)
	})
}

// What is erased below the window is read from the log anyway; an event and the
// one that erases it may also come at once.
func TestRedact_OutsideTheWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		old := l.append("c1", "/orders", 0, 500, "branch:b1")
		l.some(20, "branch:b1")
		h := newHub(t, l, 3000)
		run(t, h)
		synctest.Wait()
		require.Greater(t, h.floor, int64(1))
		l.redact(old, `{"erased":1}`)
		l.redact(l.append("c1", "/orders", 0, 500, "branch:b1"), `{"erased":2}`)
		h.Wake(l.Tip())
		synctest.Wait()
		requireWhole(t, h)
		r, _ := open(t, h, room("branch:b1"))
		var got []string
		for cursor := at(0); cursor != at(l.Tip()); {
			b, err := r.Read(t.Context(), cursor)
			require.NoError(t, err)
			for _, e := range b.Entries {
				got = append(got, string(e.Data))
			}
			cursor = b.Next
		}
		require.JSONEq(t, `{"erased":1}`, got[0])
		require.JSONEq(t, `{"erased":2}`, got[21])
		require.Len(t, got, 22)
	})
}

// A replacement that is larger takes room from the oldest.
func TestRedact_LargerReplacement(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(20, "branch:b1")
		h := newHub(t, l, 30_000)
		run(t, h)
		synctest.Wait()
		require.Zero(t, h.floor)
		l.redact(l.all()[15], `{"a":"`+strings.Repeat("x", 25_000)+`"}`)
		h.Wake(l.Tip())
		synctest.Wait()
		require.Positive(t, h.floor)
		require.LessOrEqual(t, h.bytes, 30_000)
		requireWhole(t, h)
	})
}

// An instance that was away hears of it when it is back. It has not heard before
// it has forgotten: as long as that fails it stays where it was.
func TestRedact_WhileAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(5, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		l.fail(errAway)
		l.redact(l.all()[2], "{}")
		h.Wake(l.Tip())
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		require.NotEqual(t, "{}", string(h.window.at(3).Data), "it cannot know")
		l.fail(nil)
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, "{}", string(h.window.at(3).Data))
		requireWhole(t, h)
	})
}

func TestRedact_RereadFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &oneByOne{memoryLog: newMemoryLog()}
		l.some(5, "branch:b1")
		h := newHubOn(t, l, large)
		run(t, h)
		synctest.Wait()
		l.set(errAway)
		l.redact(l.all()[2], "{}")
		l.some(1, "branch:b1")
		h.Wake(l.Tip())
		synctest.Wait()
		require.NotEmpty(t, h.Degraded())
		require.Equal(t, at(5), h.Tip())
		l.set(nil)
		h.Wake(0)
		synctest.Wait()
		require.Equal(t, at(7), h.Tip())
		require.Equal(t, "{}", string(h.window.at(3).Data))
		requireWhole(t, h)
	})
}

// oneByOne is a log that may fail to give a single event.
type oneByOne struct {
	*memoryLog
	failure error
}

func (l *oneByOne) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = err
}

func (l *oneByOne) Tail(ctx context.Context, after int64, limit int) ([]*event.Entry, error) {
	l.mu.Lock()
	failure := l.failure
	l.mu.Unlock()
	if limit == 1 && failure != nil {
		return nil, failure
	}
	return l.memoryLog.Tail(ctx, after, limit)
}

// Retention has dropped what is left of the event before it is read again.
func TestRedact_Gone(t *testing.T) {
	t.Parallel()
	for name, floor := range map[string]int64{"with others behind it": 3, "with all there was": 6} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := &dropsBetween{memoryLog: newMemoryLog(), floor: floor}
				l.some(5, "branch:b1")
				h := newHubOn(t, l, large)
				run(t, h)
				synctest.Wait()
				l.redact(l.all()[2], `{"left":true}`)
				h.Wake(l.Tip())
				synctest.Wait()
				require.Equal(t, "{}", string(h.window.at(3).Data))
				require.Equal(t, at(6), h.Tip())
				requireWhole(t, h)
			})
		})
	}
}

// dropsBetween drops events when one is read alone, before it looks.
type dropsBetween struct {
	*memoryLog
	floor int64
}

func (l *dropsBetween) Tail(ctx context.Context, after int64, limit int) ([]*event.Entry, error) {
	if limit == 1 {
		l.drop(l.floor)
	}
	return l.memoryLog.Tail(ctx, after, limit)
}

// At the same position in a past that was lost there was another event.
func TestRedact_OfAnotherPast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newMemoryLog()
		l.some(5, "branch:b1")
		h := newHub(t, l, large)
		run(t, h)
		synctest.Wait()
		mine := h.window.at(3)
		other := mine.Event
		other.ID = uuid.New()
		l.redact(event.NewEntry(other), "{}")
		h.Wake(l.Tip())
		synctest.Wait()
		require.Same(t, mine, h.window.at(3))
		require.Equal(t, at(6), h.Tip())
	})
}

// A page that is on its way from before is not for those who ask afterwards.
func TestRedact_ColdPageUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &slowAnswers{memoryLog: newMemoryLog()}
		l.some(1000, "branch:b1")
		h := newHubOn(t, l, 1)
		run(t, h)
		synctest.Wait()
		l.answer = make(chan struct{})
		pages := make(chan event.Batch, 2)
		ask := func() {
			r, _ := open(t, h, room("branch:b1"))
			go func() {
				b, err := r.Read(context.Background(), at(0))
				if err != nil {
					panic(err)
				}
				pages <- b
			}()
			synctest.Wait()
		}
		ask()
		l.redact(l.all()[2], "{}")
		h.Wake(l.Tip())
		synctest.Wait()
		ask()
		require.Equal(t, 2, l.count(&l.pages))
		l.answer <- struct{}{}
		require.NotEqual(t, "{}", string((<-pages).Entries[2].Data), "he asked before")
		l.answer <- struct{}{}
		require.Equal(t, "{}", string((<-pages).Entries[2].Data))
	})
}

// slowAnswers is a log whose pages are held up on their way back, one by one.
type slowAnswers struct {
	*memoryLog
	answer chan struct{}
}

func (l *slowAnswers) Page(ctx context.Context, topics []event.Topic, after int64, limit int) (event.Page, error) {
	page, err := l.memoryLog.Page(ctx, topics, after, limit)
	<-l.answer
	return page, err
}

// Random events, random redactions, and readers anywhere: whatever they get is
// what the log holds by now.
func TestRedact_Model(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(3, 3))
		l := newMemoryLog()
		h := newHub(t, l, 40_000)
		run(t, h)
		inWindow := 0
		for range 2000 {
			for range random.IntN(4) {
				appendRandom(random, l)
			}
			for list := l.all(); len(list) > 0 && random.IntN(3) == 0; {
				e := list[max(0, len(list)-1-random.IntN(60))]
				if h.window.at(e.Cursor.Position) != nil {
					inWindow++
				}
				if e.Namespace != event.System {
					l.redact(e, fmt.Sprintf(`{"left":"%*d"}`, 1+random.IntN(600), 1))
				}
			}
			h.Wake(l.Tip())
			synctest.Wait()
			m := &model{topics: randomTopics(random), cursor: at(max(0, l.Tip()-random.Int64N(150)))}
			m.Reader = h.NewReader(m.topics, make(chan struct{}, 1))
			for !m.read(t, l).Live { //nolint:revive // it compares what it reads
			}
			m.Close()
		}
		requireWhole(t, h)
		require.Greater(t, inWindow, 200)
	})
}
