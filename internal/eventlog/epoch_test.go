package eventlog_test

import (
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// lives are what survived, by the number of the epoch that began behind it.
type lives map[int64]int64

func livesOf(list event.Epochs) lives {
	m := lives{}
	for _, e := range list {
		m[e.Number] = e.Survived
	}
	return m
}

func (r *rig) lives(t *testing.T) lives {
	t.Helper()
	list, err := r.log.Epochs(t.Context())
	require.NoError(t, err)
	return livesOf(list)
}

// lose takes away the events above a position, as a failover to a standby that
// lagged does.
func (r *rig) lose(t *testing.T, position int64) {
	t.Helper()
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	for _, sql := range []string{
		"SET LOCAL session_replication_role = replica",
		"DELETE FROM tailroom.events WHERE position > $1",
		"DELETE FROM tailroom.recent_ids_0 WHERE position > $1",
		"SELECT setval('tailroom.positions', $1)",
	} {
		args := []any{position}
		if sql[:3] == "SET" {
			args = nil
		}
		_, err := tx.Exec(t.Context(), sql, args...)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(t.Context()))
}

// knowing is an appender of an instance that has read the log up to there.
func (r *rig) knowing(t *testing.T, epoch, position int64) *instance {
	t.Helper()
	i := r.instance(t)
	i.Tip = func() event.Cursor { return event.Cursor{Epoch: epoch, Position: position} }
	i.start()
	return i
}

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
	require.Equal(t, lives{1: 0}, livesOf(epochs))
	require.Equal(t, "first event", epochs[0].Reason)
	require.WithinDuration(t, time.Now(), epochs[0].OpenedAt, time.Minute)
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
	require.Equal(t, lives{1: 0, 2: 3}, livesOf(epochs))
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

// A log that does not reach what an instance has read of it has lost its end,
// though nothing else tells: a volume that was put back has the same identity.
func TestEpochs_ALogThatIsShorterThanItWas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(5)...)
	r.lose(t, 3)
	one, other := r.knowing(t, 1, 5), r.knowing(t, 1, 4)
	require.Equal(t, event.Cursor{Epoch: 2, Position: 4}, one.append(t, draft(""))[0].Cursor)
	require.Equal(t, event.Cursor{Epoch: 2, Position: 5}, other.append(t, draft(""))[0].Cursor, "known by now")
	require.Equal(t, event.Cursor{Epoch: 2, Position: 6}, one.append(t, draft(""))[0].Cursor, "once opened it stays")
	require.Equal(t, lives{1: 0, 2: 3}, r.lives(t))

	r.knowing(t, 2, 6).append(t, draft("")) // the end, as it should be
	require.Equal(t, lives{1: 0, 2: 3}, r.lives(t))
}

// An instance that has read events of an epoch which the log has never heard of
// saw a life of it that is lost. Its number is not used again.
func TestEpochs_ALostLifeKeepsItsNumber(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(5)...)
	require.Equal(t, event.Cursor{Epoch: 8, Position: 6}, r.knowing(t, 7, 4).append(t, draft(""))[0].Cursor)
	require.Equal(t, lives{1: 0, 8: 5}, r.lives(t))
}

func TestEpochs_ADatabaseMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	require.Equal(t, event.Cursor{Epoch: 3, Position: 1}, r.knowing(t, 2, 50).append(t, draft(""))[0].Cursor)
	require.Equal(t, lives{3: 0}, r.lives(t))
}

// Nobody may be left who knew the numbers that were lost, as when everything was
// stopped to put a dump back. The next number is ahead of them all the same: it
// is at least the log's age in minutes.
func TestEpochs_NumbersGrowWithTheLogsAge(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, draft(""))
	r.exec(t, "UPDATE tailroom.epochs SET opened_at = opened_at - interval '90 minutes'")
	first, err := r.log.OpenEpoch(t.Context(), "a dump of an hour ago", "officer:1")
	require.NoError(t, err)
	require.Equal(t, int64(90), first.Number)
	r.exec(t, "DELETE FROM tailroom.epochs WHERE epoch = 90") // and the same dump again, two minutes later
	r.exec(t, "UPDATE tailroom.epochs SET opened_at = opened_at - interval '2 minutes'")
	second, err := r.log.OpenEpoch(t.Context(), "and again", "officer:1")
	require.NoError(t, err)
	require.Equal(t, int64(92), second.Number)
}

