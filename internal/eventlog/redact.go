package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tailroom/tailroom/db"
	"github.com/tailroom/tailroom/internal/event"
)

// Redaction says which event's data are erased, and what the log tells of it for
// ever.
type Redaction struct {
	Position    int64
	Reason      string // 1 to 1000 characters, not blank
	Actor       string // 1 to 300 printable characters, not blank
	Replacement []byte // what the event's data are from then on: a JSON object
}

// At returns the event at a position. The error is ErrNotFound when there is
// none, or none any more.
func (l *Log) At(ctx context.Context, position int64) (*event.Entry, error) {
	list, err := l.Tail(ctx, position-1, 1)
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0 || list[0].Cursor.Position != position:
		return nil, ErrNotFound
	}
	return list[0], nil
}

// Redact replaces an event's data, and nothing else of it, and returns the cursor
// of the event that tells of it. Every instance forgets the old data when it reads
// that. The database's role must be a member of tailroom_owner.
func (l *Log) Redact(ctx context.Context, r Redaction) (event.Cursor, error) {
	position, err := l.sql.EventRedact(ctx, l.pool, db.EventRedactParams(r))
	if err != nil {
		return event.Cursor{}, l.explainRedact(err)
	}
	epochs, err := l.Epochs(ctx)
	if err != nil {
		return event.Cursor{}, fmt.Errorf("it is redacted, and position %d tells of it: %w", position, err)
	}
	return epochs.At(position), nil
}

// explainRedact leaves what the function says to who asked, and says what to do
// where he may not call it.
func (l *Log) explainRedact(err error) error {
	const insufficientPrivilege = "42501"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && pg.Code == insufficientPrivilege:
		role := pgx.Identifier{l.pool.Config().ConnConfig.User}.Sanitize()
		return fmt.Errorf("the database role %s may not redact, only members of tailroom_owner may: "+
			"use another DATABASE_URL, or let an administrator run `GRANT tailroom_owner TO %s`", role, role)
	case ok && hasClass(err, "TR"):
		return errors.New(pg.Message)
	}
	return fmt.Errorf("redacting: %w", err)
}

// Vacuum has PostgreSQL clear away what changes have left in the partition that
// holds a position, as far as no older transaction is open that may look at it.
// It returns the partition's name. It takes longest where nobody has vacuumed before,
// and keeps nobody waiting.
func (l *Log) Vacuum(ctx context.Context, position int64) (partition string, err error) {
	if partition, err = l.sql.PartitionHolding(ctx, l.pool, position); err != nil {
		return "", fmt.Errorf("looking for the partition of position %d: %w", position, err)
	}
	// PostgreSQL leaves alone what is another's, and calls that a success.
	if owner, err := l.sql.PartitionMayDetach(ctx, l.pool); err != nil {
		return partition, err
	} else if !owner.May {
		return partition, fmt.Errorf("vacuuming %s: only members of %s may", partition, owner.Owner)
	}
	if _, err = l.pool.Exec(ctx, "VACUUM "+pgx.Identifier{"tailroom", partition}.Sanitize()); err != nil {
		return partition, fmt.Errorf("vacuuming %s: %w", partition, err)
	}
	return partition, nil
}
