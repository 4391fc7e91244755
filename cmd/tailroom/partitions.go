package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/eventlog"
)

func partitionsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "partitions",
		Short: "Show what the log is made of",
		Long: `The log is a table in partitions, each of a fixed number of positions. An
instance makes them ahead, seals those that are full, and drops the oldest ones
when RETENTION says so. Nothing has to be done by hand.`,
		Example: `  DATABASE_URL=postgres://… tailroom partitions list
  DATABASE_URL=postgres://… tailroom partitions list --json`,
	}
	cmd.AddCommand(partitionsListCommand())
	return cmd
}

func partitionsListCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the partitions of DATABASE_URL, oldest first",
		Long: `List the partitions, oldest first, with the log's floor (events at and below it
are gone) and its tip (the last event).

  ahead      empty, for events to come
  current    the next event goes there
  full       nothing is written there any more; it is sealed soon
  sealed     PostgreSQL knows its times: a query by time leaves it out if it can
  detaching  retention is dropping it, and waits for transactions that may still
             use it: pg_stat_activity shows which are old

Events are counted when a partition is full; before that, ~ marks how many
positions have been passed.`,
		Example: `  DATABASE_URL=postgres://… tailroom partitions list
  DATABASE_URL=postgres://… tailroom partitions list --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				layout, err := log.Layout(ctx)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(layout)
				}
				return printLayout(cmd.OutOrStdout(), layout)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func printLayout(w io.Writer, l eventlog.Layout) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "NAME\tFIRST\tLAST\tEVENTS\tSIZE\tRECORDED FROM\tRECORDED TO\tSTATE\t")
	for i := range l.Partitions {
		p := &l.Partitions[i]
		events := strconv.FormatInt(p.Events, 10)
		if !p.Counted && p.Events > 0 {
			events = "~" + events
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t\n", p.Name, p.First, p.Last, events, byteSize(p.Bytes),
			second(p.RecordedFrom), second(p.RecordedTo), p.State)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "floor %d, tip %d, %s in all\n", l.Floor, l.Tip, byteSize(l.Bytes()))
	return err
}

func second(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.Format(time.RFC3339)
}

// byteSize is a size as people read it, in powers of 1024.
func byteSize(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	size, prefixes := float64(n)/unit, "KMGTPE"
	for size >= unit {
		size, prefixes = size/unit, prefixes[1:]
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " " + prefixes[:1] + "iB"
}
