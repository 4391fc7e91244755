package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestPartitionsList(t *testing.T) {
	dsn := pgtest.Database(t)
	t.Setenv("DATABASE_URL", dsn)
	pool := pgtest.Pool(t, dsn)
	out, _, err := tailroom(t.Context(), nil, "partitions", "list")
	require.NoError(t, err)
	require.Regexp(t, `^ +NAME .*\nfloor 0, tip 0, 0 B in all\n$`, out)

	_, err = pool.Exec(t.Context(), "UPDATE tailroom.log SET partition_size = 4")
	require.NoError(t, err)
	i := apptest.Start(t, dsn)
	for n := range 10 {
		i.Publish(t, apptest.Token(t, access.Service, "c1"),
			fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1"}}`, n))
	}
	i.Stop()
	apptest.Start(t, dsn) // its first sweep seals
	var listed eventlog.Layout
	apptest.Eventually(t, func() bool {
		out, _, err := tailroom(t.Context(), nil, "partitions", "list", "--json")
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal([]byte(out), &listed))
		return listed.Partitions[1].State == eventlog.PartitionSealed
	}, apptest.Patience, 20*time.Millisecond)
	require.Equal(t, int64(10), listed.Tip)
	require.Equal(t, int64(4), listed.Partitions[0].Events)
	require.True(t, listed.Partitions[0].Counted)
	require.Equal(t, int64(2), listed.Partitions[2].Events)
	require.False(t, listed.Partitions[2].Counted)
	require.WithinDuration(t, time.Now(), *listed.Partitions[0].RecordedTo, time.Minute)

	// Two that retention is about to drop.
	_, err = pool.Exec(t.Context(), "ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1; UPDATE tailroom.log SET floor = 4")
	require.NoError(t, err)
	out, _, err = tailroom(t.Context(), nil, "partitions", "list")
	require.NoError(t, err)
	const second, size = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, `\d+\.\d KiB`
	require.Regexp(t, `^ +NAME +FIRST +LAST +EVENTS +SIZE +RECORDED FROM +RECORDED TO +STATE
 +events_1 +1 +4 +4 +0 B +`+second+` +`+second+` +detaching
 +events_5 +5 +8 +4 +`+size+` +`+second+` +`+second+` +sealed
 +events_9 +9 +12 +~2 +`+size+` +current
 +events_13 +13 +16 +0 +`+size+` +ahead
 +events_17 +17 +20 +0 +`+size+` +ahead
 +events_21 +21 +24 +0 +`+size+` +ahead
floor 4, tip 10, `+size+` in all
$`, out)
}

func TestByteSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1 << 20: "1.0 MiB", 5 << 40: "5.0 TiB", 1<<63 - 1: "8.0 EiB",
	} {
		require.Equal(t, want, byteSize(n))
	}
}
