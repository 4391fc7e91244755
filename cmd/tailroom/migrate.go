package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/migrations"
)

func migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the schema \"tailroom\" of DATABASE_URL up to date, or show where it is",
		Long: `Migrate the database. tailroom serve does it by itself at start unless
TAILROOM_MIGRATE=off; several at once wait for each other.`,
		Example: `  DATABASE_URL=postgres://… tailroom migrate status
  DATABASE_URL=postgres://… tailroom migrate up`,
	}
	cmd.AddCommand(
		migration("up", "Apply every migration that is missing", migrations.Up),
		migration("down", "Take back the newest migration, with what its tables hold", migrations.Down),
		migration("retry", "Clear the mark of a migration that failed, and apply it again", migrations.Retry),
		migration("status", "Show the schema's version", func(context.Context, string) error { return nil }),
	)
	return cmd
}

// migration is a command that does something to the schema and says where it
// is then.
func migration(name, short string, do func(context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:     name,
		Short:   short,
		Example: "  DATABASE_URL=postgres://… tailroom migrate " + name,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := config.Load(os.Environ(), cmd.Flags(), config.Database)
			if err != nil {
				return err
			}
			dsn := string(c.DatabaseURL)
			if err := do(cmd.Context(), dsn); err != nil {
				return err
			}
			version, dirty, err := migrations.Status(cmd.Context(), dsn)
			if err != nil {
				return err
			}
			newest, err := migrations.Newest()
			if err != nil {
				return err
			}
			state := "up to date"
			switch {
			case dirty:
				state = "a migration failed: mend the cause, then run `tailroom migrate retry`"
			case version < newest:
				state = fmt.Sprintf("behind: this program needs %d; run `tailroom migrate up`", newest)
			case version > newest:
				state = fmt.Sprintf("ahead of this program, which knows %d", newest)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "schema version %d, %s\n", version, state)
			return nil
		},
	}
}
