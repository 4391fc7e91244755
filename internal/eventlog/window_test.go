package eventlog_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// rotate rotates the window of ids, whatever its age, and reports whether that
// could be done.
func (r *rig) rotate(t *testing.T) bool {
	t.Helper()
	return value[bool](t, r, "SELECT tailroom.rotate_ids('0')")
}

// An id is known in the window it came in and in the next one.
func TestWindow_KnowsAnIDForOneRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	group := []event.Draft{draft("order:1"), draft("")}
	first := a.append(t, group...)
	require.Equal(t, duplicate(first), a.append(t, group...))

	require.True(t, r.rotate(t))
	require.Equal(t, duplicate(first), a.append(t, group...))
	young := draft("order:1")
	second := a.append(t, young)
	_, err := a.Append(t.Context(), nil, []event.Draft{group[0], draft("")})
	require.ErrorIs(t, err, eventlog.ErrPartialDuplicate)
	_, err = a.Append(t.Context(), nil, []event.Draft{with(group[0], data(`{"other":1}`))})
	require.ErrorIs(t, err, eventlog.ErrIDReused)
	// Both tables at once.
	require.Equal(t, duplicate([]event.Receipt{first[0], second[0], first[1]}), a.append(t, group[0], young, group[1]))

	require.True(t, r.rotate(t))
	require.Equal(t, duplicate(second), a.append(t, young))
	again := a.append(t, group...)
	require.Equal(t, []int64{4, 5}, positions(again), "what is forgotten is new")
	require.False(t, again[0].Duplicate)
	require.Equal(t, duplicate(again), a.append(t, group...))
	requireSound(t, r)
}

func TestWindow_RotatesWhenItIsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.False(t, value[bool](t, r, "SELECT tailroom.rotate_ids('1 hour')"))
	r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = clock_timestamp() - interval '59 minutes'")
	require.False(t, value[bool](t, r, "SELECT tailroom.rotate_ids('1 hour')"))
	r.exec(t, "UPDATE tailroom.log SET ids_rotated_at = clock_timestamp() - interval '1 hour'")
	require.True(t, value[bool](t, r, "SELECT tailroom.rotate_ids('1 hour')"))
	require.False(t, value[bool](t, r, "SELECT tailroom.rotate_ids('1 hour')"), "the next one has begun")
}

// Whoever reads the older table puts the rotation off, and nothing else: no
// append waits for him.
func TestWindow_DoesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	d := draft("order:1")
	first := a.append(t, d)
	reader, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = reader.Exec(t.Context(), "SELECT FROM tailroom.recent_ids")
	require.NoError(t, err)

	require.False(t, r.rotate(t))
	a.append(t, draft("order:1"))
	require.Equal(t, duplicate(first), a.append(t, d))

	require.NoError(t, reader.Rollback(t.Context()))
	require.True(t, r.rotate(t))
	require.Equal(t, duplicate(first), a.append(t, d))
}

// Writers repeat each of their events while the window rotates: fewer times than
// an id is known for, so none is ever taken twice.
func TestWindow_RotatesUnderLoad(t *testing.T) {
	t.Parallel()
	const writers, rounds = 4, 20
	r := newRig(t)
	instances := []*instance{r.running(t), r.running(t)}
	for range rounds {
		g, ctx := errgroup.WithContext(t.Context())
		for w := range writers {
			g.Go(func() error {
				d := draft("order:1")
				first, err := instances[w%2].Append(ctx, nil, []event.Draft{d})
				if err != nil {
					return err
				}
				again, err := instances[(w+1)%2].Append(ctx, nil, []event.Draft{d})
				if err == nil {
					require.Equal(t, first[0].Cursor, again[0].Cursor)
					require.True(t, again[0].Duplicate)
				}
				return err
			})
		}
		g.Go(func() error {
			_, err := r.pool.Exec(ctx, "SELECT tailroom.rotate_ids('0')")
			return err
		})
		require.NoError(t, g.Wait())
	}
	require.Len(t, r.all(t), writers*rounds)
	requireSound(t, r)
}

// A rotation that is cut off has not happened.
func TestWindow_RotationIsOneTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	d := draft("order:1")
	first := a.append(t, d)
	require.True(t, r.rotate(t))

	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	var rotated bool
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT tailroom.rotate_ids('0')").Scan(&rotated))
	require.True(t, rotated)
	require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context())))
	require.Equal(t, duplicate(first), a.append(t, d))
	require.WithinDuration(t, time.Now(), value[time.Time](t, r, "SELECT ids_rotated_at FROM tailroom.log"), time.Minute)
}
