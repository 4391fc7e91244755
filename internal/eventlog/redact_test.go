package eventlog_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

const personal = `{"name":"Ada Example","phone":"+49 30 1234567"}`

// redaction is an order to erase the data at a position.
func redaction(position int64) eventlog.Redaction {
	return eventlog.Redaction{Position: position, Reason: "request 17", Actor: "officer:1", Replacement: []byte(`{"erased":true}`)}
}

// unchanged is an event without its data and their bytes.
func unchanged(e *event.Entry) event.Event {
	rest := e.Event
	rest.Data = nil
	return rest
}

// The data go, everything else stays, and the log tells of it in an event that
// keeps all that is promised of events.
func TestRedact(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft("order:1"), with(draft("order:1"), data(personal)), draft("order:1"))
	before := r.all(t)

	cursor, err := r.log.Redact(t.Context(), redaction(2))
	require.NoError(t, err)
	require.Equal(t, event.Cursor{Epoch: 1, Position: 4}, cursor)

	after := r.all(t)
	require.Len(t, after, 4)
	require.Equal(t, before[0], after[0])
	require.Equal(t, before[2], after[2])
	require.Equal(t, unchanged(before[1]), unchanged(after[1]))
	require.JSONEq(t, `{"erased":true}`, string(after[1].Data))

	record := after[3]
	require.Equal(t, []any{"/system", "eventRedacted", "c1", []string{"company:c1"}, "", int64(0), "officer:1", record.ID.String()},
		[]any{record.Namespace, record.Type, record.Tenant, record.Rooms, record.Stream, record.Version, record.Actor, record.CorrelationID})
	require.Equal(t, uuid.NullUUID{UUID: before[1].ID, Valid: true}, record.CausationID)
	require.Equal(t, uuid.Version(7), record.ID.Version())
	require.JSONEq(t, fmt.Sprintf(`{"position":2,"cursor":"1-2","id":%q,"namespace":"/orders","type":"newOrder",
		"reason":"request 17","actor":"officer:1"}`, before[1].ID), string(record.Data))
	position, ok := record.Redacts()
	require.True(t, ok)
	require.Equal(t, int64(2), position)

	// The log goes on.
	require.Equal(t, []int64{4}, versions(a.append(t, with(draft("order:1"), expecting(3)))))
	requireConsistent(t, r)
}

func TestRedact_Twice(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, with(draft(""), data(personal)))
	for n := range int64(2) {
		cursor, err := r.log.Redact(t.Context(), redaction(1))
		require.NoError(t, err)
		require.Equal(t, 2+n, cursor.Position)
	}
	require.Len(t, r.all(t), 3)
	require.Equal(t, int64(3), value[int64](t, r, "SELECT record FROM tailroom.redactions"))
	requireConsistent(t, r)
}

// Large data lie beside the table; they are replaced as well, and the append-only
// rule can tell that nothing else was.
func TestRedact_LargeData(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var text strings.Builder
	for range 5000 { // which do not compress
		text.WriteString(uuid.NewString())
	}
	r.running(t).append(t, with(draft("order:1"), data(`{"a":"`+text.String()+`"}`)))
	_, err := r.log.Redact(t.Context(), redaction(1))
	require.NoError(t, err)
	require.JSONEq(t, `{"erased":true}`, string(r.all(t)[0].Data))
}

func TestRedact_Refused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(5)...)
	_, err := r.log.Redact(t.Context(), redaction(3))
	require.NoError(t, err)
	r.exec(t, "UPDATE tailroom.log SET floor = 1")
	before := r.all(t)
	change := func(fn func(*eventlog.Redaction)) eventlog.Redaction {
		order := redaction(2)
		fn(&order)
		return order
	}
	for want, order := range map[string]eventlog.Redaction{
		"no event at position 7":                                redaction(7),
		"the event at position 0 is gone":                       redaction(0),
		"the event at position 1 is gone":                       redaction(1),
		"the event at position 6 tells of what an operator did": redaction(6),
		"reason is 1 to 1000 characters":                        change(func(r *eventlog.Redaction) { r.Reason = "" }),
		"reason is 1 to 1000 characters that say why":           change(func(r *eventlog.Redaction) { r.Reason = " \n" }),
		"reason is 1 to 1000":                                   change(func(r *eventlog.Redaction) { r.Reason = strings.Repeat("x", 1001) }),
		"actor is 1 to 300 printable characters":                change(func(r *eventlog.Redaction) { r.Actor = "" }),
		"actor is 1 to 300 printable characters that":           change(func(r *eventlog.Redaction) { r.Actor = "  " }),
		"actor is 1 to 300 printable":                           change(func(r *eventlog.Redaction) { r.Actor = "a\nb" }),
		"actor is 1 to 300":                                     change(func(r *eventlog.Redaction) { r.Actor = strings.Repeat("x", 301) }),
		"data is a JSON object, not a JSON array":               change(func(r *eventlog.Redaction) { r.Replacement = []byte("[]") }),
		"data is a JSON object, not null":                       change(func(r *eventlog.Redaction) { r.Replacement = nil }),
		"at most 262144 bytes": change(func(r *eventlog.Redaction) {
			r.Replacement = []byte(`{"a":"` + strings.Repeat("x", 262144) + `"}`)
		}),
	} {
		_, err := r.log.Redact(t.Context(), order)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "SQLSTATE")
	}
	require.Equal(t, before, r.all(t))
}

