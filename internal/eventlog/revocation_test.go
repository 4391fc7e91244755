package eventlog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func order(tenant, subject string) eventlog.Order {
	return eventlog.Order{Tenant: tenant, Subject: subject, Reason: "lost phone", Actor: "user:admin"}
}

// told is what an event of /system is beside its data.
func told(e *event.Entry) []any {
	return []any{e.Namespace, e.Type, e.Tenant, e.Rooms, e.Stream, e.Actor}
}

// revoked are the revocations that the table holds.
func (r *rig) revoked(t *testing.T) []eventlog.Revoked {
	t.Helper()
	list, err := r.log.Revocations(t.Context(), 0, 1000)
	require.NoError(t, err)
	for i := range list {
		list[i].Before = list[i].Before.UTC()
	}
	return list
}

// The row and the event that tells of it come together.
func TestRevoke(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft(""))
	before, at, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: order("c1", "9")})
	require.NoError(t, err)
	require.Equal(t, event.Cursor{Epoch: 1, Position: 2}, at.Cursor)
	require.WithinDuration(t, time.Now(), before, 10*time.Second)
	e := r.all(t)[1]
	require.Equal(t, []any{"/system", "tokensRevoked", "c1", []string{"company:c1"}, "", "user:admin"}, told(e))
	require.JSONEq(t, `{"subject":"9","tokenId":null,"before":"`+before.UTC().Format(event.TimeLayout)+`","reason":"lost phone","actor":"user:admin"}`,
		string(e.Data))
	require.True(t, e.RecordedAt.Equal(at.RecordedAt))
	require.True(t, e.Revokes())

	// For every company, whenever it was issued.
	before, at, err = r.log.Revoke(t.Context(), eventlog.Revocation{Order: eventlog.Order{Actor: "user:admin"}, TokenID: "j1"})
	require.NoError(t, err)
	require.True(t, before.IsZero())
	require.Equal(t, int64(3), at.Cursor.Position)
	e = r.all(t)[2]
	require.Equal(t, []any{"/system", "tokensRevoked", "*", []string{"company:*"}, "", "user:admin"}, told(e))
	require.JSONEq(t, `{"subject":null,"tokenId":"j1","before":null,"reason":null,"actor":"user:admin"}`, string(e.Data))

	list := r.revoked(t)
	require.Len(t, list, 2)
	require.Equal(t, eventlog.Revoked{Position: 3, TokenID: "j1", Before: time.Time{}.UTC()}, list[1])
	epoch, newest, err := r.log.RevocationState(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int64{1, 3}, []int64{epoch, newest})
	rest, err := r.log.Revocations(t.Context(), 2, 1000)
	require.NoError(t, err)
	require.Len(t, rest, 1)
	require.Equal(t, event.Cursor{Epoch: 1, Position: 4}, a.append(t, draft(""))[0].Cursor)
	requireConsistent(t, r)
}

// What a later revocation includes is not kept beside it.
func TestRevoke_OneRowForEach(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	revoke := func(tenant, subject, token string, before time.Time) {
		_, _, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: order(tenant, subject), TokenID: token, Before: before})
		require.NoError(t, err)
	}
	revoke("c1", "9", "", noon)
	revoke("c2", "9", "", noon)
	revoke("", "9", "", noon)
	revoke("c1", "8", "", noon)
	revoke("c1", "", "9", noon)
	revoke("c1", "9", "", noon.Add(-time.Hour)) // 6: less than 1
	revoke("c1", "9", "", noon.Add(time.Hour))  // 7: more than 1 and 6
	revoke("c1", "", "9", time.Time{})          // 8: more than 5
	require.Equal(t, []eventlog.Revoked{
		{Position: 2, Tenant: "c2", Subject: "9", Before: noon},
		{Position: 3, Subject: "9", Before: noon},
		{Position: 4, Tenant: "c1", Subject: "8", Before: noon},
		{Position: 7, Tenant: "c1", Subject: "9", Before: noon.Add(time.Hour)},
		{Position: 8, Tenant: "c1", TokenID: "9", Before: time.Time{}.UTC()},
	}, r.revoked(t))
}

// A company has a bounded number. What is in force already can be revoked again, and
// the company's limit is nobody else's.
func TestRevoke_Bound(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	revoke := func(tenant, subject string) error {
		_, _, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: order(tenant, subject)})
		return err
	}
	r.exec(t, `INSERT INTO tailroom.revocations (position, tenant, subject, before, created_at)
		SELECT -n, 'c1', 'subject ' || n, now(), now() FROM generate_series(1, $1::int) n`, eventlog.MaxRevocations-1)
	require.NoError(t, revoke("c1", "the last"))
	require.ErrorIs(t, revoke("c1", "one more"), eventlog.ErrTooManyRevocations)
	require.Len(t, r.all(t), 1, "what is refused is not told")
	require.NoError(t, revoke("c1", "subject 7"))
	require.NoError(t, revoke("c1", "the last"))
	require.NoError(t, revoke("c2", "one more"))
	require.NoError(t, revoke("", "one more"))
	r.exec(t, "DELETE FROM tailroom.revocations WHERE subject = 'subject 8'")
	require.NoError(t, revoke("c1", "one more"))
	require.ErrorIs(t, revoke("c1", "and another"), eventlog.ErrTooManyRevocations)
	requireConsistent(t, r)
}

