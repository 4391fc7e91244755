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

var (
	modelTenants    = []string{"c1", "c2"}
	modelNamespaces = []string{"/orders", "/printing-ws"}
	modelRooms      = []string{"branch:b1", "branch:b2", "branch:b3", "company:c1"}
)

func pick[T any](random *rand.Rand, list []T) T { return list[random.IntN(len(list))] }

func randomTopics(random *rand.Rand) []event.Topic {
	topics := make([]event.Topic, random.IntN(5)) // none at all is fine
	for i := range topics {
		topics[i] = event.Topic{Tenant: pick(random, modelTenants), Namespace: pick(random, modelNamespaces)}
		switch random.IntN(6) {
		case 0: // the whole tenant
		case 1: // every tenant, which comes alone
			return []event.Topic{{Namespace: topics[i].Namespace}}
		default:
			topics[i].Room = pick(random, modelRooms)
		}
	}
	return topics
}

func appendRandom(random *rand.Rand, l *memoryLog) {
	rooms := slices.Clone(modelRooms)
	random.Shuffle(len(rooms), func(i, j int) { rooms[i], rooms[j] = rooms[j], rooms[i] })
	hole := int64(0)
	if random.IntN(10) == 0 {
		hole = random.Int64N(50)
	}
	size := random.IntN(300)
	if random.IntN(40) == 0 {
		size = 70_000 // more than a batch, more than the window
	}
	l.append(pick(random, modelTenants), pick(random, modelNamespaces), hole, size, rooms[:1+random.IntN(3)]...)
}

// model is a reader and what it must see.
type model struct {
	*Reader
	topics []event.Topic
	cursor event.Cursor
	from   int64 // it began behind this position
	got    []*event.Entry
}

// read reads once and compares the batch with the log, filtered: it holds all
// that matches between the old cursor and the new one, and nothing else.
func (m *model) read(t *testing.T, l *memoryLog) event.Batch {
	t.Helper()
	b, err := m.Read(t.Context(), m.cursor)
	require.NoError(t, err)
	require.GreaterOrEqual(t, b.Next.Position, m.cursor.Position)
	if !b.Live {
		require.Greater(t, b.Next.Position, m.cursor.Position, "a read that is not live moves the cursor")
	}
	want := slices.DeleteFunc(l.all(), func(e *event.Entry) bool {
		return e.Cursor.Position <= m.cursor.Position || e.Cursor.Position > b.Next.Position || !follows(m.topics, e)
	})
	requireSamef(t, want, b.Entries, "%v after %v", m.topics, m.cursor)
	m.cursor = b.Next
	m.got = append(m.got, b.Entries...)
	return b
}

// requireSamef compares entries as the very ones that were read from the log:
// a position can be handed out again.
func requireSamef(t *testing.T, want, got []*event.Entry, format string, args ...any) {
	t.Helper()
	if !slices.Equal(want, got) {
		require.Equal(t, cursors(want), cursors(got), append([]any{format}, args...)...)
		require.Fail(t, "not the events that the log has there", append([]any{format}, args...)...)
	}
}

// Random events, and random readers that come, move, follow something else and
// leave. The window is so small that most cursors fall out of it again.
func TestHub_IsTheLogFiltered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 1))
		l := newMemoryLog()
		for range 50 {
			appendRandom(random, l)
		}
		h := newHub(t, l, 40_000)
		run(t, h)
		var readers []*model
		windowReads, coldReads := 0, 0
		for step := range 5000 {
			switch random.IntN(12) {
			case 0, 1, 2, 3:
				for range random.IntN(8) {
					appendRandom(random, l)
				}
				h.Wake(0)
				synctest.Wait()
			case 4:
				if len(readers) < 12 {
					m := &model{topics: randomTopics(random), cursor: at(random.Int64N(h.Tip().Position + 1))}
					m.Reader = h.NewReader(m.topics, make(chan struct{}, 1))
					readers = append(readers, m)
				}
			case 5:
				if len(readers) > 0 {
					m := pick(random, readers)
					m.topics = randomTopics(random)
					m.Follow(m.topics)
				}
			case 6:
				if len(readers) > 6 {
					i := random.IntN(len(readers))
					readers[i].Close()
					readers = slices.Delete(readers, i, i+1)
				}
			default:
				if len(readers) > 0 {
					before := l.count(&l.pages)
					b := pick(random, readers).read(t, l)
					switch {
					case l.count(&l.pages) > before:
						coldReads++
					case len(b.Entries) > 0:
						windowReads++
					}
				}
			}
			if step%20 == 0 {
				requireWindow(t, h, l)
			}
		}
		require.Greater(t, windowReads, 300)
		require.Greater(t, coldReads, 300)
		for _, m := range readers { // and to the end
			for live := false; !live; {
				live = m.read(t, l).Live
			}
			require.Equal(t, h.Tip(), m.cursor)
			m.Close()
		}
		requireWindow(t, h, l)
		require.Empty(t, h.readers)
	})
}

