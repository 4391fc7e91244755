package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/state"
	"github.com/tailroom/tailroom/internal/verify"
)

func stateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "state",
		Short: "Make the states of streams anew",
		Long: `States are what the events of each stream come to, merged. The instances keep
them up with the log by themselves.`,
		Example: `  DATABASE_URL=postgres://… tailroom state rebuild`,
	}
	cmd.AddCommand(stateRebuildCommand())
	return cmd
}

func stateRebuildCommand() *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make all states of DATABASE_URL anew, while they are in use",
		Long: `Fold the log into new states, beginning with those at its floor. The present ones
are served and kept up meanwhile. When the new ones have come as far as the log,
they take their place in one moment, and the old ones are removed piece by piece.

It is needed when the catalogue's "closes" has changed: what was folded before was
judged by the catalogue of then. CATALOG_FILE must be as the instances have it.

It can be interrupted at any time and started again; it then begins anew.`,
		Example: `  DATABASE_URL=postgres://… tailroom state rebuild
  DATABASE_URL=postgres://… CATALOG_FILE=events.yaml tailroom state rebuild --quiet`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().BoolVar(&quiet, "quiet", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(os.Environ(), cmd.Flags(), config.Database)
		if err != nil {
			return err
		}
		types := catalog.Default()
		if c.CatalogFile != "" {
			if types, err = catalog.Load(c.CatalogFile); err != nil {
				return err
			}
		}
		bar := newProgress(newStatus(cmd.ErrOrStderr()))
		show := func(p state.Progress) { bar.show(verify.Progress(p)) }
		if quiet {
			show = func(state.Progress) {}
		}
		done, err := state.Rebuild(cmd.Context(), string(c.DatabaseURL), types.Closes, show)
		bar.erase()
		if err != nil {
			return fmt.Errorf("the states could not be made anew, the present ones are as they were: %w", err)
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "The states are made anew, and were true at %s when they became live: "+
			"%d from the floor, %d events, in %s.\n", done.Cursor, done.Seeded, done.Events, done.Took.Round(time.Millisecond))
		return err
	}
	return cmd
}
