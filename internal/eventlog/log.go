package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/fair"
)

// ErrNotFound is returned for an event that is not in the log.
var ErrNotFound = errors.New("no such event")

// Log reads the log. It is safe for concurrent use.
type Log struct {
	pool *pgxpool.Pool
	sql  *db.Queries
	gate *fair.Gate // for history; nil is none
}

// New returns a Log on pool, which stays the caller's.
func New(pool *pgxpool.Pool) *Log { return &Log{pool: pool, sql: db.New()} }

// NewShared returns a Log whose List and Get share out the connections of pool
// among the tenants: none has more than a quarter of them, because what it does
// with more is taken from the processors that the others wait for.
func NewShared(pool *pgxpool.Pool) *Log {
	conns := int(pool.Config().MaxConns)
	l := New(pool)
	l.gate = fair.NewGate(conns, max(conns/4, 1))
	return l
}

// Turn waits until a tenant may use a connection, and calls fn: for whoever else
// uses the pool.
func (l *Log) Turn(ctx context.Context, tenant string, fn func() error) error {
	return l.turn(ctx, tenant, fn)
}

// turn waits until a tenant may use a connection, and calls fn.
func (l *Log) turn(ctx context.Context, tenant string, fn func() error) error {
	if l.gate == nil {
		return fn()
	}
	if err := l.gate.Enter(ctx, tenant); err != nil {
		return err
	}
	defer l.gate.Leave(tenant)
	return fn()
}

// Share calls fn with connections of the log's, when it is the tenant's turn.
func (l *Log) Share(ctx context.Context, tenant string, fn func(db.DBTX) error) error {
	return l.turn(ctx, tenant, func() error { return fn(l.pool) })
}

// Bounds reads the bounds from the database.
func (l *Log) Bounds(ctx context.Context) (event.Bounds, error) {
	b, err := l.sql.LogBounds(ctx, l.pool)
	if err != nil {
		return event.Bounds{}, fmt.Errorf("reading the log's bounds: %w", err)
	}
	return event.Bounds{Tip: event.Cursor{Epoch: b.Epoch, Position: b.Tip}, Floor: b.Floor}, nil
}

// What is read at once is bounded in bytes of data: events can be a
// thousand times larger than usual.
const (
	tailBytes = 4 << 20
	pageBytes = 512 << 10
)

// pageSpan is how many positions a page looks at: a reader of rare events must
// not hold a connection while the whole log is searched for them.
const pageSpan = 500_000

// ErrDetached says that events went away while they were being read, as when
// retention drops a partition.
var ErrDetached = errors.New("events were dropped while they were read")

// Tail reads up to limit events after a position, of everybody, in order; fewer
// when they are large. An empty result means that there are none yet.
func (l *Log) Tail(ctx context.Context, after int64, limit int) ([]*event.Entry, error) {
	rows, err := l.sql.EventTail(ctx, l.pool, db.EventTailParams{After: after, MaxRows: int32(limit), MaxBytes: tailBytes})
	if err != nil {
		return nil, fmt.Errorf("reading the log's tail: %w", err)
	}
	return entries(rows), nil
}

// Page reads up to limit events of the topics after a position, in order; fewer
// when they are large. When after is below the page's floor, events may be
// missing and the page must not be used.
func (l *Log) Page(ctx context.Context, topics []event.Topic, after int64, limit int) (event.Page, error) {
	page, err := l.page(ctx, topics, after, limit)
	if errors.Is(err, ErrDetached) { // between its two readings: now the floor has moved
		page, err = l.page(ctx, topics, after, limit)
	}
	return page, err
}

func (l *Log) page(ctx context.Context, topics []event.Topic, after int64, limit int) (event.Page, error) {
	hit, err := l.positions(ctx, topics, after, limit)
	if err != nil {
		return event.Page{}, fmt.Errorf("reading a page of the log: %w", err)
	}
	page := event.Page{Bounds: event.Bounds{Tip: event.Cursor{Epoch: hit.Epoch, Position: hit.Tip}, Floor: hit.Floor}}
	page.Next = page.Bounds.Tip
	page.Next.Position = min(page.Next.Position, after+pageSpan)
	if len(hit.Positions) == 0 || after < hit.Floor {
		return page, nil
	}
	if page.Entries, err = l.at(ctx, hit.Positions); err != nil {
		return event.Page{}, fmt.Errorf("reading a page of the log: %w", err)
	}
	if n := len(page.Entries); n < len(hit.Positions) || n == limit {
		page.Next = page.Entries[n-1].Cursor
	}
	return page, nil
}

// at reads the events at some positions, in ascending order: as many from the
// first on as fit into pageBytes, and at least one. The error is ErrDetached when
// one of them is gone.
func (l *Log) at(ctx context.Context, positions []int64) ([]*event.Entry, error) {
	rows, err := l.sql.EventListByPosition(ctx, l.pool, db.EventListByPositionParams{Positions: positions, MaxBytes: pageBytes})
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrDetached
	}
	for i := range rows {
		if rows[i].Position != positions[i] {
			return nil, ErrDetached
		}
	}
	return entries(rows), nil
}

// positions finds a page's positions by index. Topics of every tenant are the
// operators' and come alone.
func (l *Log) positions(ctx context.Context, topics []event.Topic, after int64, limit int) (db.EventPageTopicsRow, error) {
	everyTenant := slices.ContainsFunc(topics, func(t event.Topic) bool { return t.Tenant == "" })
	var tenants, namespaces, rooms []string
	for _, t := range topics {
		tenants = append(tenants, t.Tenant)
		namespaces = append(namespaces, t.Namespace)
		rooms = append(rooms, t.Room)
	}
	if everyTenant {
		row, err := l.sql.EventPageNamespaces(ctx, l.pool, db.EventPageNamespacesParams{
			Namespaces: namespaces, After: after, Upto: after + pageSpan, MaxRows: int32(limit),
		})
		return db.EventPageTopicsRow(row), err
	}
	return l.sql.EventPageTopics(ctx, l.pool, db.EventPageTopicsParams{
		Tenants: tenants, Namespaces: namespaces, Rooms: rooms, After: after, Upto: after + pageSpan, MaxRows: int32(limit),
	})
}

// Lookup names one event.
type Lookup struct {
	Tenant string // "" is any
	ID     uuid.UUID
}

// Get returns an event by id. Ids are unique within a tenant and the
// idempotency window; of several the newest is returned. The error is
// ErrNotFound when there is none.
func (l *Log) Get(ctx context.Context, want Lookup) (*event.Entry, error) {
	params := db.EventGetByIDParams{ID: pgtype.UUID{Bytes: want.ID, Valid: true}, Tenant: want.Tenant}
	var rows []db.EventGetByIDRow
	err := l.turn(ctx, want.Tenant, func() (err error) {
		rows, err = l.sql.EventGetByID(ctx, l.pool, params)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading an event: %w", err)
	}
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	return entries(rows[len(rows)-1:])[0], nil
}
