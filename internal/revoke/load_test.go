package revoke_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/revoke"
)

// A large table comes in pages, of which none is missed.
func TestWatch_LoadsPages(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(t, `INSERT INTO tailroom.revocations (position, tenant, subject, before, created_at)
		SELECT n, 'c2', 'subject ' || n, now(), now() FROM generate_series(2, 25001) n`)
	var told int
	watch, err := revoke.New(t.Context(), r.log, func(list []access.Revocation) { told = len(list) }, prometheus.NewRegistry())
	require.NoError(t, err)
	for _, subject := range []string{"subject 2", "subject 10000", "subject 10001", "subject 10002", "subject 20001", "subject 25001"} {
		require.True(t, watch.Covers(access.Grant{Tenant: "c2", Subject: subject}), subject)
	}
	require.Equal(t, 25001, told)

	// From then on it is told of what is new, and of nothing else.
	r.exec(t, "SELECT setval('tailroom.positions', 25001)")
	r.revoke(t, "another")
	require.NoError(t, watch.Refresh(t.Context()))
	require.True(t, watch.Covers(access.Grant{Tenant: "c1", Subject: "another"}))
	require.Equal(t, 1, told)
}

func (r *rig) exec(t *testing.T, sql string) {
	t.Helper()
	_, err := pgtest.Pool(t, r.dsn).Exec(t.Context(), sql)
	require.NoError(t, err)
}

// slow is a log whose pages take long.
type slow struct {
	pages int
	takes time.Duration
}

func (s *slow) RevocationState(context.Context) (epoch, newest int64, err error) { return 1, 1, nil }

func (s *slow) Revocations(ctx context.Context, after int64, limit int) ([]eventlog.Revoked, error) {
	select {
	case <-time.After(s.takes):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.pages--; s.pages < 0 {
		return nil, nil
	}
	page := make([]eventlog.Revoked, limit)
	for i := range page {
		page[i] = eventlog.Revoked{Position: after + int64(i) + 1, Tenant: "c1", Subject: "9"}
	}
	return page, nil
}

// However long the whole table takes, an instance starts, if the pages come.
func TestWatch_LoadsSlowly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		watch, err := revoke.New(t.Context(), &slow{pages: 10, takes: 29 * time.Second}, func([]access.Revocation) {}, prometheus.NewRegistry())
		require.NoError(t, err)
		require.True(t, watch.Covers(access.Grant{Tenant: "c1", Subject: "9"}))
		require.Greater(t, time.Since(begun), 4*time.Minute)
		_, err = revoke.New(t.Context(), &slow{pages: 10, takes: 31 * time.Second}, func([]access.Revocation) {}, prometheus.NewRegistry())
		require.ErrorIs(t, err, context.DeadlineExceeded, "a page that does not come")
	})
}