// requireWindow checks that the window and its index are the end of the log.
func requireWindow(t *testing.T, h *Hub, l *memoryLog) {
	t.Helper()
	h.mu.RLock()
	defer h.mu.RUnlock()
	all := l.all()
	all = all[:slices.IndexFunc(all, func(e *event.Entry) bool { return e.Cursor.Position == h.tip.Position })+1]
	held := h.window.list[h.window.head:]
	requireSamef(t, all[len(all)-len(held):], held, "the window")
	require.True(t, h.bytes <= h.limit || len(held) == 1, "%d bytes in %d entries", h.bytes, len(held))
	bytes := 0
	index := map[event.Topic][]*event.Entry{}
	for _, e := range held {
		require.Greater(t, e.Cursor.Position, h.floor)
		bytes += e.Size()
		for _, topic := range e.Topics(nil) {
			index[topic] = append(index[topic], e)
		}
	}
	require.Equal(t, bytes, h.bytes)
	if below := len(all) - len(held); below > 0 {
		require.GreaterOrEqual(t, h.floor, all[below-1].Cursor.Position, "what is below the window is below its floor")
	}
	for key, topic := range h.topics {
		require.Equal(t, positions(index[key]), positions(topic.entries.list[topic.entries.head:]), key)
		require.True(t, len(index[key]) > 0 || len(topic.readers) > 0, "a topic of nothing and nobody is forgotten")
		delete(index, key)
	}
	require.Empty(t, index, "every topic of the window is in the index")
}

// Readers that follow the log at their own pace while it grows: each gets what
// a filter over the whole log gives, in order, each event once.
func TestHub_ReadersAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const events, readers = 3000, 20
		random := rand.New(rand.NewPCG(2, 2))
		l := newMemoryLog()
		for range 500 {
			appendRandom(random, l)
		}
		h := newHub(t, l, 30_000)
		run(t, h)
		last := room("branch:last")
		type result struct {
			topics []event.Topic
			start  event.Cursor
			got    []*event.Entry
			err    error
		}
		results := make(chan result)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for n := range readers {
			topics, start := append(randomTopics(random), last), at(random.Int64N(500))
			own := rand.New(rand.NewPCG(uint64(n), 3))
			go func() {
				wake := make(chan struct{}, 1)
				r := h.NewReader(topics, wake)
				defer r.Close()
				res := result{topics: topics, start: start}
				for cursor := start; ; {
					b, err := r.Read(ctx, cursor)
					if err != nil {
						res.err = err
						break
					}
					res.got = append(res.got, b.Entries...)
					cursor = b.Next
					if n := len(res.got); n > 0 && slices.Contains(res.got[n-1].Rooms, last.Room) {
						break
					}
					if b.Live {
						<-wake
					}
					if own.IntN(3) == 0 {
						<-time.After(time.Duration(own.IntN(30)) * time.Millisecond) // a slow one
					}
				}
				results <- res
			}()
		}
		for range events {
			appendRandom(random, l)
			if random.IntN(5) == 0 {
				h.Wake(l.Tip())
				<-time.After(time.Millisecond)
			}
		}
		l.append("c1", "/orders", 0, 1, last.Room)
		h.Wake(l.Tip())
		for range readers {
			res := <-results
			require.NoError(t, res.err)
			want := slices.DeleteFunc(l.all(), func(e *event.Entry) bool {
				return e.Cursor.Position <= res.start.Position || !follows(res.topics, e)
			})
			require.Equal(t, positions(want), positions(res.got))
		}
	})
}

// Tip is the log's last position, as a hint would say it.
func (l *memoryLog) Tip() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.tip.Position
}
