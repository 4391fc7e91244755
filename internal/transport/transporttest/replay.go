package transporttest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// smallWindow makes an instance forget all but some dozens of events.
var smallWindow = []string{"TAILROOM_WINDOW_BYTES=64KiB", "TAILROOM_MAX_EVENT_BYTES=64KiB"}

// resumeElsewhere goes from instance to instance, and misses and repeats
// nothing.
func resumeElsewhere(t *testing.T, dial Dialer) {
	t.Helper()
	cluster := apptest.Cluster(t, 2)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	ask := Ask{Token: token, Namespaces: availability}
	var heard []string
	for round := range 4 {
		r := live(t, dial, cluster[round%2], ask)
		publish(t, cluster[0], service, alerts(3, "branch:b1", "heard live"))
		r.hear(t, len(r.heard)+2) // leaves with an event that is on its way
		r.conn.Close()
		heard = append(heard, r.heard...)
		ask.Cursor = r.cursor
		publish(t, cluster[1], service, alerts(2, "branch:b1", "while nobody listens"))
	}
	last := publish(t, cluster[1], service, alert("branch:b1", "the end"))
	r := listen(t, dial, cluster[0], ask)
	r.reach(t, last)
	same(t, logged(t, cluster[1], token, ""), append(heard, r.heard...))
}

func earliestAndNow(t *testing.T, dial Dialer) {
	t.Helper()
	cluster := apptest.Cluster(t, 2)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	before := publish(t, cluster[0], service, alerts(5, "branch:b1", "before"))

	// Whoever publishes and then asks for now does not get his own event, on
	// whichever instance he asks.
	now := listen(t, dial, cluster[1], Ask{Token: token, Namespaces: availability, Cursor: "now"})
	none := listen(t, dial, cluster[1], Ask{Token: token, Namespaces: availability})
	earliest := listen(t, dial, cluster[1], Ask{Token: token, Namespaces: availability, Cursor: "earliest"})
	last := publish(t, cluster[0], service, alert("branch:b1", "after"))

	earliest.reach(t, last)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, positions(t, earliest.heard))
	for _, r := range []*reader{now, none} {
		r.reach(t, last)
		require.Equal(t, []int64{before + 1}, positions(t, r.heard))
	}
}

// olderThanTheWindow reads thousands of events in many pages, by both kinds of
// grant, while others publish: out of the log, then the window, then live.
func olderThanTheWindow(t *testing.T, dial Dialer) {
	t.Helper()
	cluster := apptest.Cluster(t, 2, smallWindow...)
	service, company := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	branch := apptest.Token(t, access.Web, "c1", "b1", "b2")
	mixed := func(n int) string {
		list := make([]string, n)
		for i := range list {
			rooms := [...]string{"branch:b1", "branch:b3", `branch:b2","branch:b1`, "company:c1", `branch:b3","branch:b2`}[i%5]
			list[i] = strings.ReplaceAll(alert("ROOM", fmt.Sprint(i)), "ROOM", rooms)
		}
		return "[" + strings.Join(list, ",") + "]"
	}
	for range 3 {
		publish(t, cluster[0], service, mixed(1000))
	}
	stop := writers(t, 2, func(w, _ int) { publish(t, cluster[w], service, mixed(10)) })
	wide := listen(t, dial, cluster[0], Ask{Token: company, Namespaces: availability, Cursor: "1-7"})
	narrow := listen(t, dial, cluster[1], Ask{Token: branch, Namespaces: availability, Cursor: "earliest"})
	wide.until(t, Live)
	narrow.until(t, Live)
	stop()
	last := publish(t, cluster[0], service, alert("company:c1", "the end"))
	wide.reach(t, last)
	narrow.reach(t, last)

	same(t, logged(t, cluster[1], company, "after=1-7"), wide.heard)
	same(t, logged(t, cluster[0], branch, ""), narrow.heard)
	require.Greater(t, len(narrow.heard), 2000)
	for _, i := range cluster {
		require.Greater(t, i.Metric(t, "tailroom_hub_cold_reads_total"), 10.0, "the log was not read")
	}
}

// dropPartition does what retention does, at once: the events up to and with
// floor, which is the end of the first partition, are gone.
func dropPartition(t testing.TB, dsn string, floor int64) {
	t.Helper()
	execute(t, dsn, fmt.Sprintf(`BEGIN; ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1; DROP TABLE tailroom.events_1;
		DELETE FROM tailroom.partitions WHERE first = 1; UPDATE tailroom.log SET floor = %d; COMMIT`, floor))
}

