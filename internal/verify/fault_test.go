package verify_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/verify"
)

// marked are the places in an old log that faults are planted at.
type marked struct {
	planted []int64 // where versions 1 to 5 of order:planted are, the first in another partition than the last
	lone    []int64 // events of no stream, known to the window's younger table
	hole    int64   // a position without an event, above planted[1]
	old     int64   // an event of no stream in a sealed partition, older than the window
	older   int64   // an event in the window's older table, with others of it below
	sealed  int64   // the first position of that partition
	tip     int64
}

func (r *rig) mark(t testing.TB) marked {
	t.Helper()
	m := marked{
		planted: value[[]int64](t, r, "SELECT array_agg(position ORDER BY version) FROM tailroom.events WHERE stream = 'order:planted'"),
		tip:     r.tip(t),
	}
	require.Len(t, m.planted, 5)
	require.Less(t, (m.planted[0]-1)/partitionSize, (m.planted[4]-1)/partitionSize)
	m.lone = value[[]int64](t, r, "SELECT array_agg(position ORDER BY position) FROM tailroom.events WHERE stream IS NULL AND position > $1", m.planted[0])
	m.hole = m.planted[1] + 1
	window := value[int64](t, r, "SELECT min(position) FROM tailroom.recent_ids")
	m.old = value[int64](t, r, `SELECT min(position) FROM tailroom.events WHERE stream IS NULL
		AND position > (SELECT min(first) FROM tailroom.partitions) AND position < $1`, window)
	m.sealed = (m.old-1)/partitionSize*partitionSize + 1
	require.True(t, value[bool](t, r, "SELECT sealed_at IS NOT NULL FROM tailroom.partitions WHERE first = $1", m.sealed))
	m.older = value[int64](t, r, `SELECT max(r.position) FROM tailroom.log l, tailroom.recent_ids_0 r
		JOIN tailroom.events e USING (position) WHERE l.ids_table = 1 AND e.stream IS NULL`)
	return m
}

// copyOf inserts an event again elsewhere, with some columns changed, and unless
// the id is to stay with an id of its own that the window knows.
func copyOf(position, to int64, changes ...string) string {
	columns := []string{
		"position", "epoch", "id", "tenant", "namespace", "type", "schema_version", "rooms", "stream", "version",
		"occurred_at", "recorded_at", "actor", "correlation_id", "causation_id", "reply_by", "data",
	}
	values := strings.Join(columns, ", ")
	values = strings.Replace(values, "position", fmt.Sprint(to), 1)
	values = strings.Replace(values, "epoch",
		fmt.Sprintf("(SELECT epoch FROM tailroom.events WHERE position < %d ORDER BY position DESC LIMIT 1)", to), 1)
	for i := 0; i < len(changes); i += 2 {
		values = strings.Replace(values, " "+changes[i]+",", " "+changes[i+1]+",", 1)
	}
	return fmt.Sprintf("INSERT INTO tailroom.events (%s) SELECT %s FROM tailroom.events WHERE position = %d;",
		strings.Join(columns, ", "), values, position)
}

const know = "INSERT INTO tailroom.recent_ids_1 SELECT tenant, id, position FROM tailroom.events WHERE position = %d;"

func deletion(position int64) string {
	return fmt.Sprintf("DELETE FROM tailroom.events WHERE position = %d;", position)
}

// found is how many faults there are of each kind.
type found map[verify.Kind]int64

// some is more than one, however many.
const some = -1

// plant is a fault: how to make it, and where it must be found.
type plant struct {
	sql   func(m marked) string
	later bool // while the log is being verified, after its events were read
	want  found
	place func(m marked) verify.Place // of the first kind of want; what is not empty
}