func TestOpenEpoch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, drafts(3)...)
	r.exec(t, "SELECT setval('tailroom.positions', 36)")
	opened, err := r.log.OpenEpoch(t.Context(), "the volume of noon was put back", "officer:1")
	require.NoError(t, err)
	require.Equal(t, int64(2), opened.Number)
	require.Equal(t, int64(3), opened.Survived)
	require.Equal(t, "the volume of noon was put back", opened.Reason)
	told := r.all(t)[3]
	require.Equal(t, event.Cursor{Epoch: 2, Position: 4}, told.Cursor, "whatever the sequence says")
	require.Equal(t, []any{"/system", "epochOpened", "*", []string{"company:*"}, "officer:1"},
		[]any{told.Namespace, told.Type, told.Tenant, told.Rooms, told.Actor})
	require.JSONEq(t, `{"epoch":2,"survived":3,"reason":"the volume of noon was put back","actor":"officer:1"}`, string(told.Data))
	require.Equal(t, event.Cursor{Epoch: 2, Position: 5}, a.append(t, draft(""))[0].Cursor)
	require.Equal(t, lives{1: 0, 2: 3}, r.lives(t))
}

// What was appended behind the loss before anybody noticed belongs to the new
// epoch: a cursor of the old one that lies there is of what was lost.
func TestForsake(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	a.append(t, drafts(8)...)
	loss := event.Loss{Survived: 5, Known: 6, Newest: 1, Reason: "an event is another one"}
	before := r.all(t)
	done, err := r.log.Forsake(t.Context(), loss)
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, lives{1: 0, 7: 5}, r.lives(t))
	epochs, err := r.log.Epochs(t.Context())
	require.NoError(t, err)
	for i, e := range r.all(t) {
		require.Equal(t, epochs.At(e.Cursor.Position), e.Cursor)
		e.Cursor.Epoch = 1
		require.Equal(t, before[i].Event, e.Event, "nothing else has changed")
	}
	require.Equal(t, event.Cursor{Epoch: 7, Position: 9}, a.append(t, draft(""))[0].Cursor)

	done, err = r.log.Forsake(t.Context(), loss)
	require.NoError(t, err)
	require.False(t, done, "1 is not the newest any more")
	require.Equal(t, lives{1: 0, 7: 5}, r.lives(t))
	_, err = r.pool.Exec(t.Context(), "UPDATE tailroom.events SET epoch = 1")
	require.ErrorContains(t, err, "append-only", "the door is closed behind it")
}

// However much has to be taken over, the epoch is opened: cut short it would be
// tried again for ever, while nothing can be appended.
func TestForsake_TakesItsTime(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(400)...)
	log := eventlog.New(pgtest.Pool(t, r.dsn+"&statement_timeout=2000"))
	_, err := log.Epochs(t.Context())
	require.NoError(t, err, "what is short has time enough")
	release := r.holdLock(t) // so that it takes longer
	done := make(chan error, 1)
	go func() {
		_, err := log.Forsake(t.Context(), event.Loss{Survived: 5, Known: 1, Newest: 1, Reason: "an event is another one"})
		done <- err
	}()
	r.awaitQueue(t, 1)
	_, err = r.pool.Exec(t.Context(), "SELECT pg_sleep(2.5)") // the database's time
	require.NoError(t, err)
	release()
	require.NoError(t, <-done)
	require.Equal(t, lives{1: 0, 2: 5}, r.lives(t))
}

// An instance's role may open an epoch, and not spoil their numbers.
func TestForsake_WithinBounds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(3)...)
	for _, loss := range []event.Loss{
		{Survived: 2, Known: math.MaxInt64 - 1, Newest: 1, Reason: "x"},
		{Survived: -1, Known: 1, Newest: 1, Reason: "x"},
	} {
		_, err := r.log.Forsake(t.Context(), loss)
		require.ErrorContains(t, err, "TR015")
	}
	require.Equal(t, lives{1: 0}, r.lives(t))
}

