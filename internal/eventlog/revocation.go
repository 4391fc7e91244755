package eventlog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// MaxRevocations is how many revocations a company has at most. The database
// counts them.
const MaxRevocations = 10_000

var (
	// ErrOrder is in the chain of an error that says what is wrong with an order.
	ErrOrder = errors.New("the order is refused")
	// ErrTooManyRevocations means that a company has MaxRevocations.
	ErrTooManyRevocations = errors.New("the company has as many revocations as it may have")
)

// Order is an operator's: whom it concerns, why it was given and by whom. The log
// tells of it for ever.
type Order struct {
	Tenant  string // the company; "" is every company
	Subject string // whose tokens or sessions; "" when one is named
	Reason  string // "" or up to 1000 characters
	Actor   string // 1 to 300 printable characters, not blank
}

// Revocation is an order to revoke all tokens of a subject, or the one with an id.
type Revocation struct {
	Order

	TokenID string // "" when Subject is given
	// Before is when the first token was issued that is not meant. Zero is now for
	// a subject, and for one token every time.
	Before time.Time
}

// Revoked is a token, or all of a subject's, as the log has it.
type Revoked struct {
	Position         int64
	Tenant           string // "" is every company
	Subject, TokenID string // one of them is ""
	Before           time.Time
}

// Told is where the log tells of an order, and since when.
type Told struct {
	Cursor     event.Cursor
	RecordedAt time.Time
}

// Revoke revokes tokens, and returns what Before came to be. The error is ErrOrder when the order has what it cannot have,
// and ErrTooManyRevocations when there is no room for it.
func (l *Log) Revoke(ctx context.Context, r Revocation) (before time.Time, _ Told, _ error) {
	row, err := l.sql.TokensRevoke(ctx, l.pool, db.TokensRevokeParams{
		Tenant: orAbsent(r.Tenant), Subject: orAbsent(r.Subject), TokenID: orAbsent(r.TokenID), Before: orNull(r.Before),
		Reason: orAbsent(r.Reason), Actor: r.Actor,
	})
	if err != nil {
		return time.Time{}, Told{}, ExplainOrder("revoking tokens", err)
	}
	return row.Before, Told{Cursor: event.Cursor{Epoch: row.Epoch, Position: row.Position}, RecordedAt: row.RecordedAt}, nil
}

// Disconnect has every instance end the sessions of a subject, or the one named
// session. The error is ErrOrder when the order has what it cannot have.
func (l *Log) Disconnect(ctx context.Context, o Order, session string) (Told, error) {
	row, err := l.sql.SessionsDisconnect(ctx, l.pool, db.SessionsDisconnectParams{
		Tenant: orAbsent(o.Tenant), Subject: orAbsent(o.Subject), Session: orAbsent(session),
		Reason: orAbsent(o.Reason), Actor: o.Actor,
	})
	if err != nil {
		return Told{}, ExplainOrder("disconnecting sessions", err)
	}
	return Told{Cursor: event.Cursor{Epoch: row.Epoch, Position: row.Position}, RecordedAt: row.RecordedAt}, nil
}

// ExplainOrder leaves what the log's functions say of an order to who gave it.
func ExplainOrder(doing string, err error) error {
	const invalidParameter, tooLarge = "TR015", "TR018"
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case invalidParameter:
			return fmt.Errorf("%w: %s", ErrOrder, pg.Message)
		case tooLarge:
			return ErrTooManyRevocations
		}
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// RevocationState returns the newest epoch, and the position of the newest
// revocation, 0 when there is none.
func (l *Log) RevocationState(ctx context.Context) (epoch, newest int64, err error) {
	row, err := l.sql.RevocationState(ctx, l.pool)
	if err != nil {
		return 0, 0, fmt.Errorf("looking for revocations: %w", err)
	}
	return row.Epoch, row.Newest, nil
}

// Revocations reads up to limit revocations behind a position, in order.
func (l *Log) Revocations(ctx context.Context, after int64, limit int) ([]Revoked, error) {
	rows, err := l.sql.RevocationList(ctx, l.pool, db.RevocationListParams{After: after, MaxRows: int32(limit)})
	if err != nil {
		return nil, fmt.Errorf("reading revocations: %w", err)
	}
	list := make([]Revoked, len(rows))
	for i, r := range rows {
		list[i] = Revoked(r)
	}
	return list, nil
}

func orAbsent(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