func TestRevoke_Refuses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for what, change := range map[string]func(*eventlog.Revocation){
		"reason is 1 to 1000":  func(o *eventlog.Revocation) { o.Reason = strings.Repeat("x", 1001) },
		"reason is 1 to":       func(o *eventlog.Revocation) { o.Reason = " " },
		"actor is 1 to 300":    func(o *eventlog.Revocation) { o.Actor = "" },
		"actor is 1 to":        func(o *eventlog.Revocation) { o.Actor = "a\nb" },
		"revocations_check":    func(o *eventlog.Revocation) { o.TokenID = "and a token" },
		"revocations_check\" ": func(o *eventlog.Revocation) { o.Subject = "" },
	} {
		o := eventlog.Revocation{Order: order("c1", "9")}
		change(&o)
		_, _, err := r.log.Revoke(t.Context(), o)
		require.ErrorContains(t, err, what)
	}
	require.Empty(t, r.revoked(t))
	require.Empty(t, r.all(t), "neither is there without the other")
}

// Revocations, appends and the forgetting of revocations at once: everybody
// finishes, and whoever reads behind the last position that he knows misses none.
func TestRevoke_AmongOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	const each = 40
	var all errgroup.Group
	for n := range 3 {
		all.Go(func() error {
			for i := range each {
				o := eventlog.Revocation{Order: order("c1", string(rune('a'+n))+string(rune('A'+i)))}
				if _, _, err := r.log.Revoke(context.Background(), o); err != nil {
					return err
				}
				if _, err := a.Append(context.Background(), nil, drafts(2)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() { done <- all.Wait() }()
	seen, last := 0, int64(0)
	for finished := false; seen < 3*each; {
		select {
		case err := <-done:
			require.NoError(t, err)
			finished = true
		default:
		}
		list, err := r.log.Revocations(t.Context(), last, 1000)
		require.NoError(t, err)
		seen += len(list)
		if len(list) > 0 {
			last = list[len(list)-1].Position
		}
		require.False(t, finished && len(list) == 0 && seen < 3*each, "some were never seen")
		r.exec(t, "SELECT tailroom.forget_revocations('1 hour')")
	}
	requireConsistent(t, r)
}

func TestForgetRevocations(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, before := range []time.Time{time.Now().Add(-time.Hour), time.Now().Add(2 * time.Hour)} {
		_, _, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: order("c1", before.String()), Before: before})
		require.NoError(t, err)
	}
	_, _, err := r.log.Revoke(t.Context(), eventlog.Revocation{Order: eventlog.Order{Actor: "a"}, TokenID: "j1"})
	require.NoError(t, err)
	forget := func(after string) int {
		return value[int](t, r, "SELECT tailroom.forget_revocations($1::text::interval)", after)
	}
	require.Zero(t, forget("1 minute"), "they are younger than that")
	r.exec(t, "UPDATE tailroom.revocations SET created_at = created_at - interval '3 hours'")
	require.Zero(t, forget("4 hours"))
	require.Equal(t, 1, forget("2 hours"), "one token's, by when it was revoked")
	require.Equal(t, 1, forget("30 minutes"), "a subject's, by when it was issued")
	require.Zero(t, forget("1 minute"), "that of tokens which are not yet issued stays")
	require.Len(t, r.all(t), 3, "the log tells of it for ever")
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	at, err := r.log.Disconnect(t.Context(), order("c1", "9"), "")
	require.NoError(t, err)
	_, err = r.log.Disconnect(t.Context(), eventlog.Order{Actor: "user:admin"}, "s1")
	require.NoError(t, err)
	_, err = r.log.Disconnect(t.Context(), eventlog.Order{}, "s1")
	require.ErrorIs(t, err, eventlog.ErrOrder)
	all := r.all(t)
	require.Equal(t, all[0].Cursor, at.Cursor)
	require.Equal(t, []any{"/system", "sessionsDisconnected", "c1", []string{"company:c1"}, "", "user:admin"}, told(all[0]))
	require.JSONEq(t, `{"subject":"9","session":null,"reason":"lost phone","actor":"user:admin"}`, string(all[0].Data))
	one, ok := all[0].Disconnects()
	require.True(t, ok)
	require.Equal(t, event.Disconnection{Tenant: "c1", Subject: "9"}, one)
	two, ok := all[1].Disconnects()
	require.True(t, ok)
	require.Equal(t, event.Disconnection{Session: "s1"}, two)
}

// Whatever an instance's role may do, it does with these functions alone.
func TestRevoke_AsAWriter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	log := eventlog.New(pgtest.Pool(t, r.login(t, "tailroom_writer")))
	_, _, err := log.Revoke(t.Context(), eventlog.Revocation{Order: order("c1", "9")})
	require.NoError(t, err)
	_, err = log.Disconnect(t.Context(), order("c1", "9"), "")
	require.NoError(t, err)
	list, err := log.Revocations(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, list, 1)
}