// Of several instances that notice at once, one opens the epoch.
func TestForsake_Together(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(8)...)
	release := r.holdLock(t)
	var all errgroup.Group
	done := make(chan bool, 2)
	for survived := range int64(2) {
		all.Go(func() error {
			first, err := r.log.Forsake(t.Context(), event.Loss{Survived: 5 + survived, Known: 1, Newest: 1, Reason: "at once"})
			done <- first
			return err
		})
	}
	r.await(t, `SELECT count(*) = 2 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 1
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	release()
	require.NoError(t, all.Wait())
	close(done)
	winners := 0
	for first := range done {
		if first {
			winners++
		}
	}
	require.Equal(t, 1, winners)
	require.Len(t, r.lives(t), 2)
}

func TestForsake_BeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	done, err := r.log.Forsake(t.Context(), event.Loss{Known: 3, Reason: "the database is empty"})
	require.NoError(t, err)
	require.True(t, done)
	require.Equal(t, lives{4: 0}, r.lives(t))
}

func TestAgreed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := r.running(t)
	for range 40 {
		a.append(t, draft(""))
	}
	read := r.all(t)
	agreed := func(entries []*event.Entry) int64 {
		position, err := r.log.Agreed(t.Context(), entries)
		require.NoError(t, err)
		return position
	}
	require.Equal(t, int64(40), agreed(read))
	require.Equal(t, int64(17), agreed(read[16:17]))
	for survived := int64(39); survived > 20; survived-- {
		r.lose(t, survived)
		require.Equal(t, survived, agreed(read[10:]), "gone")
		for range random(survived) {
			a.append(t, draft(""))
		}
		require.Equal(t, survived, agreed(read[10:]), "and others in their place")
		require.Equal(t, survived, agreed(read[survived-1:]))
	}
	r.lose(t, 8)
	require.Equal(t, int64(8), agreed(read[10:]), "deeper than what was read")
	a.append(t, drafts(5)...)
	require.Equal(t, int64(8), agreed(read[10:]), "what is younger than what was lost did not survive")
	r.exec(t, "UPDATE tailroom.log SET floor = 60")
	require.Equal(t, int64(40), agreed(read), "nobody can tell")
}

// random is how many events are appended after a loss: some fewer than were
// lost, some more.
func random(survived int64) int64 { return (survived * 7) % 30 }

func TestAgreed_ALogThatIsAway(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, drafts(3)...)
	read := r.all(t)
	r.pool.Close()
	_, err := r.log.Agreed(t.Context(), read)
	require.Error(t, err)
}

// Only the two columns that must be can be changed, and only where the
// transaction has said which.
func TestAppendOnly_TwoDoors(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, draft("order:1"), draft(""))
	columns := map[string]string{
		"position": "position + 1", "epoch": "epoch + 1", "id": "gen_random_uuid()", "tenant": "'other'", "namespace": "'/other'",
		"type": "'other'", "schema_version": "9", "rooms": "'{company:x}'", "stream": "nullif('x', version::text)",
		"version": "version + 1", "occurred_at": "now()", "recorded_at": "now()", "actor": "'other'", "correlation_id": "'other'",
		"causation_id": "gen_random_uuid()", "reply_by": "now()", "data": `'{"other": 1}'`,
	}
	require.Equal(t, value[int](t, r, `SELECT count(*)::integer FROM pg_attribute WHERE attrelid = 'tailroom.events'::regclass
		AND attnum > 0 AND NOT attisdropped AND attgenerated = ''`), len(columns))
	for change, door := range map[string]string{"epoch": "epoch", "redact": "data", "": "", "data": ""} {
		for column, other := range columns {
			statements := []string{"UPDATE tailroom.events SET " + column + " = " + other + " WHERE version = 1"}
			if column == door {
				for too := range columns {
					if too != column {
						statements = append(statements, statements[0][:len(statements[0])-len(" WHERE version = 1")]+", "+too+" = "+columns[too]+" WHERE version = 1")
					}
				}
			}
			for n, sql := range statements {
				err := r.changing(t, change, sql)
				if n == 0 && column == door {
					require.NoError(t, err, "%s: %s", change, sql)
					continue
				}
				requireRefused(t, err, sql)
			}
		}
		requireRefused(t, r.changing(t, change, "DELETE FROM tailroom.events"), change)
		requireRefused(t, r.changing(t, change, "TRUNCATE tailroom.events"), change)
	}
}

// changing runs a statement in a transaction that says that it changes
// something, and takes it back.
func (r *rig) changing(t *testing.T, change, sql string) error {
	t.Helper()
	tx, err := r.pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
	_, err = tx.Exec(t.Context(), "SELECT set_config('tailroom.change', $1, true)", change)
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), sql)
	return err
}

func requireRefused(t *testing.T, err error, what string) {
	t.Helper()
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal, what)
	require.Equal(t, "TR002", refusal.Code, what)
}

// An instance may open an epoch, and change nothing by itself.
func TestEpochs_RightsOfAWriter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.running(t).append(t, draft(""))
	as := func(role, sql string) error {
		tx, err := r.pool.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
		_, err = tx.Exec(t.Context(), "SET LOCAL ROLE "+role)
		require.NoError(t, err)
		_, err = tx.Exec(t.Context(), sql)
		return err
	}
	const open = "SELECT tailroom.epoch_open(0, 1, 'a loss', 1)"
	require.NoError(t, as("tailroom_writer", open))
	require.NoError(t, as("tailroom_owner", open))
	for _, sql := range []string{
		"SELECT tailroom.epoch_begin(NULL, 1, '')", "SELECT tailroom.epoch_now(1, 1)",
		"SET LOCAL tailroom.change = 'epoch'; UPDATE tailroom.events SET epoch = 2",
		"UPDATE tailroom.epochs SET survived = 0", "INSERT INTO tailroom.epochs VALUES (9, 0, '', '', now())",
	} {
		require.ErrorContains(t, as("tailroom_writer", sql), "permission denied", sql)
	}
	for _, role := range []string{"tailroom_reader", "tailroom_publisher"} {
		require.ErrorContains(t, as(role, open), "permission denied", role)
	}
}

func TestEpochOpen_NeedsReadCommitted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	_, err := r.pool.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT tailroom.epoch_open(NULL, 1, ''); COMMIT")
	var refusal *pgconn.PgError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, "TR003", refusal.Code)
}
