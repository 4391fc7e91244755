package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/eventlog"
)

func redactCommand() *cobra.Command {
	var order eventlog.Redaction
	var data string
	var yes bool
	cmd := &cobra.Command{
		Use:   "redact",
		Short: "Erase the data of one event of DATABASE_URL, for ever",
		Long: `Erase the data of one event, as the law may ask where they are personal. All else
of the event stays: its position, id, type, rooms, stream, version, times, actor
and correlation id.

The log tells of it for ever, in an event of its own, with the reason and the
actor: put nothing personal there. Every instance forgets what it held of the data
when it reads that; one that cannot reach the database, when it is back. What
clients have received stays with them.

The partition is vacuumed, so that PostgreSQL uses the space again. Until it does,
and in the WAL and in backups until those are gone, the old bytes can be found. A
backup that is restored brings the data back: redact again then.

The database role must be a member of tailroom_owner. The cursor of the event that
tells of it is printed.`,
		Example: `  DATABASE_URL=postgres://… tailroom redact --position 1042 --reason "erasure request 17"
  DATABASE_URL=postgres://… tailroom redact --position 1042 --reason "erasure request 17" \
    --actor dpo@example.com --data '{"orderId":"1042"}' --yes`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := fillActor(&order.Actor); err != nil {
				return err
			}
			order.Replacement = []byte(data)
			var object map[string]json.RawMessage
			if err := json.Unmarshal(order.Replacement, &object); err != nil || object == nil {
				return fmt.Errorf(`--data %s: want a JSON object, such as {"orderId":"1042"}`, data)
			}
			return withLog(cmd, func(ctx context.Context, log *eventlog.Log) error {
				return redact(ctx, cmd, log, order, yes)
			})
		},
	}
	flags := cmd.Flags()
	flags.Int64Var(&order.Position, "position", 0, "`position` of the event: the number behind the dash of its cursor")
	flags.StringVar(&order.Reason, "reason", "", "why, in words that are kept for ever")
	actorFlag(flags, &order.Actor)
	flags.StringVar(&data, "data", "{}", "`object` that takes the data's place, as JSON")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.SortFlags = false
	_ = cmd.MarkFlagRequired("position")
	_ = cmd.MarkFlagRequired("reason")
	return cmd
}

func redact(ctx context.Context, cmd *cobra.Command, log *eventlog.Log, order eventlog.Redaction, yes bool) error {
	said := cmd.ErrOrStderr()
	target, err := log.At(ctx, order.Position)
	if errors.Is(err, eventlog.ErrNotFound) {
		return fmt.Errorf("there is no event at position %d", order.Position)
	} else if err != nil {
		return err
	}
	describe(said, target)
	if !yes {
		if !isTerminal(cmd.InOrStdin()) {
			return errors.New("nobody is there to ask: give --yes")
		}
		fmt.Fprint(said, "Its data are erased for ever. Type yes to go on: ")
		if answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n'); strings.TrimSpace(answer) != "yes" {
			return errors.New("nothing was changed")
		}
	}
	record, err := log.Redact(ctx, order)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.OutOrStdout(), record)
	partition, err := log.Vacuum(ctx, order.Position)
	if err != nil {
		fmt.Fprintf(said, "The data are erased; their old space was not cleared: %v\n", err)
		return nil
	}
	fmt.Fprintf(said, "The data are erased; %s was vacuumed. "+
		"Transactions that were open keep the old ones until the next vacuum.\n", partition)
	return nil
}

// describe shows an event without its data.
func describe(w io.Writer, e *event.Entry) {
	for _, line := range [][2]string{
		{"cursor", e.Cursor.String()},
		{"id", e.ID.String()},
		{"company", e.Tenant},
		{"namespace", e.Namespace},
		{"type", e.Type},
		{"stream", e.Stream},
		{"recorded at", e.RecordedAt.UTC().Format(event.TimeLayout)},
		{"data", fmt.Sprintf("%d bytes", len(e.Data))},
	} {
		fmt.Fprintf(w, "%-12s %s\n", line[0], line[1])
	}
}
