// Package migrations holds the schema and brings a database to it.
//
// Everything lives in the schema "tailroom", so that Tailroom can share a
// database with the application that publishes. Any number of instances may
// start at once: one migrates, the others wait for it and find nothing to do.
package migrations

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	migratepgx "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx" that golang-migrate uses
)

//go:embed *.sql
var files embed.FS

const (
	schema = "tailroom"
	table  = "schema_migrations"
	// Two ints of an advisory lock: the first is "tail", shared by all of
	// Tailroom's locks, the second says which.
	lockClass, lockMigrate = 1952541036, 3
	// insufficientPrivilege is the SQLSTATE of what a role may not do.
	insufficientPrivilege = "42501"
)

// ErrDirty says that a migration failed halfway and left its mark. Its file
// was rolled back, so once the cause is mended `tailroom migrate retry` goes on.
var ErrDirty = errors.New("an earlier migration failed")

// ErrNewer says that a newer program has migrated the database.
var ErrNewer = errors.New("the database is for a newer program")

// Newest is the schema version that this program needs.
func Newest() (uint, error) {
	source, err := iofs.New(files, ".")
	if err != nil {
		return 0, fmt.Errorf("reading the embedded migrations: %w", err)
	}
	last, err := source.First()
	for err == nil {
		var next uint
		if next, err = source.Next(last); err == nil {
			last = next
		}
	}
	return last, nil
}

// Up applies every migration that is missing. It waits while another process
// migrates the same database. Where none is missing, it needs no right but to
// read.
func Up(ctx context.Context, dsn string) error {
	newest, err := Newest()
	if err != nil {
		return err
	}
	if version, dirty, err := Status(ctx, dsn); err != nil || version == newest && !dirty {
		return err
	}
	return change(ctx, dsn, func(m *migrate.Migrate) error { return m.Up() })
}

// Down takes back the newest migration, if there is one. What its tables held
// is lost.
func Down(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(m *migrate.Migrate) error {
		if _, _, err := m.Version(); errors.Is(err, migrate.ErrNilVersion) {
			return nil
		}
		return m.Steps(-1)
	})
}

// Retry clears the mark of a migration that failed and applies it again.
func Retry(ctx context.Context, dsn string) error {
	return change(ctx, dsn, func(m *migrate.Migrate) error {
		version, dirty, err := m.Version()
		if err != nil && !errors.Is(err, migrate.ErrNilVersion) {
			return err
		}
		if dirty {
			before := int(version) - 1 // #nosec G115 -- versions are small numbers
			if before == 0 {
				before = -1 // golang-migrate's "nothing applied"
			}
			if err := m.Force(before); err != nil {
				return err
			}
		}
		return m.Up()
	})
}

// Status returns the version the database has, 0 before the first migration,
// and whether an earlier migration failed. It changes nothing and needs no
// right but to read.
func Status(ctx context.Context, dsn string) (version uint, dirty bool, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, false, fmt.Errorf("connecting to read the schema's version: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var present bool
	if err := conn.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, schema+"."+table).Scan(&present); err != nil || !present {
		return 0, false, err
	}
	err = conn.QueryRow(ctx, `SELECT version, dirty FROM `+schema+"."+table).Scan(&version, &dirty)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return version, dirty, err
}

// Check returns an error that says what to do unless the database has the
// schema that this program needs.
func Check(ctx context.Context, dsn string) error {
	newest, err := Newest()
	if err != nil {
		return err
	}
	version, dirty, err := Status(ctx, dsn)
	switch {
	case err != nil:
		return err
	case dirty:
		return fmt.Errorf("%w at version %d: mend the cause, then run `tailroom migrate retry`", ErrDirty, version)
	case version < newest:
		return fmt.Errorf("the database's schema is at version %d and this program needs %d: run `tailroom migrate up`", version, newest)
	}
	return nil
}

// change runs fn unless the database is ahead of this program.
func change(ctx context.Context, dsn string, fn func(*migrate.Migrate) error) error {
	return with(ctx, dsn, func(m *migrate.Migrate) error {
		newest, err := Newest()
		if err != nil {
			return err
		}
		if version, _, err := m.Version(); err == nil && version > newest {
			return fmt.Errorf("%w: its schema is at version %d, this one knows %d", ErrNewer, version, newest)
		}
		return fn(m)
	})
}

// with runs fn under a lock of our own: CREATE SCHEMA IF NOT EXISTS races with
// itself, and golang-migrate creates its table before it takes its lock.
func with(ctx context.Context, dsn string, fn func(*migrate.Migrate) error) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connecting to migrate: %w", err)
	}
	// The lock goes with the connection.
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1, $2)`, lockClass, lockMigrate); err != nil {
		return fmt.Errorf("waiting for other migrations: %w", err)
	}
	if _, err := conn.Exec(ctx, `CREATE SCHEMA IF NOT EXISTS `+schema); err != nil {
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.Code == insufficientPrivilege {
			return fmt.Errorf("the role %s may not migrate the database: let one that owns it run `tailroom migrate up`: %w",
				conn.Config().User, err)
		}
		return fmt.Errorf("creating the schema: %w", err)
	}
	m, err := open(dsn)
	if err != nil {
		return fmt.Errorf("preparing to migrate: %w", err)
	}
	defer func() { _, _ = m.Close() }()
	return explain(fn(m))
}

// explain says what became of a migration, and what to do.
func explain(err error) error {
	if err == nil || errors.Is(err, migrate.ErrNoChange) {
		return nil
	}
	if dirty, ok := errors.AsType[migrate.ErrDirty](err); ok {
		return fmt.Errorf("%w at version %d: mend the cause, then run `tailroom migrate retry`", ErrDirty, dirty.Version)
	}
	if failed, ok := errors.AsType[database.Error](err); ok { // without the file's text
		return fmt.Errorf("migrating: %w: it was rolled back; mend the cause, then run `tailroom migrate retry`", failed.OrigErr)
	}
	return fmt.Errorf("migrating: %w", err)
}

func open(dsn string) (*migrate.Migrate, error) {
	pool, err := sql.Open("pgx", dsn)
	if err != nil {
		return nil, err
	}
	driver, err := migratepgx.WithInstance(pool, &migratepgx.Config{SchemaName: schema, MigrationsTable: table})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	source, err := iofs.New(files, ".")
	if err != nil {
		return nil, errors.Join(err, driver.Close())
	}
	return migrate.NewWithInstance("embedded", source, "pgx5", driver)
}