var plants = map[string]plant{
	"an event is missing": {
		sql:   func(m marked) string { return deletion(m.lone[0]) },
		want:  found{verify.IDDangling: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[0], CompanyID: "c1"} },
	},
	"an event of a stream is missing": {
		sql:   func(m marked) string { return deletion(m.planted[2]) },
		want:  found{verify.VersionMissing: 1, verify.IDDangling: 1},
		place: func(m marked) verify.Place { return stream(m.planted[3], "version 3", "version 4") },
	},
	"the last event of a stream is missing": {
		sql:   func(m marked) string { return deletion(m.planted[4]) },
		want:  found{verify.HeadAhead: 1, verify.IDDangling: 1},
		place: func(m marked) verify.Place { return stream(m.planted[3], "version 4", "version 5") },
	},
	"an event is missing in a partition that was counted": {
		sql:  func(m marked) string { return deletion(m.old) },
		want: found{verify.PartitionCount: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.sealed, UpTo: m.sealed + partitionSize - 1, Expected: "400 events", Found: "399 events"}
		},
	},
	"an id is twice": {
		sql:  func(m marked) string { return copyOf(m.lone[0], m.hole) },
		want: found{verify.IDRepeated: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: max(m.hole, m.lone[0]), CompanyID: "c1", Expected: "once"}
		},
	},
	"an id is twice within a window that is over": {
		sql: func(m marked) string {
			return deletion(m.old+3) + copyOf(m.old, m.old+3)
		},
		want:  found{verify.IDRepeated: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.old + 3} },
	},
	"a version is skipped": {
		sql: func(m marked) string {
			return fmt.Sprintf(`UPDATE tailroom.events SET version = 6 WHERE position = %d;
				UPDATE tailroom.streams SET version = 6 WHERE stream = 'order:planted';`, m.planted[4])
		},
		want:  found{verify.VersionMissing: 1},
		place: func(m marked) verify.Place { return stream(m.planted[4], "version 5", "version 6") },
	},
	"a version is twice": {
		sql: func(m marked) string {
			return copyOf(m.planted[1], m.hole, "id", "gen_random_uuid()") + fmt.Sprintf(know, m.hole)
		},
		want: found{verify.VersionRepeated: 1},
		place: func(m marked) verify.Place {
			return stream(m.hole, "version 2 once", fmt.Sprintf("also at %d", m.planted[1]))
		},
	},
	"versions are inverted": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.events SET version = 5 - version WHERE position IN (%d, %d);", m.planted[1], m.planted[2])
		},
		want: found{verify.VersionOrder: 1},
		place: func(m marked) verify.Place {
			return stream(m.planted[1], fmt.Sprintf("version 3 above version 2, at %d", m.planted[2]), "")
		},
	},
	"versions are inverted from one partition to the next": {
		sql: func(m marked) string {
			return fmt.Sprintf(`UPDATE tailroom.events SET version = 6 - version WHERE position IN (%d, %d);
				UPDATE tailroom.streams SET last_position = %d WHERE stream = 'order:planted';`, m.planted[0], m.planted[4], m.planted[0])
		},
		want: found{verify.VersionOrder: 2}, // 5 comes before 4, and 2 before 1
		place: func(m marked) verify.Place {
			return stream(m.planted[1], fmt.Sprintf("version 2 above version 1, at %d", m.planted[4]), "")
		},
	},
	"a head is behind": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.streams SET version = 4, last_position = %d WHERE stream = 'order:planted'", m.planted[3])
		},
		want:  found{verify.HeadBehind: 1},
		place: func(m marked) verify.Place { return stream(m.planted[4], "version 5", "version 4") },
	},
	"a head is ahead": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.streams SET version = 6, last_position = %d WHERE stream = 'order:planted'", m.tip)
		},
		want:  found{verify.HeadAhead: 1},
		place: func(m marked) verify.Place { return stream(m.planted[4], "version 5", "version 6") },
	},
	"a head is missing": {
		sql:   func(marked) string { return "DELETE FROM tailroom.streams WHERE stream = 'order:planted'" },
		want:  found{verify.HeadMissing: 1},
		place: func(m marked) verify.Place { return stream(m.planted[4], "version 5", "no head") },
	},
	"a head has no events": {
		sql: func(m marked) string {
			return fmt.Sprintf("INSERT INTO tailroom.streams VALUES ('c1', '/orders', 'order:nobody', 3, %d)", m.lone[0])
		},
		want: found{verify.HeadWithoutEvents: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.lone[0], CompanyID: "c1", Namespace: "/orders", Stream: "order:nobody"}
		},
	},
	"the last head has no events": {
		sql: func(m marked) string {
			return fmt.Sprintf("INSERT INTO tailroom.streams VALUES ('z', '/z', 'z:z', 3, %d)", m.lone[0])
		},
		want:  found{verify.HeadWithoutEvents: 1},
		place: func(marked) verify.Place { return verify.Place{CompanyID: "z", Namespace: "/z", Stream: "z:z"} },
	},
	"a head has another position": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.streams SET last_position = %d WHERE stream = 'order:planted'", m.lone[0])
		},
		want: found{verify.HeadElsewhere: 1},
		place: func(m marked) verify.Place {
			return stream(m.planted[4], fmt.Sprintf("last_position %d", m.planted[4]), fmt.Sprintf("last_position %d", m.lone[0]))
		},
	},
	"a stream has two heads": {
		sql: func(m marked) string {
			return fmt.Sprintf("INSERT INTO tailroom.streams VALUES ('c1', '/orders', 'order:planted', 4, %d)", m.planted[3])
		},
		want:  found{verify.HeadRepeated: 1},
		place: func(m marked) verify.Place { return stream(m.planted[4], "one head", "2 heads") },
	},
	"the window points to another event": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.recent_ids_1 SET position = %d WHERE position = %d", m.lone[1], m.lone[0])
		},
		want:  found{verify.IDElsewhere: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[1], CompanyID: "c1"} },
	},
	"the window points above the log": {
		sql: func(m marked) string {
			return fmt.Sprintf("INSERT INTO tailroom.recent_ids_1 VALUES ('c1', gen_random_uuid(), %d)", m.tip+1)
		},
		want:  found{verify.IDDangling: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.tip + 1} },
	},
	"the window does not know a young event": {
		sql: func(m marked) string {
			return fmt.Sprintf("DELETE FROM tailroom.recent_ids_1 WHERE position = %d", m.lone[0])
		},
		want:  found{verify.IDUnknown: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[0], CompanyID: "c1"} },
	},
	"the window knows nothing": {
		sql:  func(marked) string { return "TRUNCATE tailroom.recent_ids_0, tailroom.recent_ids_1" },
		want: found{verify.IDUnknown: some}, // since the last rotation
	},
	"the window does not know an event of its older half": {
		sql: func(m marked) string {
			return fmt.Sprintf("DELETE FROM tailroom.recent_ids_0 WHERE position = %d", m.older)
		},
		want:  found{verify.IDUnknown: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.older} },
	},
	"the window knows an id twice": {
		sql: func(m marked) string {
			return fmt.Sprintf("INSERT INTO tailroom.recent_ids_0 SELECT tenant, id, position FROM tailroom.recent_ids_1 WHERE position = %d", m.lone[0])
		},
		want:  found{verify.IDKnownTwice: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[0], CompanyID: "c1"} },
	},
	"an event is of another epoch": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.events SET epoch = 2 WHERE position = %d", m.lone[0])
		},
		want: found{verify.EpochWrong: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.lone[0], Expected: "epoch 7", Found: "epoch 2"}
		},
	},
	"an epoch is forgotten": {
		sql:  func(marked) string { return "DELETE FROM tailroom.epochs WHERE epoch = 7" },
		want: found{verify.EpochWrong: some}, // since it began
	},
	"an event is above the sequence": {
		sql: func(m marked) string {
			return copyOf(m.lone[0], m.tip+5, "id", "gen_random_uuid()") + fmt.Sprintf(know, m.tip+5)
		},
		want:  found{verify.PositionUnnumbered: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.tip + 5} },
	},
	"an event is in another company's room": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.events SET rooms = '{branch:b1,company:c2}' WHERE position = %d", m.lone[0])
		},
		want: found{verify.RoomForeign: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.lone[0], CompanyID: "c1", Expected: "company:c1", Found: "company:c2"}
		},
	},
	"an event is in a room that is none": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.events SET rooms = '{branch_7}' WHERE position = %d", m.lone[0])
		},
		want:  found{verify.EventMalformed: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[0], Found: "branch_7"} },
	},
	"an event has a version and no stream": {
		sql: func(m marked) string {
			return fmt.Sprintf("ALTER TABLE tailroom.events DROP CONSTRAINT events_check; UPDATE tailroom.events SET version = 1 WHERE position = %d", m.lone[0])
		},
		want: found{verify.EventMalformed: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.lone[0], Expected: "a stream and a version, or neither"}
		},
	},
	"an event has a stream and no version": {
		sql: func(m marked) string {
			return fmt.Sprintf("ALTER TABLE tailroom.events DROP CONSTRAINT events_check; UPDATE tailroom.events SET version = NULL WHERE position = %d",
				m.planted[1])
		},
		want:  found{verify.EventMalformed: 1, verify.VersionMissing: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.planted[1], Found: "one of them"} },
	},
	"an event has no room": {
		sql: func(m marked) string {
			return fmt.Sprintf(`ALTER TABLE tailroom.events DROP CONSTRAINT events_rooms_check, ALTER first_room DROP NOT NULL;
				UPDATE tailroom.events SET rooms = '{}' WHERE position = %d`, m.lone[0])
		},
		want: found{verify.EventMalformed: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.lone[0], Expected: "a room", Found: "none"}
		},
	},
	"an event has no version that can be": {
		sql: func(m marked) string {
			return copyOf(m.planted[0], m.hole, "id", "gen_random_uuid()", "stream", "'order:zero'", "version", "0") + fmt.Sprintf(know, m.hole) +
				fmt.Sprintf("INSERT INTO tailroom.streams VALUES ('c1', '/orders', 'order:zero', 0, %d)", m.hole)
		},
		want:  found{verify.EventMalformed: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.hole, Expected: "a version from 1"} },
	},
	"an event appears behind the tip": {
		sql:   func(m marked) string { return copyOf(m.lone[0], m.hole, "id", "gen_random_uuid()") },
		later: true,
		want:  found{verify.EventAppeared: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.hole, CompanyID: "c1"} },
	},
	"two events appear behind the tip": {
		sql: func(m marked) string {
			return copyOf(m.lone[0], m.hole, "id", "gen_random_uuid()") + copyOf(m.lone[0], m.hole+1, "id", "gen_random_uuid()")
		},
		later: true,
		want:  found{verify.EventAppeared: 2},
	},
	"an event vanishes": {
		sql:   func(m marked) string { return deletion(m.lone[0]) },
		later: true,
		want:  found{verify.EventVanished: 1},
		place: func(m marked) verify.Place { return verify.Place{Position: m.lone[0]} },
	},
	"an event moves": {
		sql:   func(m marked) string { return copyOf(m.lone[0], m.hole) + deletion(m.lone[0]) },
		later: true,
		want:  found{verify.EventMoved: 1},
	},
	"an event changes": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.events SET actor = 'nobody' WHERE position = %d", m.lone[0])
		},
		later: true,
		want:  found{verify.EventChanged: 1},
	},
	"a partition is not listed as it is": {
		sql: func(m marked) string {
			return fmt.Sprintf("UPDATE tailroom.partitions SET beyond = beyond + 1 WHERE first = %d", m.sealed)
		},
		want: found{verify.PartitionMisplaced: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.sealed, Partition: fmt.Sprintf("events_%d", m.sealed)}
		},
	},
	"a partition is not listed": {
		sql: func(m marked) string {
			return fmt.Sprintf("DELETE FROM tailroom.partitions WHERE first = %d", m.sealed)
		},
		want: found{verify.PartitionMisplaced: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.sealed, Expected: "a partition that is listed"}
		},
	},
	"a partition is gone without a trace": {
		sql: func(m marked) string {
			next := m.sealed + partitionSize
			return fmt.Sprintf("DROP TABLE tailroom.events_%d; DELETE FROM tailroom.partitions WHERE first = %d", next, next)
		},
		want: found{verify.PartitionMisplaced: 1, verify.VersionMissing: some, verify.HeadWithoutEvents: some, verify.HeadAhead: some},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.sealed + 2*partitionSize, Expected: fmt.Sprintf("a partition that begins at %d", m.sealed+partitionSize)}
		},
	},
	"a partition is listed and not there": {
		sql: func(marked) string {
			return `DO $$ BEGIN
				EXECUTE 'DROP TABLE tailroom.' || (SELECT name FROM tailroom.partitions ORDER BY first DESC LIMIT 1);
			END $$`
		},
		want: found{verify.PartitionMisplaced: 1},
	},
	"a partition holds a position of another": {
		// PostgreSQL takes the word of a constraint that it believes to be checked.
		sql: func(m marked) string {
			name := fmt.Sprintf("tailroom.events_%d", m.sealed)
			return fmt.Sprintf("ALTER TABLE tailroom.events DETACH PARTITION %[1]s; ALTER TABLE %[1]s DROP CONSTRAINT recorded_within;", name) +
				strings.Replace(copyOf(m.lone[0], m.hole, "id", "gen_random_uuid()"), "tailroom.events ", name+" ", 1) +
				fmt.Sprintf(`ALTER TABLE %[1]s ADD CONSTRAINT own CHECK (position >= %[2]d AND position < %[3]d) NOT VALID;
					UPDATE pg_constraint SET convalidated = true WHERE conname = 'own';
					ALTER TABLE tailroom.events ATTACH PARTITION %[1]s FOR VALUES FROM (%[2]d) TO (%[3]d)`, name, m.sealed, m.sealed+partitionSize)
		},
		want: found{verify.PartitionOverflow: 1},
		place: func(m marked) verify.Place {
			return verify.Place{Position: m.hole, Partition: fmt.Sprintf("events_%d", m.sealed)}
		},
	},
}

