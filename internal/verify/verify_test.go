package verify_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/verify"
)

func TestRun_AnEmptyLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	report := r.verify(t)
	require.True(t, report.OK)
	require.Empty(t, report.Faults)
	require.Empty(t, report.Notes)
	require.Equal(t, verify.Extent{Epoch: 1}, report.Log)
	require.Equal(t, verify.Checked{Partitions: 4}, report.Checked)
}

func TestRun_ALogInOrder(t *testing.T) {
	t.Parallel()
	r := newOldLog(t)
	report := r.verify(t)
	require.Empty(t, report.Faults)
	require.True(t, report.OK)
	require.Equal(t, int64(7), report.Log.Epoch)
	require.Equal(t, int64(partitionSize), report.Log.Floor)
	require.Equal(t, r.tip(t), report.Log.Tip)
	events := value[int64](t, r, "SELECT count(*) FROM tailroom.events")
	require.Greater(t, events, int64(1000))
	require.Equal(t, verify.Checked{
		Partitions: value[int64](t, r, "SELECT count(*) FROM tailroom.partitions"),
		Events:     events, IDs: events, Recounted: events,
		WindowIDs: value[int64](t, r, "SELECT count(*) FROM tailroom.recent_ids"),
		Streams:   value[int64](t, r, "SELECT count(DISTINCT (tenant, namespace, stream)) FROM tailroom.events WHERE stream IS NOT NULL"),
	}, report.Checked)
	require.Len(t, report.Notes, 1)
	require.Equal(t, "unused_positions", report.Notes[0].Kind)
	require.Equal(t, r.tip(t)-partitionSize-events, report.Notes[0].Count)
}

func TestRun_TheFirstVersionIsMissing(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	r.append(t, draft("c1", "order:1"), draft("c1", "order:1"), draft("c1", "order:1"))
	r.tamper(t, "DELETE FROM tailroom.events WHERE position = 1; DELETE FROM tailroom.recent_ids_0 WHERE position = 1")
	report := r.verify(t)
	require.Len(t, report.Faults, 1)
	require.Equal(t, verify.VersionMissing, report.Faults[0].Kind)
	require.Equal(t, []verify.Place{{
		Position: 2, CompanyID: "c1", Namespace: "/orders", Stream: "order:1", Expected: "version 1", Found: "version 2",
	}}, report.Faults[0].Examples)
}

// A partition whose floor has moved is not dropped at once, and the window may
// reach further back than the log.
func TestRun_RetentionIsNotDone(t *testing.T) {
	t.Parallel()
	r := newRig(t, 10)
	for range 35 {
		r.append(t, draft("c1", "order:1"))
	}
	r.exec(t, "UPDATE tailroom.log SET floor = 20")
	requireNotes(t, r.verify(t), verify.Note{Kind: "retention_unfinished", Count: 2})
	r.exec(t, "ALTER TABLE tailroom.events DETACH PARTITION tailroom.events_1")
	requireNotes(t, r.verify(t), verify.Note{Kind: "retention_unfinished", Count: 2})
	r.exec(t, "DROP TABLE tailroom.events_1")
	r.exec(t, "DELETE FROM tailroom.partitions WHERE first = 1")
	require.NoError(t, r.dropPartitions(t.Context()))
	report := r.verify(t)
	requireNotes(t, report)
	require.Equal(t, int64(15), report.Checked.Events)
	require.Equal(t, int64(35), report.Checked.WindowIDs)
	r.exec(t, "UPDATE tailroom.log SET floor = 40")
	r.exec(t, "SELECT setval('tailroom.positions', 40)")
	requireNotes(t, r.verify(t), verify.Note{Kind: "retention_unfinished", Count: 2})
}

// requireNotes requires that there is no fault, and what is worth a note.
func requireNotes(t *testing.T, report *verify.Report, want ...verify.Note) {
	t.Helper()
	require.Empty(t, report.Faults)
	require.Len(t, report.Notes, len(want), "%v", report.Notes)
	for i, note := range report.Notes {
		note.What = ""
		require.Equal(t, want[i], note)
	}
}

// A clock that ran ahead for a moment does not make old events young.
func TestRun_TheClockWasSetBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	for range 6 {
		r.append(t, draft("c1", ""))
	}
	r.tamper(t, "UPDATE tailroom.events SET recorded_at = recorded_at + interval '3 days' WHERE position IN (3, 4)")
	requireNotes(t, r.verify(t), verify.Note{Kind: "clock_set_back", Count: 1, Position: 4})
	r.rotate(t)
	r.rotate(t)
	r.append(t, draft("c1", ""))
	requireNotes(t, r.verify(t), verify.Note{Kind: "clock_set_back", Count: 1, Position: 4})
}

