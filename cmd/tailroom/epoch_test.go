package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestEpoch(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	out, _, err := tailroom(t.Context(), nil, "epoch", "list")
	require.NoError(t, err)
	require.Equal(t, "no epoch yet: the first event opens it\n", out)

	i := apptest.Start(t, dsn)
	i.Publish(t, apptest.Token(t, access.Service, "c1"), `[
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}},
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"2","branchId":"b1"}}]`)
	out, _, err = tailroom(t.Context(), nil, "epoch", "new", "--reason", "the volume of noon was put back")
	require.NoError(t, err)
	require.Equal(t, "epoch 2 begins at position 3; cursors of older epochs are good up to 2\n", out)

	// The instance takes it over at once, and nobody's cursor is any worse.
	i.Reach(t, 2)
	apptest.Eventually(t, func() bool { return i.Metric(t, "tailroom_hub_epoch") == 2 }, apptest.Patience, 10*time.Millisecond)
	socket, welcome := i.Hello(t, apptest.Token(t, access.Web, "c1"), "1-2", `[{"namespace":"/orders"}]`)
	require.Equal(t, "1-2", welcome.Cursor)
	require.Equal(t, "live", socket.Next(t).Type)

	out, _, err = tailroom(t.Context(), nil, "epoch", "list")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^EPOCH +SURVIVED +OPENED +REASON\n1 +0 +\S+Z +first event\n2 +2 +\S+Z +the volume of noon was put back\n$`, out)
	out, _, err = tailroom(t.Context(), nil, "epoch", "list", "--json")
	require.NoError(t, err)
	var listed []life
	require.NoError(t, json.Unmarshal([]byte(out), &listed))
	require.Len(t, listed, 2)
	require.Equal(t, int64(2), listed[1].Epoch)
	require.Equal(t, int64(2), listed[1].Survived)
	require.WithinDuration(t, time.Now(), listed[1].OpenedAt, time.Minute)
}

func TestEpochNew_WantsAReason(t *testing.T) {
	t.Parallel()
	_, _, err := tailroom(t.Context(), nil, "epoch", "new")
	require.ErrorContains(t, err, "reason")
	_, _, err = tailroom(t.Context(), nil, "epoch", "new", "--reason", " ")
	require.ErrorContains(t, err, "say what happened")
}
