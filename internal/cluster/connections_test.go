package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/session"
)

// epoch is when all sessions begin.
var epoch = time.Date(2026, 1, 31, 18, 30, 0, 123456000, time.UTC)

// report is how a session of c1 in /orders is.
func report(number int64, rooms ...string) session.Report {
	id := fmt.Sprint("s", number)
	return session.Report{
		Number: number, Session: id, Connection: id, Tenant: "c1", Subject: "u", Role: access.Web, Transport: "websocket",
		Address: "127.0.0.1", Rooms: map[string][]string{"/orders": append([]string{}, rooms...)}, Since: epoch,
	}
}

// office is a member with its connections, and how often it was asked for them again.
type office struct {
	*Connections

	member  *Member
	listing *Listing
	reviews int
}

// is notes that a session is so now.
func (o *office) is(r session.Report) { o.Watch(r.Number, func() session.Report { return r }) }

func open(t *testing.T, pool *pgxpool.Pool, name string) *office {
	t.Helper()
	o := &office{member: join(t, pool, name)}
	o.Connections = NewConnections(pool, o.member.Incarnation(), func() { o.reviews++ })
	o.listing = NewListing(pool, eventlog.NewShared(pool).Turn, o.Connections)
	return o
}

// openLiving is open of one that shows itself, and so is not taken for dead.
func openLiving(t *testing.T, pool *pgxpool.Pool, name string) *office {
	t.Helper()
	o := open(t, pool, name)
	run(t, o.member)
	return o
}

func (o *office) counts(t *testing.T) Counts {
	t.Helper()
	counts, _, err := o.listing.Read(t.Context(), Filter{}, Place{}, 1)
	require.NoError(t, err)
	return counts
}

func (o *office) list(t *testing.T, f Filter, after Place, most int) []Connection {
	t.Helper()
	_, list, err := o.listing.Read(t.Context(), f, after, most)
	require.NoError(t, err)
	return list
}

// What changes is seen by all: who comes, who is elsewhere, who goes.
func TestConnections_Show(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one, two := openLiving(t, pool, "one"), openLiving(t, pool, "two")
	require.Equal(t, map[string]int64{"one": 0, "two": 0}, one.counts(t).ByInstance)
	one.is(report(1, "branch:b1"))
	one.is(report(2, "branch:b1", "company:c1"))
	one.is(report(3))
	one.Watch(3, nil)
	two.is(report(1, "branch:b2"))
	require.NoError(t, two.Show(t.Context()))
	counts := one.counts(t)
	require.Equal(t, map[string]int64{"one": 2, "two": 1}, counts.ByInstance)
	require.Equal(t, int64(3), counts.Total)
	require.Equal(t, map[string]int64{"branch:b1": 2, "company:c1": 1, "branch:b2": 1}, counts.ByRoom)

	moved := report(1, "branch:b3")
	moved.Role, moved.Engine = access.Service, &session.Engine{Transport: "polling", Version: 4}
	one.is(moved)
	one.Watch(2, nil)
	counts = one.counts(t)
	require.Equal(t, map[string]int64{"branch:b3": 1, "branch:b2": 1}, counts.ByRoom)
	require.Equal(t, map[string]int64{"service": 1, "web": 1}, counts.ByRole)
	list := two.list(t, Filter{Instance: "one"}, Place{}, 10)
	require.Len(t, list, 1)
	require.Equal(t, moved.Engine, list[0].Engine)
	require.True(t, epoch.Equal(list[0].Since))
}

// What the database has forgotten is asked for again, once: with a crash of its own, or
// because the others took the instance for dead.
func TestConnections_Forgotten(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := open(t, pool, "one")
	show := func(number int64) (numbers []int64) {
		o.is(report(number))
		require.NoError(t, o.Show(t.Context()))
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT array_agg(number ORDER BY number) FROM tailroom.connections ").Scan(&numbers))
		return numbers
	}
	require.Equal(t, []int64{1}, show(1))
	require.Equal(t, 1, o.reviews, "the first time")
	require.Equal(t, []int64{1, 2}, show(2))
	require.Equal(t, 1, o.reviews)

	_, err := pool.Exec(t.Context(), "TRUNCATE tailroom.connection_showings CASCADE") // as a crash does
	require.NoError(t, err)
	require.Equal(t, []int64{3}, show(3))
	require.Equal(t, 2, o.reviews)

	o.member.Leave(t.Context())
	o.is(report(4))
	require.ErrorIs(t, o.Show(t.Context()), errUnknown)
	require.NoError(t, o.member.beat(t.Context()))
	require.Equal(t, []int64{4, 5}, show(5))
	require.Equal(t, 3, o.reviews)
}