// What the window has forgotten may be used again, by the same company; by
// another at any time.
func TestRun_IDsAreUsedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	again := draft("c1", "")
	r.append(t, again)
	other := again
	other.Tenant = "c2"
	other.Rooms = []string{"branch:b1"}
	r.append(t, other)
	requireNotes(t, r.verify(t))

	r.rotate(t)
	r.rotate(t)
	r.append(t, again)
	report := r.verify(t)
	require.Len(t, report.Faults, 1, "a day has not passed")
	require.Equal(t, verify.IDRepeated, report.Faults[0].Kind)
	r.tamper(t, "UPDATE tailroom.events SET recorded_at = recorded_at - interval '23 hours 59 minutes' WHERE position < 3")
	require.Len(t, r.verify(t).Faults, 1)
	r.tamper(t, "UPDATE tailroom.events SET recorded_at = recorded_at - interval '1 minute' WHERE position < 3")
	requireNotes(t, r.verify(t), verify.Note{Kind: "id_used_again", Count: 1, Position: 3})

	r.tamper(t, "INSERT INTO tailroom.recent_ids_0 SELECT tenant, gen_random_uuid(), 1 FROM tailroom.events WHERE position = 1")
	kinds := found{}
	for _, f := range r.verify(t).Faults {
		kinds[f.Kind] = f.Count
	}
	require.Equal(t, int64(1), kinds[verify.IDRepeated], "the window is said to go back to the first")
}

// More of a kind than are shown are counted all the same.
func TestRun_ManyFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1000)
	r.grow(t, "a", 600)
	r.tamper(t, "UPDATE tailroom.events SET rooms = '{company:c9}'")
	report := r.verify(t)
	require.Len(t, report.Faults, 1)
	require.Equal(t, int64(600), report.Faults[0].Count)
	require.Len(t, report.Faults[0].Examples, 10)
	require.Equal(t, int64(600), report.Total())
}

// A page may end in the middle of a stream, or of a version that is there twice.
func TestRun_PagesEndAnywhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	twice := draft("c1", "order:1")
	r.append(t, draft("c1", "order:1"), draft("c1", "order:1"), twice, draft("c1", "order:2"), draft("c2", "order:1"))
	requireNotes(t, r.verify(t))
	r.tamper(t, copyOf(3, 6)+copyOf(3, 7)+"SELECT setval('tailroom.positions', 7)")
	for pages := 1; pages < 10; pages++ {
		report, err := verify.Run(t.Context(), r.dsn, verify.Config{Window: time.Hour}.WithPages(pages))
		require.NoError(t, err)
		kinds := found{}
		for _, f := range report.Faults {
			kinds[f.Kind] = f.Count
		}
		require.Equal(t, found{verify.IDRepeated: 2, verify.VersionRepeated: 1, verify.HeadElsewhere: 2}, kinds, "pages of %d", pages)
		require.Equal(t, int64(7), report.Checked.IDs)
		require.Equal(t, int64(3), report.Checked.Streams)
	}
}

// Bound by a page: it neither writes nor keeps anybody waiting.
func TestRun_OnlyReads(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	r.grow(t, "a", 90)
	seen := map[string]bool{}
	r.verify(t, func(verify.Progress) {
		for _, lock := range value[[]string](t, r, `SELECT coalesce(array_agg(DISTINCT mode), '{}') FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.application_name = 'tailroom verify' AND a.datname = current_database() AND l.locktype <> 'virtualxid'`) {
			seen[lock] = true
		}
		require.Zero(t, value[int](t, r, `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tailroom verify'
			AND datname = current_database() AND (backend_xmin IS NOT NULL OR xact_start IS NOT NULL)`), "a snapshot is held between pages")
	})
	require.Empty(t, seen, "a lock is held between pages")
}

func TestRun_CannotGoOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, 100)
	r.grow(t, "a", 90)
	_, err := verify.Run(t.Context(), r.dsn, verify.Config{Progress: func(at verify.Progress) {
		if at.Step == "streams" {
			r.exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tailroom verify' AND datname = current_database()")
		}
	}})
	require.ErrorContains(t, err, "checking the streams: ")
}