// within is how a transaction of some statements ends: with the error of the first
// that fails. Nothing of it stays.
func (r *rig) within(t *testing.T, statements ...string) error {
	t.Helper()
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(t.Context()) }()
	for _, statement := range statements {
		if _, err := tx.Exec(t.Context(), statement); err != nil {
			return err
		}
	}
	return nil
}

// An older snapshot than the lock would not do.
func TestRedact_OnlyReadCommitted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, draft(""))
	const redact = "SELECT tailroom.redact(1, 'asked for', 'officer:1')"
	require.NoError(t, r.within(t, redact))
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		requireState(t, r.within(t, "SET TRANSACTION ISOLATION LEVEL "+level, redact), "TR003")
	}
}

// It waits for its turn behind the appends, and holds no row that one might want
// meanwhile. The event and the one that tells of it change at once.
func TestRedact_TakesTheAppendLockFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, with(draft(""), data(personal)))
	release := r.holdLock(t)
	done := make(chan error, 1)
	go func() {
		_, err := r.log.Redact(t.Context(), redaction(1))
		done <- err
	}()
	r.awaitQueue(t, 1)
	require.Zero(t, value[int](t, r, `SELECT count(*) FROM pg_locks
		WHERE relation = 'tailroom.events_1'::regclass AND mode = 'RowExclusiveLock'`))
	require.JSONEq(t, personal, string(r.all(t)[0].Data))
	release()
	require.NoError(t, <-done)
}

// The change that a redaction may make is not open to what else happens in its
// transaction, and is of the data alone.
func TestRedact_ClosesTheDoorBehindIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(2)...)
	requireState(t, r.within(t, "SELECT tailroom.redact(1, 'asked for', 'officer:1')",
		"UPDATE tailroom.events SET data = '{}' WHERE position = 2"), "TR002")
	for _, change := range []string{"type = 'other'", "tenant = 'c2'", "data = '{}', actor = 'x'", "rooms = '{branch:b2}'", "recorded_at = now()"} {
		requireState(t, r.within(t, "SET LOCAL tailroom.change = 'redact'", "UPDATE tailroom.events SET "+change), "TR002")
	}
}

// Who repeats the publish of an event whose data were erased meanwhile repeats
// it: his id is known, and what is compared is all but the data.
func TestRedact_RetryOfThePublish(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	group := []event.Draft{with(draft("order:1"), data(personal)), draft("order:1")}
	first := a.append(t, group...)
	_, err := r.log.Redact(t.Context(), redaction(1))
	require.NoError(t, err)
	require.Equal(t, duplicate(first), a.append(t, group...))

	for name, other := range map[string]event.Draft{
		"another type":                     with(group[0], func(d *event.Draft) { d.Type = "orderCancelled" }),
		"another stream":                   with(group[0], func(d *event.Draft) { d.Stream = "order:2" }),
		"data of one that was not erased":  with(group[1], data(personal)),
		"other rooms":                      with(group[0], func(d *event.Draft) { d.Rooms = []string{"branch:b2"} }),
		"another correlation":              with(group[0], func(d *event.Draft) { d.CorrelationID = "x" }),
		"another namespace of the company": with(group[0], namespace("/availability")),
	} {
		_, err := wait(t, a.submit(t, other))
		require.ErrorIs(t, err, eventlog.ErrIDReused, name)
	}
	require.Len(t, r.all(t), 3)
}

// The same with tailroom.append.
func TestRedact_RetryOfAnAppend(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	types, err := json.Marshal([]map[string]any{{
		"namespace": "/orders", "type": "newOrder", "schema_version": 1, "description": "", "publish": []string{},
		"rooms": []string{"branch:{data.branchId}"}, "stream": "branch:{data.branchId}", "schema": map[string]any{},
	}})
	require.NoError(t, err)
	r.exec(t, "SELECT tailroom.mirror_catalogue($1, 262144)", types)
	id := uuid.New()
	retry := func(phone string) (position int64, err error) {
		err = r.pool.QueryRow(t.Context(), `SELECT position FROM tailroom.append('c1', '/orders', 'newOrder',
			jsonb_build_object('branchId', 'b1', 'phone', $1::text), id => $2)`, phone, id).Scan(&position)
		return position, err
	}
	position, err := retry("1")
	require.NoError(t, err)
	require.Equal(t, int64(1), position)
	_, err = retry("2")
	requireState(t, err, "TR016")

	_, err = r.log.Redact(t.Context(), redaction(1))
	require.NoError(t, err)
	position, err = retry("1")
	require.NoError(t, err)
	require.Equal(t, int64(1), position)
	require.Len(t, r.all(t), 2)
}

func TestAt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(3)...)
	e, err := r.log.At(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, r.all(t)[1], e)
	for _, position := range []int64{0, 4} {
		_, err = r.log.At(t.Context(), position)
		require.ErrorIs(t, err, eventlog.ErrNotFound)
	}
}

// What a redaction leaves behind in the table is cleared away.
func TestVacuum(t *testing.T) {
	t.Parallel()
	r := newSmallRig(t, 10)
	r.running(t).append(t, drafts(15)...)
	_, err := r.log.Redact(t.Context(), redaction(12))
	require.NoError(t, err)
	partition, err := r.log.Vacuum(t.Context(), 12)
	require.NoError(t, err)
	require.Equal(t, "events_11", partition)
	require.Equal(t, []string{"events_11"}, value[[]string](t, r, `SELECT array_agg(relname::text) FROM pg_stat_user_tables
		WHERE schemaname = 'tailroom' AND vacuum_count > 0`))
	_, err = r.log.Vacuum(t.Context(), 1_000_000)
	require.ErrorContains(t, err, "partition of position 1000000")
}