// An instance that is dead has no connections, and leaves none behind.
func TestConnections_OfTheDead(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	live, dead := openLiving(t, pool, "live"), open(t, pool, "dead")
	seen := func(when string) {
		_, err := pool.Exec(t.Context(), "UPDATE tailroom.instances SET seen_at = now() + $1::text::interval WHERE name = 'dead'", when)
		require.NoError(t, err)
	}
	seen("1 hour")
	dead.is(report(1))
	require.NoError(t, dead.Show(t.Context()))
	require.Equal(t, int64(1), live.counts(t).Total)
	seen("-6 seconds")
	counts := live.counts(t)
	require.Zero(t, counts.Total)
	require.Equal(t, map[string]int64{"live": 0}, counts.ByInstance)
	require.Empty(t, live.list(t, Filter{}, Place{}, 1))
	dead.member.Leave(t.Context())
	var left int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.connections ").Scan(&left))
	require.Zero(t, left)
}

// What could not be shown waits, and what is newer wins.
func TestConnections_NotShown(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := openLiving(t, pool, "one")
	for number := range int64(maxShown + 1) {
		o.is(report(number + 1))
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, o.Show(gone))
	due := o.take()
	require.Len(t, due, maxShown+1)
	o.is(report(1, "branch:b9"))
	o.Watch(2, nil)
	o.putBack(due)
	counts := o.counts(t)
	require.Equal(t, int64(maxShown), counts.Total)
	require.Equal(t, map[string]int64{"branch:b9": 1}, counts.ByRoom)
}

// However many rooms sessions have joined, what is shown at once stays small.
func TestConnections_ManyRooms(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := openLiving(t, pool, "one")
	rooms := make([]string, 1000)
	for n := range rooms {
		rooms[n] = fmt.Sprintf("branch:%064d", n)
	}
	const sessions = 50
	for number := range int64(sessions) {
		o.is(report(number+1, rooms...))
	}
	require.NoError(t, o.Show(t.Context()))
	require.EqualValues(t, sessions*len(rooms)/maxShownRooms+1, o.showing)
	require.Equal(t, int64(sessions), o.counts(t).ByRoom[rooms[0]])
	crowd := report(1, make([]string, maxShownRooms+1)...)
	_, present := changes{1: func() session.Report { return crowd }}.some()
	require.Len(t, present, 1, "nor does it end")
}

// restless is a pool during whose queries other sessions begin.
type restless struct {
	db.DBTX

	during func()
}

func (r restless) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r.during()
	return r.DBTX.QueryRow(ctx, sql, args...)
}

// Who shows what has changed until now comes to an end, whatever changes meanwhile.
func TestConnections_Restless(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := open(t, pool, "one")
	number := int64(0)
	begin := func() {
		for range maxShown {
			number++
			o.is(report(number))
		}
	}
	begin()
	o.pool = restless{pool, begin}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, o.Show(ctx))
	require.EqualValues(t, 1, o.showing)
	require.Len(t, o.take(), maxShown)
}

// cut is a pool whose answers are lost while it says so: what was asked is done.
type cut struct {
	db.DBTX

	lost bool
}

func (c *cut) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	row := c.DBTX.QueryRow(ctx, sql, args...)
	if !c.lost {
		return row
	}
	var answer int64
	return noRow{errors.Join(errCut, row.Scan(&answer))}
}

var errCut = errors.New("the connection was cut")

type noRow struct{ error }

func (r noRow) Scan(...any) error { return r.error }

// away is a pool of a database that cannot be reached.
type away struct {
	db.DBTX

	asked int
}

func (a *away) QueryRow(context.Context, string, ...any) pgx.Row {
	a.asked++
	return noRow{errCut}
}

// What could not be shown is tried again every second, whether or not anything changes.
func TestConnections_Away(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pool := &away{}
		ctx, cancel := context.WithTimeout(t.Context(), 2*showPause+showPause/2)
		defer cancel()
		require.NoError(t, NewConnections(pool, uuid.New(), nil).Run(ctx))
		require.Equal(t, 3, pool.asked)
	})
}

// That the database has forgotten is learnt although the answer that says so is lost, and
// once.
func TestConnections_ForgottenAndCut(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := open(t, pool, "one")
	line := &cut{DBTX: pool}
	o.pool = line
	show := func(lost bool) {
		line.lost = lost
		if err := o.Show(t.Context()); lost {
			require.EqualError(t, err, "showing who is connected: "+errCut.Error())
		} else {
			require.NoError(t, err)
		}
	}
	show(false)
	require.Equal(t, 1, o.reviews)
	show(true)
	show(false)
	require.Equal(t, 1, o.reviews, "nothing was forgotten")
	_, err := pool.Exec(t.Context(), "TRUNCATE tailroom.connection_showings CASCADE")
	require.NoError(t, err)
	show(true)
	require.Equal(t, 1, o.reviews, "nobody has heard of it")
	show(false)
	show(false)
	require.Equal(t, 2, o.reviews)
}