func belowTheFloor(t *testing.T, dial Dialer) {
	t.Helper()
	dsn := pgtest.Database(t)
	execute(t, dsn, "UPDATE tailroom.log SET partition_size = 20")
	first := apptest.Start(t, dsn)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	publish(t, first, service, alerts(50, "branch:b1", "."))
	first.Stop()
	dropPartition(t, dsn, 20)

	i := apptest.Start(t, dsn)
	for cursor, want := range map[string]struct {
		reset bool
		first int64
	}{"1-0": {true, 21}, "1-19": {true, 21}, "1-20": {false, 21}, "1-21": {false, 22}, "earliest": {false, 21}} {
		r := listen(t, dial, i, Ask{Token: token, Namespaces: availability, Cursor: cursor})
		n := r.next(t)
		if want.reset {
			require.Equal(t, News{Kind: Reset, Reason: "expired", Oldest: "1-20", Resume: "1-20", Snapshot: "/v1/state"}, n, cursor)
			n = r.next(t)
		}
		require.Equal(t, Event, n.Kind, cursor)
		require.Equal(t, want.first, position(t, n.Cursor), cursor)
		r.until(t, Live)
		r.reach(t, publish(t, i, service, alert("branch:b1", "and goes on")))
		same(t, logged(t, i, token, fmt.Sprintf("after=1-%d", want.first-1)), r.heard, cursor)
	}
}

// floorPasses has retention drop what a reader that pauses has not read yet:
// he reads on as far as the server had got, is told, and goes on behind.
func floorPasses(t *testing.T, dial Dialer) {
	t.Helper()
	const floor, behind = 350, 50
	dsn := pgtest.Database(t)
	execute(t, dsn, fmt.Sprintf("UPDATE tailroom.log SET partition_size = %d", floor))
	i := apptest.Start(t, dsn, smallWindow...)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	for range (floor + behind) / 50 {
		publish(t, i, service, alerts(50, "branch:b1", nineKB(t)))
	}
	r := listen(t, dial, i, Ask{Token: token, Namespaces: availability, Cursor: "earliest"})
	r.until(t, Event)
	dropPartition(t, dsn, floor)

	n := r.until(t, Reset)
	require.Equal(t, News{Kind: Reset, Reason: "expired", Oldest: "1-350", Resume: "1-350", Snapshot: "/v1/state"}, n)
	before := len(r.heard)
	require.Less(t, before, floor)
	for at, raw := range r.heard {
		require.Contains(t, raw, fmt.Sprintf(`{"cursor":"1-%d",`, at+1), "a gap that nobody spoke of")
	}
	r.until(t, Live)
	same(t, logged(t, i, token, "after=1-350"), r.heard[before:])
	require.Len(t, r.heard[before:], behind)
}

func aboveTheTip(t *testing.T, dial Dialer) {
	t.Helper()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	for tip := range int64(4) { // the first time the log is empty
		for cursor, reached := range map[string]int64{"1-5": 5, "1-9007199254740992": 1 << 53, "9007199254740992-0": 0, "2-1": 1} {
			r := listen(t, dial, i, Ask{Token: token, Namespaces: availability, Cursor: cursor})
			resume := min(reached, tip)
			require.Equal(t, News{
				Kind: Reset, Reason: "diverged", Oldest: "1-0", Resume: fmt.Sprintf("1-%d", resume), Snapshot: "/v1/state",
			}, r.next(t), cursor)
			r.until(t, Live)
			require.Len(t, r.heard, int(tip-resume), cursor)
			require.Equal(t, tip, r.position(t), cursor)
		}
		publish(t, i, service, alert("branch:b1", "and goes on"))
		i.Reach(t, tip+1) // what is live is what the instance has read
	}
}

// restoredLog loses the end of the log, as a failover to a standby that was
// behind does, and goes on in another epoch.
func restoredLog(t *testing.T, dial Dialer) {
	t.Helper()
	dsn := pgtest.Database(t)
	before := apptest.Start(t, dsn)
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	publish(t, before, service, alerts(5, "branch:b1", "."))
	before.Stop()
	execute(t, dsn, `BEGIN; SET LOCAL session_replication_role = replica; DELETE FROM tailroom.events WHERE position > 3;
		DELETE FROM tailroom.recent_ids_0 WHERE position > 3; UPDATE tailroom.epochs SET identity = 'another'; COMMIT`)
	i := apptest.Start(t, dsn)
	publish(t, i, service, alerts(2, "branch:b1", "in the new epoch"))

	for cursor, resume := range map[string]string{"1-4": "1-3", "1-5": "1-3", "3-1": "1-1", "2-6": "2-5", "1-3": "", "1-2": "", "2-4": ""} {
		r := listen(t, dial, i, Ask{Token: token, Namespaces: availability, Cursor: cursor})
		after := cursor
		if resume != "" {
			require.Equal(t, News{Kind: Reset, Reason: "diverged", Oldest: "1-0", Resume: resume, Snapshot: "/v1/state"}, r.next(t), cursor)
			after = resume
		}
		r.reach(t, 5)
		require.Equal(t, "2-5", r.cursor)
		same(t, logged(t, i, token, "after="+after), r.heard, cursor)
	}
}

func malformedCursors(t *testing.T, dial Dialer) {
	t.Helper()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Web, "c1")
	for _, cursor := range []string{
		"1", "-", "1-", "-1", "0-0", "01-1", "1-01", "1--1", "+1-1", "1-1 ", "1-x", "1-9007199254740993", "Earliest", "NOW", "1-1-1", "null",
		"1-" + strings.Repeat("9", 40), "１-１",
	} {
		_, refused := dial(t, i, Ask{Token: token, Namespaces: availability, Cursor: cursor})
		require.Equal(t, "invalid_cursor", refused, "%q", cursor)
	}
}
