package eventlog_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
)

func TestEpochs_TheFirstAppendOpensTheFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	epochs, err := r.log.Epochs(t.Context())
	require.NoError(t, err)
	require.Empty(t, epochs)
	bounds, err := r.log.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Bounds{Tip: event.Cursor{Epoch: 1}}, bounds, "an empty log is in its first epoch")

	a := r.running(t)
	require.Equal(t, event.Cursor{Epoch: 1, Position: 1}, a.append(t, draft(""))[0].Cursor)
	require.Equal(t, event.Cursor{Epoch: 1, Position: 2}, a.append(t, draft(""))[0].Cursor)
	epochs, err = r.log.Epochs(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Epochs{{Number: 1, Survived: 0}}, epochs)
}

// The log finds itself in another database, cluster or timeline than the one
// its last epoch was opened in.
func TestEpochs_AnotherIdentityOpensTheNext(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	retried := draft("order:1")
	first := a.append(t, retried, draft("order:1"), draft(""))
	r.exec(t, "SELECT setval('tailroom.positions', 37)") // as a sequence runs ahead of what survives
	r.exec(t, "UPDATE tailroom.epochs SET identity = 'elsewhere'")

	require.Equal(t, duplicate(first[:1]), a.append(t, retried), "what survived is known by its old cursor")
	receipts := a.append(t, draft("order:1"), draft(""))
	require.Equal(t, event.Cursor{Epoch: 2, Position: 4}, receipts[0].Cursor, "behind what survived")
	require.Equal(t, int64(3), receipts[0].Version)
	require.Equal(t, event.Cursor{Epoch: 2, Position: 6}, a.append(t, draft(""))[0].Cursor, "once opened it stays")
	epochs, err := r.log.Epochs(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Epochs{{Number: 1}, {Number: 2, Survived: 3}}, epochs)
	bounds, err := r.log.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Cursor{Epoch: 2, Position: 6}, bounds.Tip)
	for _, e := range r.all(t) {
		require.Equal(t, epochs.At(e.Cursor.Position), e.Cursor)
	}
	requireConsistent(t, r)
}

// What retention has dropped is not handed out again, though no event shows
// any more how far the log had come.
func TestEpochs_BeginAboveTheFloor(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.exec(t, "UPDATE tailroom.log SET floor = 50")
	bounds, err := r.log.Bounds(t.Context())
	require.NoError(t, err)
	require.Equal(t, event.Bounds{Tip: event.Cursor{Epoch: 1, Position: 50}, Floor: 50}, bounds)
	require.Equal(t, []int64{51}, positions(r.running(t).append(t, draft(""))))
}

// An append that does not take place opens no epoch.
func TestEpochs_StayWithARefusedAppend(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft("order:1"))
	r.exec(t, "UPDATE tailroom.epochs SET identity = 'elsewhere'")
	_, err := a.Append(t.Context(), nil, []event.Draft{with(draft("order:1"), expecting(0))})
	require.Error(t, err)
	epochs, err := r.log.Epochs(t.Context())
	require.NoError(t, err)
	require.Len(t, epochs, 1)
}