// awaitLock waits until somebody waits for a lock.
func awaitLock(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	require.Eventually(t, func() (waits bool) {
		err := pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`).Scan(&waits)
		return err == nil && waits
	}, time.Minute, 10*time.Millisecond)
}

// A showing that was given up and comes late changes nothing: not when a later one is
// there, nor when it waits for that.
func TestConnections_Late(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := open(t, pool, "one")
	o.is(report(1))
	require.NoError(t, o.Show(t.Context()))
	o.showing += 2 // given up
	late := func(showing int64) db.ConnectionsShowParams {
		return db.ConnectionsShowParams{
			Incarnation: o.instance, Showing: showing, Ended: []int64{},
			Sessions: []byte(`[{"number": 1, "session": "s1", "connection": "s1", "tenant": "c1", "subject": "late", "role": "web", "transport": "sse",
				"address": "", "client": "", "version": "", "consumer": "", "rooms": {}, "since": "2026-01-31T18:30:00Z"}]`),
		}
	}
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	meanwhile := make(chan error, 1)
	o.pool = tx
	o.Watch(1, nil)
	require.NoError(t, o.Show(t.Context()))
	go func() {
		_, err := db.New().ConnectionsShow(t.Context(), pool, late(o.showing-1))
		meanwhile <- err
	}()
	awaitLock(t, pool)
	require.NoError(t, tx.Commit(t.Context()))
	const again = "the instance has shown its connections again since then"
	require.ErrorContains(t, <-meanwhile, again)
	_, err = db.New().ConnectionsShow(t.Context(), pool, late(o.showing-2))
	require.ErrorContains(t, err, again)
	var left int
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM tailroom.connections").Scan(&left))
	require.Zero(t, left)
}

// A reader who leaves costs the database no connection.
func TestConnections_ReaderLeaves(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := open(t, pool, "one")
	o.is(report(1))
	require.NoError(t, o.Show(t.Context()))
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	defer func() { _ = tx.Rollback(context.Background()) }()
	_, err = tx.Exec(t.Context(), "SELECT FROM tailroom.connection_showings FOR UPDATE")
	require.NoError(t, err)
	reader, leaves := context.WithCancel(t.Context())
	o.is(report(2))
	done := make(chan error, 1)
	go func() { done <- o.Show(reader) }()
	awaitLock(t, pool)
	leaves()
	require.NoError(t, tx.Commit(t.Context()))
	require.NoError(t, <-done)
	require.ErrorIs(t, o.Show(reader), context.Canceled)
}

// A page begins behind the one before, whatever comes and goes meanwhile.
func TestListing_Pages(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	one, two := openLiving(t, pool, "one"), openLiving(t, pool, "two")
	for number := range int64(5) {
		one.is(report(number + 1))
		two.is(report(number + 1))
	}
	require.NoError(t, one.Show(t.Context()))
	require.NoError(t, two.Show(t.Context()))
	seen, after := map[Place]bool{}, Place{}
	for {
		page := one.list(t, Filter{}, after, 3)
		for _, s := range page {
			require.False(t, seen[s.Place])
			seen[s.Place], after = true, s.Place
		}
		if len(page) < 3 {
			break
		}
	}
	require.Len(t, seen, 10)
}

// There can be more rooms than anybody wants to read of: those with the most are told.
func TestListing_ManyRooms(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := openLiving(t, pool, "one")
	var rooms []string
	for n := range MaxRooms + 1 {
		rooms = append(rooms, fmt.Sprintf("branch:b%04d", n))
	}
	o.is(report(1, rooms...))
	o.is(report(2, rooms[MaxRooms]))
	counts := o.counts(t)
	require.Len(t, counts.ByRoom, MaxRooms)
	require.True(t, counts.MoreRooms)
	require.Equal(t, int64(2), counts.ByRoom[rooms[MaxRooms]])
	require.NotContains(t, counts.ByRoom, rooms[MaxRooms-1])
}

// Whatever a client calls itself, it is shown.
func TestConnections_StrangeTexts(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	o := openLiving(t, pool, "one")
	strange := report(1, "branch:b1")
	strange.Client, strange.Subject = `"; DROP TABLE x; --\ `+strings.Repeat("ü", 200), "a\xffb"
	o.is(strange)
	list := o.list(t, Filter{}, Place{}, 2)
	require.Len(t, list, 1)
	require.Equal(t, strange.Client, list[0].Client)
	text, err := json.Marshal(list[0].Subject)
	require.NoError(t, err)
	require.Equal(t, `"a\ufffdb"`, strings.ReplaceAll(string(text), "�", `\ufffd`))
}
