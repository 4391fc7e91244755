package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

func epochCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "epoch",
		Short: "Show the lives of the log, or begin a new one after a restore",
		Long: `An epoch is one life of the log. When the log loses its end, positions are handed
out again, and the epoch in a cursor tells the new ones from the old: who has seen
events that are lost is told so, and where to go on.

A promoted standby, and a backup that was recovered with recovery.signal, begin a
new epoch by themselves, and so does a dump that was restored. So does a running
instance that finds events gone which it has read. What is left is the restore
that nobody can notice: see tailroom epoch new --help.`,
		Example: `  DATABASE_URL=postgres://… tailroom epoch list
  DATABASE_URL=postgres://… tailroom epoch new --reason "the volume of noon was put back"`,
	}
	cmd.AddCommand(epochListCommand(), epochNewCommand())
	return cmd
}

// life is an epoch as the command line shows it.
type life struct {
	Epoch    int64     `json:"epoch"`
	Survived int64     `json:"survived"`
	OpenedAt time.Time `json:"openedAt"`
	Reason   string    `json:"reason"`
}

func epochListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the epochs of DATABASE_URL, oldest first",
		Long: `List the epochs, oldest first. SURVIVED is the last position that was left of the
epochs before: a cursor of one of them is good up to there. Numbers grow, and
leave some out.`,
		Example: `  DATABASE_URL=postgres://… tailroom epoch list
  DATABASE_URL=postgres://… tailroom epoch list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				epochs, err := log.Epochs(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					lives := make([]life, len(epochs))
					for i, e := range epochs {
						lives[i] = life{Epoch: e.Number, Survived: e.Survived, OpenedAt: e.OpenedAt.UTC(), Reason: e.Reason}
					}
					return json.NewEncoder(cmd.OutOrStdout()).Encode(lives)
				}
				return printEpochs(cmd.OutOrStdout(), epochs)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON array")
	return cmd
}

func printEpochs(w io.Writer, epochs event.Epochs) error {
	if len(epochs) == 0 {
		_, err := fmt.Fprintln(w, "no epoch yet: the first event opens it")
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "EPOCH\tSURVIVED\tOPENED\tREASON")
	for _, e := range epochs {
		fmt.Fprintf(table, "%d\t%d\t%s\t%s\n", e.Number, e.Survived, e.OpenedAt.UTC().Format(time.RFC3339), e.Reason)
	}
	return table.Flush()
}

func epochNewCommand() *cobra.Command {
	var reason, actor string
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Begin a new epoch behind the last event that DATABASE_URL has",
		Long: `Begin a new epoch. Run it after a restore that leaves no trace in PostgreSQL, when
no instance was up that could notice, and before the first one is started:

  * a base backup that was started without recovery.signal,
  * a snapshot of the volume that was put back,
  * a copy of the data directory.

After these the cluster, its timeline and the database are the same as before, and
the next events get positions that others had. Clients that were ahead would take
the new events for what they have already.

One epoch too many does no harm: every cursor of what is there stays good. Its
first event, of the namespace /system, tells who began it and why. It
needs the rights of tailroom_owner or tailroom_writer.`,
		Example: `  DATABASE_URL=postgres://… tailroom epoch new --reason "the volume of noon was put back"`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.TrimSpace(reason) == "" {
				return errors.New(`--reason is empty: say what happened, for whoever reads "tailroom epoch list" later`)
			}
			if err := fillActor(&actor); err != nil {
				return err
			}
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				e, err := log.OpenEpoch(ctx, reason, actor)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "epoch %d begins at position %d; cursors of older epochs are good up to %d\n",
					e.Number, e.Survived+1, e.Survived)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what happened, in words that are kept")
	actorFlag(cmd.Flags(), &actor)
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}
