package eventlog_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// plainInsert is what the append is measured against: the same rows into the
// same table with the same indexes, with nothing that makes them a log.
const plainInsert = `
INSERT INTO tailroom.events (position, epoch, id, tenant, namespace, type, schema_version, rooms, stream, version,
    occurred_at, recorded_at, actor, correlation_id, data)
SELECT nextval('plain'), 1, e.id, e.tenant, e.namespace, e.type, e.schema_version, string_to_array(e.rooms, ','),
    e.stream, e.version, e.occurred_at, clock_timestamp(), e.actor, e.correlation_id, e.data
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::bigint[],
        $9::timestamptz[], $10::text[], $11::text[], $12::jsonb[])
    AS e (id, tenant, namespace, type, schema_version, rooms, stream, version, occurred_at, actor, correlation_id, data)`

var benchData = []byte(`{"orderId":"1042","branchId":"b7","currency":"EUR","total":4250,"channel":"web","customer":{"name":"Ada"},` +
	`"lines":[{"sku":"margherita","quantity":2,"unitPrice":1050},{"sku":"tiramisu","quantity":1,"unitPrice":650}]}`)

var benchSerial atomic.Int64

func benchDraft() event.Draft {
	n := benchSerial.Add(1)
	id := uuid.Must(uuid.NewV7())
	return event.Draft{
		ID: id, Tenant: fmt.Sprintf("c%d", n%50), Namespace: "/orders", Type: "newOrder", SchemaVersion: 1,
		Rooms: []string{fmt.Sprintf("branch:b%d", n%200)}, Stream: fmt.Sprintf("order:%d", n),
		OccurredAt: time.Now(), Actor: "service:bench", CorrelationID: id.String(), Data: benchData,
	}
}

// BenchmarkAppend appends groups of some events by some writers at once, and,
// in the same run, the same rows with plain INSERTs over as many connections.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 50, 500} {
		for _, writers := range []int{1, 8, 64} {
			b.Run(fmt.Sprintf("events=%d/writers=%d", size, writers), func(b *testing.B) {
				b.Run("insert", func(b *testing.B) { benchInsert(b, size, writers) })
				b.Run("append", func(b *testing.B) { benchAppend(b, size, writers) })
			})
		}
	}
}

func benchAppend(b *testing.B, size, writers int) {
	b.Helper()
	a := newAppender(b, pgtest.Database(b))
	b.ResetTimer()
	spread(b, writers, func(ctx context.Context) error {
		drafts := make([]event.Draft, size)
		for i := range drafts {
			drafts[i] = benchDraft()
		}
		_, err := a.Append(ctx, nil, drafts)
		return err
	})
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
}

func benchInsert(b *testing.B, size, writers int) {
	b.Helper()
	pool := pgtest.Pool(b, fmt.Sprintf("%s&pool_max_conns=%d", pgtest.Database(b), writers))
	_, err := pool.Exec(b.Context(), "SELECT tailroom.partitions_ahead(3)")
	require.NoError(b, err)
	_, err = pool.Exec(b.Context(), "CREATE SEQUENCE plain")
	require.NoError(b, err)
	conns := make(chan *pgxpool.Conn, writers)
	for range writers {
		conn, err := pool.Acquire(b.Context())
		require.NoError(b, err)
		b.Cleanup(conn.Release)
		conns <- conn
	}
	b.ResetTimer()
	spread(b, writers, func(ctx context.Context) error {
		var ids []uuid.UUID
		var tenants, namespaces, types, rooms, streams, actors, correlations []string
		var schemas []int32
		var versions []int64
		var times []time.Time
		var datas [][]byte
		for range size {
			d := benchDraft()
			ids, tenants, namespaces, types = append(ids, d.ID), append(tenants, d.Tenant), append(namespaces, d.Namespace), append(types, d.Type)
			schemas, rooms, streams = append(schemas, 1), append(rooms, d.Rooms[0]), append(streams, d.Stream)
			versions, times, actors = append(versions, 1), append(times, d.OccurredAt), append(actors, d.Actor)
			correlations, datas = append(correlations, d.CorrelationID), append(datas, d.Data)
		}
		conn := <-conns
		defer func() { conns <- conn }()
		_, err := conn.Exec(ctx, plainInsert, ids, tenants, namespaces, types, schemas, rooms, streams, versions,
			times, actors, correlations, datas)
		return err
	})
	b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
}

