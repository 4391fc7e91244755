package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

const (
	// MaxLag is how far the events behind one consumer are counted.
	MaxLag = 10_000
	// MaxLagInList is how far those behind each of several are.
	MaxLagInList = 1000
)

var (
	// ErrNotFound is returned for a consumer that there is not.
	ErrNotFound = errors.New("no such consumer")
	// ErrConnected is returned for a consumer that cannot be erased, because it is connected.
	ErrConnected = errors.New("the consumer is connected")
)

// Scope is whose consumers are meant.
type Scope struct {
	Tenant  string   // "" is every company
	Subject string   // "" is everybody's
	Rooms   []string // if any: those that follow one of these, or everything
}

// Query asks for some consumers, in the order of company and name.
type Query struct {
	Scope

	Name                   string // "" is every one
	Connected              *bool  // nil is both
	AfterTenant, AfterName string // behind this one
	Limit                  int
}

// State is how a consumer is at present.
type State struct {
	Tenant, Name, Subject, Role string

	Connected bool
	Instance  string    // where; "" when it is not connected
	Since     time.Time // since when it is, or is not
	Cursor    event.Cursor
	// Lag is how many events it follows come behind the cursor, MaxLag at most, or
	// MaxLagInList (if it is more, LagMore), since Oldest was recorded, LagTime ago.
	Lag     int64
	LagMore bool
	Oldest  time.Time
	LagTime time.Duration
}

// Receipt is what has become of an event at a consumer.
type Receipt struct {
	Name, Role string

	Connected      bool
	Since          time.Time // since when it is, or is not
	Addressed      bool      // it had joined when the event came
	Acknowledged   bool
	AcknowledgedAt time.Time // zero: not known any more
}

// Reader reads of consumers.
type Reader struct {
	log *eventlog.Log
	sql *db.Queries
}

// NewReader returns a Reader that shares the log's connections.
func NewReader(log *eventlog.Log) *Reader { return &Reader{log: log, sql: db.New()} }

// List returns consumers. The lag of one that is named is counted up to MaxLag.
func (r *Reader) List(ctx context.Context, q Query) ([]State, error) {
	most := int64(MaxLagInList)
	if q.Tenant != "" && q.Name != "" {
		most = MaxLag
	}
	var rows []db.ConsumerListRow
	err := r.log.Share(ctx, q.Tenant, func(conn db.DBTX) (err error) {
		rows, err = r.sql.ConsumerList(ctx, conn, db.ConsumerListParams{
			Tenant: q.Tenant, Name: q.Name, Subject: q.Subject, Rooms: orEverything(q.Rooms), AfterTenant: q.AfterTenant,
			AfterName: q.AfterName, Connected: q.Connected, MaxRows: int32(q.Limit), MaxLag: most + 1,
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing consumers: %w", err)
	}
	list := make([]State, len(rows))
	for i := range rows {
		row := &rows[i]
		list[i] = State{
			Tenant: row.Tenant, Name: row.Name, Subject: row.Subject, Role: row.Role,
			Connected: row.Connected, Instance: row.Instance, Since: row.Since,
			Cursor: event.Cursor{Epoch: row.Epoch, Position: row.Position},
			Lag:    min(row.LagEvents, most), LagMore: row.LagEvents > most, Oldest: row.Oldest,
			LagTime: time.Duration(row.LagSeconds * float64(time.Second)),
		}
	}
	return list, nil
}

// Receipts returns what has become of an event at the consumers that follow its
// room, by what they follow now: up to limit of them, behind a name.
func (r *Reader) Receipts(ctx context.Context, e *event.Event, s Scope, after string, limit int) ([]Receipt, error) {
	var rows []db.ConsumerReceiptsRow
	err := r.log.Share(ctx, s.Tenant, func(conn db.DBTX) (err error) {
		rows, err = r.sql.ConsumerReceipts(ctx, conn, db.ConsumerReceiptsParams{
			Epoch: e.Cursor.Epoch, Position: e.Cursor.Position, Tenant: e.Tenant, AfterName: after, Subject: s.Subject,
			Within: orEverything(s.Rooms), Namespace: e.Namespace, Rooms: append([]string{everything}, e.Rooms...), MaxRows: int32(limit),
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading receipts: %w", err)
	}
	list := make([]Receipt, len(rows))
	for i := range rows {
		list[i] = Receipt(rows[i])
		list[i].Acknowledged = list[i].Acknowledged && list[i].Addressed
	}
	return list, nil
}

// Erase forgets a consumer of o's company. The error is ErrNotFound, ErrConnected, or
// as those of other orders.
func (r *Reader) Erase(ctx context.Context, o eventlog.Order, name string) (eventlog.Told, error) {
	var row db.ConsumerEraseRow
	err := r.log.Share(ctx, o.Tenant, func(conn db.DBTX) (err error) {
		var reason *string
		if o.Reason != "" {
			reason = &o.Reason
		}
		row, err = r.sql.ConsumerErase(ctx, conn, db.ConsumerEraseParams{Tenant: o.Tenant, Name: name, Reason: reason, Actor: o.Actor})
		return err
	})
	switch {
	case err != nil:
		return eventlog.Told{}, eventlog.ExplainOrder("erasing a consumer", err)
	case row.Outcome == 1:
		return eventlog.Told{}, ErrNotFound
	case row.Outcome == 2:
		return eventlog.Told{}, ErrConnected
	}
	return eventlog.Told{Cursor: event.Cursor{Epoch: row.Epoch, Position: row.Position}, RecordedAt: row.RecordedAt}, nil
}

// orEverything returns rooms for a filter: who follows everything follows them too.
func orEverything(rooms []string) []string {
	if len(rooms) == 0 {
		return []string{}
	}
	return append([]string{everything}, rooms...)
}
