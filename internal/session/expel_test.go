package session

import (
	"context"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
)

// guest is a session in a registry.
type guest struct {
	*Session
	*sink

	feed  *feed
	ended chan Reason
}

// enter runs a session of a grant until the test ends.
func enter(t *testing.T, r *Registry, id string, grant access.Grant) *guest {
	t.Helper()
	g := &guest{feed: newFeed(), sink: &sink{start: time.Now()}, ended: make(chan Reason, 1)}
	var err error
	g.Session, err = New(Config{
		ID: id, Open: g.feed.open, Sink: g.sink, Grant: grant, Rules: rules, Heartbeat: heartbeat, Start: g.feed.tip,
	}, []Subscription{{Namespace: "/orders"}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { g.ended <- r.Run(ctx, g.Session) }()
	t.Cleanup(func() {
		cancel()
		<-g.Session.done
	})
	synctest.Wait()
	return g
}

func of(subject, tokenID string) access.Grant {
	g := branch()
	g.Subject, g.TokenID = subject, tokenID
	return g
}

func (g *guest) stays(t *testing.T) {
	t.Helper()
	synctest.Wait()
	require.Empty(t, g.ended)
}

func TestRegistry_ExpelRevoked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var revoked access.Revocations
		r := NewRegistry(prometheus.NewRegistry())
		r.Revoked = revoked.Cover
		meant, other, renewed := enter(t, r, "1", of("9", "a")), enter(t, r, "2", of("8", "b")), enter(t, r, "3", of("9", "c"))
		renewed.Do(func() error { renewed.Renew(of("9", "d")); return nil })
		list := []access.Revocation{{Tenant: "c1", TokenID: "a"}, {Tenant: "c1", TokenID: "c"}}
		revoked.Add(list...)
		r.ExpelRevoked(list)
		require.Equal(t, TokenRevoked, <-meant.ended)
		require.Equal(t, []string{"live 1-0", "goaway token_revoked in 0s at 1-0"}, meant.heard())
		other.stays(t)
		renewed.stays(t)
	})
}

// Whoever an order cannot mean is not looked at, however many there are.
func TestRegistry_LooksForTheMeantOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(prometheus.NewRegistry())
		asked := map[string]int{} // by subject and token
		r.Revoked = func(g access.Grant) bool { asked[g.Subject+g.TokenID]++; return false }
		nine := enter(t, r, "1", of("9", "a"))
		enter(t, r, "2", of("9", "b"))
		enter(t, r, "3", of("8", "c"))
		enter(t, r, "4", of("7", ""))
		looks := func(list ...access.Revocation) map[string]int {
			clear(asked)
			r.ExpelRevoked(list)
			return asked
		}
		require.Empty(t, looks())
		require.Empty(t, looks(access.Revocation{Subject: "a"}, access.Revocation{TokenID: "9"}))
		require.Equal(t, map[string]int{"9a": 1, "9b": 1}, looks(access.Revocation{Subject: "9"}))
		require.Equal(t, map[string]int{"8c": 1}, looks(access.Revocation{TokenID: "c"}))
		nine.Do(func() error {
			nine.Renew(of("9", "d"))
			r.Recheck(nine.Session)
			return nil
		})
		require.Empty(t, looks(access.Revocation{TokenID: "a"}), "a token that is not in use any more")
		require.Equal(t, map[string]int{"9d": 1}, looks(access.Revocation{TokenID: "d"}))
	})
}

// A session that has ended is in no index, wherever in a chain it was.
func TestRegistry_ForgetsWhoHasLeft(t *testing.T) {
	t.Parallel()
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}} {
		synctest.Test(t, func(t *testing.T) {
			r := NewRegistry(prometheus.NewRegistry())
			var guests []*guest
			for _, id := range []string{"0", "1", "2"} {
				guests = append(guests, enter(t, r, id, of("9", "a")))
			}
			left := []string{"0", "1", "2"}
			for _, n := range order {
				id := guests[n].ID()
				r.Disconnect(event.Disconnection{Session: id}, time.Time{})
				require.Equal(t, Disconnected, <-guests[n].ended)
				left = slices.DeleteFunc(left, func(other string) bool { return other == id })
				for name, found := range map[string]iter.Seq[*Session]{"subject": r.subjects.of("9"), "token": r.tokens.of("a")} {
					var ids []string
					for s := range found {
						ids = append(ids, s.ID())
					}
					require.ElementsMatch(t, left, ids, name)
				}
			}
			require.Empty(t, r.subjects)
			require.Empty(t, r.tokens)
			require.Empty(t, r.ids)
		})
	}
}

// A token may be revoked when it has been verified already and nobody knows its
// session yet, or is about to take the place of another.
func TestRegistry_RevokedInBetween(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var revoked access.Revocations
		r := NewRegistry(prometheus.NewRegistry())
		r.Revoked = revoked.Cover
		renewing := enter(t, r, "1", of("9", "a"))
		list := []access.Revocation{{TokenID: "b"}}
		revoked.Add(list...)
		r.ExpelRevoked(list)
		late := enter(t, r, "2", of("9", "b"))
		require.Equal(t, TokenRevoked, <-late.ended)
		renewing.Do(func() error {
			renewing.Renew(of("9", "b"))
			r.Recheck(renewing.Session)
			return nil
		})
		require.Equal(t, TokenRevoked, <-renewing.ended)
	})
}

// Whoever is renewed between the order and the moment his session comes to look at
// it, stays.
func TestRegistry_RenewedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var revoked access.Revocations
		r := NewRegistry(prometheus.NewRegistry())
		r.Revoked = revoked.Cover
		g := enter(t, r, "1", of("9", "a"))
		list := []access.Revocation{{TokenID: "a"}}
		revoked.Add(list...)
		g.Do(func() error {
			r.ExpelRevoked(list) // leaves a letter, which is read after this one
			g.Renew(of("9", "b"))
			return nil
		})
		g.stays(t)
		require.Equal(t, []string{"live 1-0"}, g.heard())
	})
}