// spread runs fn b.N times by some goroutines.
func spread(b *testing.B, writers int, fn func(context.Context) error) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(b.N))
	g, ctx := errgroup.WithContext(b.Context())
	for range writers {
		g.Go(func() error {
			for left.Add(-1) >= 0 {
				if err := fn(ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
}

// newAppender returns a running appender on a database.
func newAppender(tb testing.TB, dsn string) *eventlog.Appender {
	tb.Helper()
	log := eventlog.New(pgtest.Pool(tb, dsn))
	require.NoError(tb, eventlog.MakePartitions(tb.Context(), pgtest.Pool(tb, dsn)))
	a := eventlog.NewAppender(eventlog.AppenderConfig{
		Log: log, Pool: pgtest.Pool(tb, dsn), Timeout: 10 * time.Second, Tip: noTip, Committed: func(int64) {}, NoPartition: func() {},
		Metrics: eventlog.NewAppendMetrics(prometheus.NewRegistry()),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		require.NoError(tb, <-done)
	})
	return a
}

// BenchmarkAppendTalks appends groups of 50 events by eight writers: events that have
// nothing to do with requests, events that might answer one and find none, and pairs
// of a request and its answer, in one group after the other.
func BenchmarkAppendTalks(b *testing.B) {
	const size, writers = 50, 8
	for _, kind := range []string{"neither", "answers to nobody", "requests and answers"} {
		b.Run(kind, func(b *testing.B) {
			a := newAppender(b, pgtest.Database(b))
			var groups atomic.Int64
			b.ResetTimer()
			spread(b, writers, func(ctx context.Context) error {
				asks := groups.Add(1)%2 == 1
				drafts, answers := make([]event.Draft, size), make([]event.Draft, size)
				for i := range drafts {
					drafts[i], answers[i] = benchDraft(), benchDraft()
					answers[i].CorrelationID = drafts[i].CorrelationID
					switch kind {
					case "answers to nobody":
						drafts[i].MayAnswer, answers[i].MayAnswer = true, true
					case "requests and answers":
						drafts[i].ReplyBy, drafts[i].Awaits = time.Now(), &event.Awaited{Type: "newOrder", When: []byte(`{"channel":["web","till"]}`)}
						answers[i].MayAnswer = true
					}
				}
				if _, err := a.Append(ctx, nil, drafts); err != nil || !asks {
					return err
				}
				_, err := a.Append(ctx, nil, answers)
				return err
			})
			b.ReportMetric(float64(b.N*size*3/2)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkAppendWorstTalks appends one group of 500 events, each of a talk of its own
// with a hundred other events: events that have nothing to do with requests, and the
// most that requests can make of an event under the append lock.
func BenchmarkAppendWorstTalks(b *testing.B) {
	const size, others = 500, 100
	for _, worst := range []struct {
		kind     string
		asked    int // open requests of each talk
		answered int // others that await another status
	}{
		{"neither", 0, 0},
		{"none has asked", 0, 0},
		{"each answers one", 1, 0},
		{"each answers the most", eventlog.MaxOpen, 0},
		{"each is held against many answered", 0, others},
	} {
		b.Run(worst.kind, func(b *testing.B) {
			dsn := pgtest.Database(b)
			a := newAppender(b, dsn)
			pool := pgtest.Pool(b, dsn)
			group := func(change func(*event.Draft)) []event.Draft {
				drafts := make([]event.Draft, size)
				for i := range drafts {
					drafts[i] = benchDraft()
					drafts[i].Tenant, drafts[i].CorrelationID = "c1", fmt.Sprint("talk-", i)
					change(&drafts[i])
				}
				return drafts
			}
			add := func(change func(*event.Draft)) {
				_, err := a.Append(b.Context(), nil, group(change))
				require.NoError(b, err)
			}
			for range others {
				add(func(*event.Draft) {})
			}
			_, err := pool.Exec(b.Context(), `INSERT INTO tailroom.requests (position, id, tenant, namespace, type, correlation_id, rooms, requested_at,
				reply_by, reply_type, reply_when, answer_position, answer_id, answered_at)
				SELECT -1 - $1 * n - i, gen_random_uuid(), 'c1', '/orders', 'x', 'talk-' || i, '{branch:b1}', now(), now(), 'newOrder', '{"channel":["none"]}',
					0, gen_random_uuid(), now()
				FROM generate_series(1, $2) AS n, generate_series(0, $1 - 1) AS i`, size, worst.answered)
			require.NoError(b, err)
			_, err = pool.Exec(b.Context(), "VACUUM ANALYZE tailroom.events, tailroom.requests")
			require.NoError(b, err)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				for range worst.asked {
					add(func(d *event.Draft) {
						d.ReplyBy, d.Awaits = time.Now(), &event.Awaited{Type: "newOrder", When: []byte(`{"channel":["web","till"]}`)}
					})
				}
				b.StartTimer()
				add(func(d *event.Draft) { d.MayAnswer = worst.kind != "neither" })
			}
		})
	}
}
