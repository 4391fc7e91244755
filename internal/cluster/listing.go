package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/session"
)

// MaxRooms is how many rooms are told apart in Counts: those with the most connections.
const MaxRooms = 1000

// Filter says which sessions are meant; "" is each.
type Filter struct {
	Tenant, Instance, Namespace, Room, Role, Subject, Transport string
}

// Counts are how many network connections there are: in all, and by what their sessions
// are. A connection that has joined two namespaces is one in each.
type Counts struct {
	Total                                                int64
	ByInstance, ByNamespace, ByRole, ByTransport, ByRoom map[string]int64
	MoreRooms                                            bool // ByRoom has MaxRooms of more
}

// Place is a session's in the order of the list.
type Place struct {
	Instance uuid.UUID // its incarnation
	Number   int64
}

// Connection is a session at an instance.
type Connection struct {
	session.Report

	Instance string
	Place    Place
}

// Listing reads who is connected, at all instances that live: at this one now, at the others
// about a second ago.
type Listing struct {
	pool *pgxpool.Pool
	turn func(ctx context.Context, tenant string, fn func() error) error
	sql  *db.Queries
	own  *Connections
}

// NewListing returns a Listing that uses a connection of the pool when it is a tenant's turn.
func NewListing(pool *pgxpool.Pool, turn func(ctx context.Context, tenant string, fn func() error) error, own *Connections) *Listing {
	return &Listing{pool: pool, turn: turn, sql: db.New(), own: own}
}

// Read counts the connections that are meant, and lists their sessions behind a place, so
// many at most: both as they are at the same moment.
func (l *Listing) Read(ctx context.Context, f Filter, after Place, most int) (counts Counts, list []Connection, err error) {
	if err := l.own.Show(ctx); err != nil {
		return counts, nil, err
	}
	moment := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = l.turn(ctx, f.Tenant, func() error {
		return pgx.BeginTxFunc(ctx, l.pool, moment, func(tx pgx.Tx) (err error) {
			if counts, err = l.count(ctx, tx, f); err == nil {
				list, err = l.list(ctx, tx, f, after, most)
			}
			return err
		})
	})
	if err != nil {
		return Counts{}, nil, fmt.Errorf("reading who is connected: %w", err)
	}
	return counts, list, nil
}

func (l *Listing) count(ctx context.Context, tx pgx.Tx, f Filter) (Counts, error) {
	rows, err := l.sql.ConnectionCounts(ctx, tx, db.ConnectionCountsParams{
		Tenant: f.Tenant, Instance: f.Instance, Namespace: f.Namespace, Room: f.Room, Role: f.Role, Subject: f.Subject,
		Transport: f.Transport, MaxRooms: MaxRooms + 1,
	})
	counts := Counts{
		ByInstance: map[string]int64{}, ByNamespace: map[string]int64{}, ByRole: map[string]int64{},
		ByTransport: map[string]int64{}, ByRoom: map[string]int64{},
	}
	by := map[string]map[string]int64{
		"instance": counts.ByInstance, "namespace": counts.ByNamespace, "role": counts.ByRole,
		"transport": counts.ByTransport, "room": counts.ByRoom,
	}
	for _, row := range rows {
		switch {
		case row.What == "total":
			counts.Total = row.Connections
		case row.What == "room" && len(counts.ByRoom) == MaxRooms:
			counts.MoreRooms = true
		default:
			by[row.What][row.Name] = row.Connections
		}
	}
	return counts, err
}

func (l *Listing) list(ctx context.Context, tx pgx.Tx, f Filter, after Place, most int) ([]Connection, error) {
	rows, err := l.sql.ConnectionList(ctx, tx, db.ConnectionListParams{
		Tenant: f.Tenant, Instance: f.Instance, Namespace: f.Namespace, Room: f.Room, Role: f.Role, Subject: f.Subject,
		Transport: f.Transport, AfterInstance: pgtype.UUID{Bytes: after.Instance, Valid: true}, AfterNumber: after.Number,
		MaxRows: int32(most),
	})
	list := make([]Connection, len(rows))
	for i := range rows {
		row := &rows[i]
		list[i] = Connection{
			Instance: row.InstanceName, Place: Place{Instance: row.Instance.Bytes, Number: row.Number},
			Report: session.Report{
				Number: row.Number, Session: row.Session, Connection: row.Connection, Tenant: row.Tenant, Subject: row.Subject,
				Role: access.Role(row.Role), Transport: row.Transport, Address: row.Address, Client: row.Client, Version: row.Version,
				Consumer: row.Consumer, Since: row.Since,
			},
		}
		if err := json.Unmarshal(row.Rooms, &list[i].Rooms); err != nil {
			return nil, err
		}
		if row.Engine == nil {
			continue
		}
		if err := json.Unmarshal(row.Engine, &list[i].Engine); err != nil {
			return nil, err
		}
	}
	return list, err
}
