package session

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

func TestSession_ReadsAndSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.append("branch:b1", "branch:b3", "branch:b2", "company:c1")
		r := run(t, f, from(0))
		require.Equal(t, []string{"events 1,3,4 to 1-4", "live 1-4"}, r.heard())
		f.append("branch:b2")
		require.Equal(t, []string{"events 5 to 1-5"}, r.heard(), "it was live all the time")
		f.append("branch:b3")
		require.Empty(t, r.heard())
		f.append("branch:b1", "branch:b3")
		require.Equal(t, []string{"events 7 to 1-8"}, r.heard())
		require.Nil(t, r.last.Entries, "who is idle holds no events")
		r.cancel()
		require.Equal(t, Gone, <-r.ended)
	})
}

// A replay is the same loop, started further back: batch after batch without
// being woken, and live at the end.
func TestSession_ReplaysInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.batch = 2
		f.append("branch:b1", "branch:b1", "branch:b1", "branch:b1", "branch:b1", "branch:b3")
		r := run(t, f, from(0))
		require.Equal(t, []string{"events 1,2 to 1-2", "events 3,4 to 1-4", "events 5 to 1-6", "live 1-6"}, r.heard())
	})
}

// What is due is done though there is always more to read.
func TestSession_IsAttendedDuringAReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.say = func(after event.Cursor) (event.Batch, error) { // without end
			<-time.After(time.Second)
			after.Position++
			return event.Batch{Next: after}, nil
		}
		r := run(t, f)
		pass(heartbeat + time.Second)
		require.Contains(t, r.heard(), "beat")
		r.Leave(2 * time.Second)
		require.Equal(t, Draining, <-r.ended)
	})
}

func TestSession_Heartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := run(t, newFeed())
		require.Equal(t, []string{"live 1-0"}, r.heard())
		pass(heartbeat/2 - 1)
		require.Empty(t, r.heard())
		pass(heartbeat/2 + 1)
		at := r.heardAt()
		require.Len(t, at, 1)
		first := at["beat"]
		require.True(t, first >= heartbeat/2 && first < heartbeat, "somewhere in the first interval: %s", first)
		for n := range 3 {
			pass(heartbeat)
			require.Equal(t, map[string]time.Duration{"beat": first + time.Duration(n+1)*heartbeat}, r.heardAt())
		}
		r.refuse("beat", fmt.Errorf("pinging: %w", HeartbeatMissed))
		require.Equal(t, HeartbeatMissed, <-r.ended)
	})
}

// The resume point of a quiet branch stays near the head.
func TestSession_Bookmark(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		pass(heartbeat)
		r.heard()
		f.mu.Lock()
		f.tip.Position = 2 // nothing for us, so nobody wakes us
		f.mu.Unlock()
		pass(heartbeat)
		require.Equal(t, []string{"bookmark 1-2", "beat"}, r.heard())
		pass(heartbeat)
		require.Equal(t, []string{"beat"}, r.heard(), "once")
		f.append("branch:b1", "branch:b3")
		pass(heartbeat)
		require.Equal(t, []string{"events 3 to 1-4", "beat"}, r.heard(), "the events said it")
	})
}

func TestSession_TokenExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		expires := time.Now().Add(3*heartbeat + 7*time.Second)
		r := run(t, newFeed(), func(c *Config) { c.Grant.Expires = expires })
		require.Equal(t, TokenExpired, <-r.ended)
		require.Equal(t, expires, time.Now())
		require.Contains(t, r.heard(), "goaway token_expired in 0s at 1-0")
	})
}

func TestSession_TokenIsRenewed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		begin := time.Now()
		r := run(t, f, func(c *Config) { c.Grant.Expires = begin.Add(time.Minute) })
		renewed := branch()
		renewed.Branches = []string{"b3"}
		renewed.Expires = begin.Add(2 * time.Minute)
		r.Do(func() error { r.Renew(renewed); return nil })
		f.append("branch:b1", "branch:b3")
		require.Contains(t, r.heard(), "events 2 to 1-2", "under the new grant's rooms")
		require.Equal(t, renewed, r.Grant())
		pass(90 * time.Second)
		r.still(t)
		renewed.Expires = begin.Add(100 * time.Second) // earlier than before
		r.Do(func() error { r.Renew(renewed); return nil })
		require.Equal(t, TokenExpired, <-r.ended)
		require.Equal(t, renewed.Expires, time.Now())
	})
}

// What a renewed token no longer covers is over at once, also when it was
// subscribed to by name.
func TestSession_RenewalTakesRoomsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		r.Do(func() error {
			return r.Subscribe(t.Context(), []Subscription{{Namespace: "/orders", Rooms: []string{"branch:b1", "branch:b2"}}})
		})
		r.Do(func() error {
			return r.Unsubscribe([]Subscription{{Namespace: "/orders", Rooms: []string{"company:c1"}}})
		})
		narrow := branch()
		narrow.Branches = []string{"b2"}
		r.Do(func() error { r.Renew(narrow); return nil })
		f.append("branch:b1", "branch:b2", "company:c1")
		require.Equal(t, []string{"live 1-0", "events 2 to 1-3"}, r.heard())
	})
}