// stream is a place in order:planted.
func stream(position int64, expected, found string) verify.Place {
	return verify.Place{Position: position, CompanyID: "c1", Namespace: "/orders", Stream: "order:planted", Expected: expected, Found: found}
}

func TestRun_FindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	old := newOldLog(t)
	require.Empty(t, old.verify(t).Faults)
	m := old.mark(t)
	old.close()
	for name, p := range plants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := old.clone(t)
			sql, planted := p.sql(m), !p.later
			if planted {
				r.tamper(t, sql)
			}
			report := r.verify(t, func(at verify.Progress) {
				if !planted && at.Step == "ids" {
					planted = true
					r.tamper(t, sql)
				}
			})
			require.True(t, planted)
			require.False(t, report.OK)
			got := found{}
			for _, f := range report.Faults {
				got[f.Kind] = f.Count
				if p.want[f.Kind] == some && f.Count > 1 {
					got[f.Kind] = some
				}
				require.NotEmpty(t, f.Examples)
				require.LessOrEqual(t, len(f.Examples), 10)
			}
			require.Equal(t, p.want, got, "%+v", report.Faults)
			if p.place != nil {
				requirePlace(t, p.place(m), report.Faults)
			}
		})
	}
}

// requirePlace requires that one of the examples is at a place; what is empty in
// it is not compared.
func requirePlace(t *testing.T, want verify.Place, faults []verify.Finding) {
	t.Helper()
	for _, f := range faults {
		for _, at := range f.Examples {
			matches := (want.Position == 0 || at.Position == want.Position) && (want.UpTo == 0 || at.UpTo == want.UpTo)
			for _, text := range [][2]string{
				{want.Partition, at.Partition},
				{want.CompanyID, at.CompanyID},
				{want.Namespace, at.Namespace},
				{want.Stream, at.Stream},
				{want.Expected, at.Expected},
				{want.Found, at.Found},
			} {
				matches = matches && (text[0] == "" || text[0] == text[1])
			}
			if matches {
				return
			}
		}
	}
	require.Failf(t, "not at its place", "%+v is not in %+v", want, faults)
}

// close ends all connections, so that the database can be cloned.
func (r *rig) close() {
	r.stop()
	r.pool.Close()
}

// clone is a copy of a log that is closed.
func (r *rig) clone(t *testing.T) *rig {
	t.Helper()
	config, err := pgx.ParseConfig(r.dsn)
	require.NoError(t, err)
	source := config.Database
	name := strings.ToLower(fmt.Sprintf("%s_%p", source, t))
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "CREATE DATABASE "+name+" TEMPLATE "+source)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := conn.Exec(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		require.NoError(t, err)
		require.NoError(t, conn.Close(context.Background()))
	})
	c := &rig{dsn: strings.Replace(r.dsn, "/"+source+"?", "/"+name+"?", 1)}
	c.pool = pgtest.Pool(t, c.dsn)
	return c
}