// A session that is stuck in a write reads no letters: its sink learns at once when it
// is over, and also that it is not, after all.
func TestSession_TellsItsSinkWhenItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(prometheus.NewRegistry())
		g := enter(t, r, "1", of("9", "a"))
		renew := func(d time.Duration) {
			grant := of("9", "a")
			grant.Expires = time.Now().Add(d)
			g.Do(func() error { g.Renew(grant); return nil })
		}
		require.Equal(t, time.Hour, g.endsIn())
		renew(2 * time.Hour)
		require.Equal(t, 2*time.Hour, g.endsIn())

		block := make(chan struct{})
		g.sink.mu.Lock()
		g.sink.block = block
		g.sink.mu.Unlock()
		g.feed.append("branch:b1")
		meant := false
		g.Expel(Disconnected, func(*Session) bool { return meant })
		g.Expel(Disconnected, func(*Session) bool { return meant })
		require.Zero(t, g.endsIn())
		g.stays(t)
		block <- struct{}{}
		synctest.Wait()
		require.Equal(t, 2*time.Hour, g.endsIn())

		g.Leave(time.Minute)
		g.Leave(time.Second)
		block <- struct{}{}
		synctest.Wait()
		require.Equal(t, time.Minute, g.endsIn())
		renew(time.Hour)
		require.Equal(t, time.Minute, g.endsIn())
		renew(time.Second)
		require.Equal(t, time.Second, g.endsIn())
		close(block)
	})
}

func TestRegistry_Disconnect(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := NewRegistry(prometheus.NewRegistry())
		platform := of("9", "")
		platform.PlatformWide = true // and has named c1
		one, two, eight, wide := enter(t, r, "one", of("9", "")), enter(t, r, "two", of("9", "")), enter(t, r, "eight", of("8", "")),
			enter(t, r, "wide", platform)
		pass(time.Second)
		now := time.Now()
		pass(clockMargin)
		young := enter(t, r, "young", of("9", ""))

		r.Disconnect(event.Disconnection{Tenant: "c2", Subject: "9"}, now)
		r.Disconnect(event.Disconnection{Tenant: "c2", Session: "one"}, now)
		one.stays(t)
		// Whoever names a session knows that it has begun, whatever the clocks say.
		r.Disconnect(event.Disconnection{Tenant: "c1", Session: "one"}, now.Add(-time.Hour))
		require.Equal(t, Disconnected, <-one.ended)
		require.Equal(t, []string{"live 1-0", "goaway disconnected in 0s at 1-0"}, one.heard())
		two.stays(t)
		// The database's clock may be a little behind.
		r.Disconnect(event.Disconnection{Tenant: "c1", Subject: "9"}, now.Add(-time.Second-clockMargin))
		two.stays(t)
		r.Disconnect(event.Disconnection{Tenant: "c1", Subject: "9"}, now.Add(-clockMargin))
		require.Equal(t, Disconnected, <-two.ended)
		for _, g := range []*guest{eight, wide, young} {
			g.stays(t)
		}
		r.Disconnect(event.Disconnection{Subject: "9"}, now)
		require.Equal(t, Disconnected, <-wide.ended)
		eight.stays(t)
		young.stays(t)
	})
}

// The end of a token is foretold, in time and once for each end.
func TestSession_ForetellsTheEnd(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		age, left, warned time.Duration // of the token when the session begins; after it began
	}{
		"a minute before":                         {0, time.Hour, 59 * time.Minute},
		"at once when less is left":               {time.Hour, 50 * time.Second, 0},
		"at half of a short life":                 {0, 40 * time.Second, 20 * time.Second},
		"at half, when that is over, at once":     {30 * time.Second, 10 * time.Second, 0},
		"at half of what is left, if it is young": {10 * time.Second, 30 * time.Second, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				r := run(t, newFeed(), func(c *Config) {
					c.Grant.IssuedAt, c.Grant.Expires = begin.Add(-test.age), begin.Add(test.left)
					c.Heartbeat = 3 * time.Hour // so that the token alone wakes it
				})
				require.Equal(t, TokenExpired, <-r.ended)
				word := "expiring at " + test.left.String()
				r.sink.mu.Lock()
				count := 0
				for _, w := range r.words {
					if w == word {
						count++
					}
				}
				r.sink.mu.Unlock()
				require.Equal(t, 1, count)
				at := r.heardAt()
				require.Equal(t, test.warned, at[word])
				require.Equal(t, test.left, at["goaway token_expired in 0s at 1-0"])
			})
		})
	}
}

// A client that brings the same token again, or one that ends as soon, is not
// warned again and again.
func TestSession_ForetellsEachEndOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		grant := branch()
		grant.IssuedAt, grant.Expires = begin, begin.Add(10*time.Minute)
		r := run(t, newFeed(), func(c *Config) { c.Grant, c.Heartbeat = grant, 3*time.Hour })
		pass(9*time.Minute + time.Second)
		require.Equal(t, []string{"live 1-0", "expiring at 10m0s"}, r.heard())
		r.Do(func() error { r.Renew(grant); return nil })
		require.Empty(t, r.heard())
		grant.IssuedAt, grant.Expires = time.Now(), time.Now().Add(10*time.Minute)
		r.Do(func() error { r.Renew(grant); return nil })
		pass(9*time.Minute - time.Second)
		require.Empty(t, r.heard())
		pass(time.Second)
		require.Equal(t, []string{"expiring at 19m1s"}, r.heard())
		require.Equal(t, TokenExpired, <-r.ended)
	})
}