func TestSession_Leave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		begin := time.Now()
		r.Leave(5 * time.Second)
		require.Equal(t, []string{"live 1-0", "goaway draining in 5s at 1-0"}, r.heard())
		r.Leave(time.Second)
		require.Empty(t, r.heard(), "it has been told")
		f.append("branch:b1")
		require.Equal(t, []string{"events 1 to 1-1"}, r.heard(), "until then it is served")
		require.Equal(t, Draining, <-r.ended)
		require.Equal(t, 5*time.Second, time.Since(begin))
	})
}

// A session that is asked to leave before it runs says goodbye first.
func TestSession_LeaveBeforeRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		s := &sink{start: time.Now()}
		session, err := New(Config{Open: f.open, Sink: s, Grant: branch(), Rules: rules, Heartbeat: heartbeat, Start: f.tip}, nil)
		require.NoError(t, err)
		session.Leave(0)
		require.Equal(t, Draining, session.Run(t.Context()))
		require.Equal(t, []string{"live 1-0", "goaway draining in 0s at 1-0"}, s.heard())
	})
}

// A read that neither waits, nor fails, nor moves the cursor on would go round
// for ever.
func TestSession_ProgressIsChecked(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]func(b *event.Batch){
		"nothing, and not live":       func(*event.Batch) {},
		"events, at the same place":   func(b *event.Batch) { b.Entries = []*event.Entry{{}} },
		"events, live, at the same":   func(b *event.Batch) { b.Entries, b.Live = []*event.Entry{{}}, true },
		"backwards":                   func(b *event.Batch) { b.Next.Position-- },
		"backwards, and live":         func(b *event.Batch) { b.Next.Position--; b.Live = true },
		"backwards, in another epoch": func(b *event.Batch) { b.Next = event.Cursor{Epoch: 2, Position: 1}; b.Live = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				f.tip.Position = 7
				f.say = func(after event.Cursor) (event.Batch, error) {
					b := event.Batch{Next: after}
					next(&b)
					return b, nil
				}
				r := run(t, f)
				require.Equal(t, Internal, <-r.ended)
				require.Empty(t, r.heard())
			})
		})
	}
}

func TestSession_ResetAtTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.append("branch:b1", "branch:b1")
		resume := event.Cursor{Epoch: 1, Position: 1}
		r := run(t, f, from(1), func(c *Config) { c.Reset = &event.Reset{Reason: event.Diverged, Resume: resume} })
		require.Equal(t, []string{"reset diverged to 1-1", "events 2 to 1-2", "live 1-2"}, r.heard())
	})
}

// A session that falls below the floor while it is connected goes on from
// there, and is told that it is live again.
func TestSession_ResetWhileReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		require.Equal(t, []string{"live 1-0"}, r.heard())
		f.append("branch:b1", "branch:b1", "branch:b1")
		require.Equal(t, []string{"events 1,2,3 to 1-3"}, r.heard())
		reset := &event.Reset{Reason: event.Expired, Resume: event.Cursor{Epoch: 1, Position: 5}}
		f.change(func() {
			f.err = fmt.Errorf("reading: %w", reset)
			f.say = func(after event.Cursor) (event.Batch, error) {
				if after.Position >= 5 {
					f.say, f.err = nil, nil
					return event.Batch{Next: after, Live: true}, nil
				}
				return event.Batch{}, f.err
			}
			f.tip.Position = 5
		})
		require.Equal(t, []string{"reset expired to 1-5", "live 1-5"}, r.heard())
		f.append("branch:b1")
		require.Equal(t, []string{"events 6 to 1-6"}, r.heard())
		pass(heartbeat)
		require.Equal(t, []string{"beat"}, r.heard(), "the reset said where the client is")
	})
}

func TestSession_DegradedAndLive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		r.heard()
		f.change(func() { f.degraded = "the log is away" })
		require.Equal(t, []string{"degraded: the log is away"}, r.heard())
		f.change(func() {})
		require.Empty(t, r.heard(), "once")
		f.append("branch:b1") // what is known is served
		require.Equal(t, []string{"events 1 to 1-1"}, r.heard())
		f.change(func() { f.degraded = "" })
		require.Equal(t, []string{"live 1-1"}, r.heard())
		f.change(func() { f.degraded = "again" })
		require.Equal(t, []string{"degraded: again"}, r.heard())
	})
}

// A session that cannot read tries again by itself, and beats meanwhile.
func TestSession_ReadFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.append("branch:b1")
		f.err = errBroken
		r := run(t, f, from(0))
		require.Equal(t, []string{"degraded: the log cannot be read"}, r.heard())
		reads := f.count()
		f.change(func() {})
		synctest.Wait()
		require.Equal(t, reads, f.count(), "a wake does not make it try sooner")
		pass(heartbeat)
		require.Greater(t, f.count(), reads+20)
		require.Less(t, f.count(), reads+81)
		require.Equal(t, []string{"beat"}, r.heard())
		f.mu.Lock()
		f.err = nil
		f.mu.Unlock()
		pass(time.Second)
		require.Equal(t, []string{"events 1 to 1-1", "live 1-1"}, r.heard())
	})
}

