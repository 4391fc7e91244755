package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/eventlog"
)

// withLog runs fn on the log of DATABASE_URL. The error says what to do where
// there is no log, or the database's role has no rights to it.
func withLog(cmd *cobra.Command, fn func(context.Context, *eventlog.Log) error) error {
	c, err := config.Load(os.Environ(), cmd.Flags(), config.Database)
	if err != nil {
		return err
	}
	pool, err := pgxpool.New(cmd.Context(), string(c.DatabaseURL))
	if err != nil {
		return err
	}
	defer pool.Close()
	return explainRefusal(fn(cmd.Context(), eventlog.New(pool)), pool.Config().ConnConfig.User)
}

func explainRefusal(err error, user string) error {
	const noSchema, noTable, noColumn, noFunction, notAllowed = "3F000", "42P01", "42703", "42883", "42501"
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return err
	}
	switch pg.Code {
	case noSchema, noTable, noColumn, noFunction:
		return fmt.Errorf("there is no log in this database, or one of an older version: %s. Run `tailroom migrate up`", pg.Message)
	case notAllowed:
		role := pgx.Identifier{user}.Sanitize()
		return fmt.Errorf("the database role %s has no rights to the log: %s. Use another DATABASE_URL, "+
			"or let an administrator run `GRANT tailroom_writer TO %s`", role, pg.Message, role)
	}
	return err
}
