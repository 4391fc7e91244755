package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/eventlog"
)

func outboxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "outbox",
		Short: "Show what was published with SQL and is not in the log, and what became of it",
		Long: `An application that publishes with tailroom.publish puts rows into the outbox. When
its transaction has committed, an instance moves them into the log, which takes
milliseconds. A row that the catalogue refuses is set aside with the reason; the
rest goes on. Here are those rows: once the cause is mended they can be retried,
or else discarded.`,
		Example: `  DATABASE_URL=postgres://… tailroom outbox list
  DATABASE_URL=postgres://… tailroom outbox retry 1042 1043
  DATABASE_URL=postgres://… tailroom outbox discard --all`,
	}
	cmd.AddCommand(outboxListCommand(),
		settleCommand("retry", "Put rejected rows back into the outbox",
			`Put rejected rows back, in the order they were published, behind what waits there.
Do so when the catalogue has been corrected: each row is judged anew. An event that
was rejected for its id (id_reused) will be so again. The log tells of it for ever,
in an event of the namespace /system, with the reason and the actor.`,
			"%s put back into the outbox\n", (*eventlog.Log).RetryRejected),
		settleCommand("discard", "Throw rejected rows away",
			`Throw rejected rows away for good: they never were events. Their data are in the
table tailroom.outbox_rejected until then. The log tells of it for ever, in an event of
the namespace /system, with the reason and the actor.`,
			"%s thrown away\n", (*eventlog.Log).DiscardRejected))
	return cmd
}

func outboxListCommand() *cobra.Command {
	var (
		asJSON bool
		after  int64
		limit  int
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Say how much waits in the outbox of DATABASE_URL, and list the rejected rows",
		Long: `Say how many rows wait and how old the first of them is, and list the rejected
rows, oldest first, with the code and the reason. Their data are in the table
tailroom.outbox_rejected.

Rows that wait for more than seconds mean that no instance is up, or that none can
reach the log: see the metric tailroom_outbox_leader.`,
		Example: `  DATABASE_URL=postgres://… tailroom outbox list
  DATABASE_URL=postgres://… tailroom outbox list --after 1042 --limit 1000 --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			const most = 10_000
			if limit < 1 || limit > most {
				return fmt.Errorf("--limit is from 1 to %d", most)
			}
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				o, err := log.Outbox(ctx, after, limit)
				if err != nil {
					return err
				}
				if asJSON {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(o)
				}
				return printOutbox(cmd.OutOrStdout(), o, after, limit)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.Flags().Int64Var(&after, "after", 0, "list the rows behind this one")
	cmd.Flags().IntVar(&limit, "limit", 100, "list so many rows at most")
	return cmd
}

func printOutbox(w io.Writer, o eventlog.Outbox, after int64, limit int) error {
	waiting := "nothing waits"
	if o.Waiting > 0 {
		oldest := time.Duration(o.OldestSeconds * float64(time.Second)).Round(time.Millisecond)
		waiting = fmt.Sprintf("%s waiting, the first for %s", rows(o.Waiting), oldest)
	}
	fmt.Fprintf(w, "%s, %s rejected\n", waiting, rows(o.Rejected))
	if len(o.Rows) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ROW\tREJECTED\tCOMPANY\tNAMESPACE\tTYPE\tACTOR\tCODE\tREASON")
	for i := range o.Rows {
		r := &o.Rows[i]
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Row, r.RejectedAt.Format(time.RFC3339), r.Tenant,
			r.Namespace, r.Type, r.Actor, r.Code, oneLine(r.Reason))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if len(o.Rows) == limit && (after > 0 || o.Rejected > int64(limit)) {
		fmt.Fprintf(w, "there may be more: --after %d\n", o.Rows[limit-1].Row)
	}
	return nil
}

func rows(n int64) string {
	if n == 1 {
		return "1 row"
	}
	return strconv.FormatInt(n, 10) + " rows"
}

// oneLine is a text without what would spoil a table or a terminal.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// settleCommand is a command that does something to rejected rows, which must be
// named, if only as all.
func settleCommand(
	name, short, long, done string, do func(*eventlog.Log, context.Context, eventlog.Settlement) ([]int64, error),
) *cobra.Command {
	var all bool
	var order eventlog.Settlement
	cmd := &cobra.Command{
		Use:   name + " [row…]",
		Short: short,
		Long:  long,
		Example: "  DATABASE_URL=postgres://… tailroom outbox " + name + " 1042 1043\n" +
			"  DATABASE_URL=postgres://… tailroom outbox " + name + " --all --reason \"the catalogue was corrected\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return errors.New("name the rows, by their numbers from `tailroom outbox list`, or say --all")
			}
			if err := fillActor(&order.Actor); err != nil {
				return err
			}
			for _, arg := range args {
				row, err := strconv.ParseInt(arg, 10, 64)
				if err != nil {
					return fmt.Errorf("%q is no number of a row: see `tailroom outbox list`", arg)
				}
				order.Rows = append(order.Rows, row)
			}
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				settled, err := do(log, ctx, order)
				if err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), done, rows(int64(len(settled))))
				missing := slices.DeleteFunc(order.Rows, func(row int64) bool { return slices.Contains(settled, row) })
				if len(missing) > 0 {
					return fmt.Errorf("no rejected rows have the numbers %v", missing)
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every rejected row")
	cmd.Flags().StringVar(&order.Reason, "reason", "", "why, in words that are kept for ever (default: none)")
	actorFlag(cmd.Flags(), &order.Actor)
	return cmd
}