func TestSession_EndsWithItsSink(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want Reason
	}{
		"that is slow":      {fmt.Errorf("writing: %w", Slow), Slow},
		"that is closed":    {errBroken, Gone},
		"that is too small": {TooLarge, TooLarge},
	} {
		for _, word := range []string{"events", "live", "bookmark", "reset", "degraded", "goaway", "beat"} {
			t.Run(name+"/"+word, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					f := newFeed()
					f.append("branch:b1")
					r := run(t, f, from(0), func(c *Config) { c.Reset = &event.Reset{} })
					r.refuse(word, test.err)
					f.append("branch:b2")
					synctest.Wait()
					f.change(func() { f.degraded = "away" })
					synctest.Wait()
					f.append("branch:b3") // a bookmark
					pass(heartbeat)
					f.append("branch:b3")
					pass(heartbeat)
					f.change(func() { f.degraded = "" })
					synctest.Wait()
					if word == "reset" {
						f.change(func() { f.err = &event.Reset{} })
						synctest.Wait()
					}
					r.Leave(time.Hour)
					require.Equal(t, test.want, <-r.ended)
				})
			})
		}
	}
}

func TestSession_Do(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		r.heard()
		ran := 0
		r.Do(func() error { ran++; return nil })
		require.Equal(t, 1, ran, "it has run when Do returns")

		done := make(chan struct{})
		for range 20 { // all of them, from anywhere
			go func() {
				r.Do(func() error { ran++; return nil })
				done <- struct{}{}
			}()
		}
		for range 20 {
			<-done
		}
		require.Equal(t, 21, ran)

		r.Do(func() error { return fmt.Errorf("that will do: %w", InvalidMessage) })
		require.Equal(t, InvalidMessage, <-r.ended)
		r.Do(func() error { ran++; return nil })
		require.Equal(t, 21, ran, "an ended session does nothing")
		r.Leave(0)
	})
}

// Whoever asks a session to do something while it ends is not left waiting.
func TestSession_DoWhileItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		block := make(chan struct{})
		r := run(t, f)
		r.heard()
		r.refuse("events", errBroken)
		r.sink.mu.Lock()
		r.block = block
		r.sink.mu.Unlock()
		f.append("branch:b1")
		synctest.Wait() // it writes, and does not come back
		returned := make(chan struct{})
		go func() {
			r.Do(func() error { return nil })
			close(returned)
		}()
		synctest.Wait()
		require.Empty(t, r.ended)
		close(block)
		<-returned
		require.Equal(t, Gone, <-r.ended)
	})
}

func TestSession_Subscribe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		r := run(t, f)
		f.append("branch:b1", "branch:b9")
		require.Equal(t, []string{"live 1-0", "events 1 to 1-2"}, r.heard())
		var errs [3]error
		r.Do(func() error {
			errs[0] = r.Unsubscribe([]Subscription{{Namespace: "/orders", Rooms: []string{"branch_b1"}}})
			errs[1] = r.Subscribe(t.Context(), []Subscription{{Namespace: "/printing-ws"}, {Namespace: "/unknown"}})
			errs[2] = r.Unsubscribe([]Subscription{{Namespace: "/orders"}, {Namespace: "/printing-ws"}})
			return nil
		})
		require.NoError(t, errs[0])
		require.Error(t, errs[1])
		require.Error(t, errs[2])
		require.Equal(t, map[string][]string{"/orders": {"branch:b2", "company:c1"}}, r.Joined(), "a refused change changes nothing")
		f.append("branch:b1", "branch:b2")
		require.Equal(t, []string{"events 4 to 1-4"}, r.heard())
		r.Do(func() error { return r.Subscribe(t.Context(), []Subscription{{Namespace: "/orders"}}) })
		f.append("branch:b1")
		require.Equal(t, []string{"events 5 to 1-5"}, r.heard(), "it takes effect at the present cursor: 3 is past")
	})
}

func TestNew_RefusesWhatMayNotBe(t *testing.T) {
	t.Parallel()
	for _, sub := range []Subscription{
		{Namespace: "/unknown"}, {Namespace: "/orders", Rooms: []string{"branch:b9"}}, {Namespace: "/orders", Rooms: []string{"room"}},
	} {
		_, err := New(Config{Grant: branch(), Rules: rules}, []Subscription{sub})
		require.Error(t, err)
	}
}

// The context ends a session wherever it is.
func TestSession_EndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, err := range map[string]error{"idle": nil, "in trouble": errBroken, "reading": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				f.err = err
				r := run(t, f)
				synctest.Wait()
				begin := time.Now()
				r.cancel()
				require.Equal(t, Gone, <-r.ended)
				require.Zero(t, time.Since(begin))
			})
		})
	}
}

func TestReason_IsAnError(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, fmt.Errorf("wrapped: %w", Slow), Slow)
	require.NotErrorIs(t, Slow, Draining)
}
