package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/access"
)

// description is an event as the arguments and flags describe it.
type description struct {
	Namespace       string          `json:"namespace"`
	Type            string          `json:"type"`
	Data            json.RawMessage `json:"data"`
	Rooms           []string        `json:"rooms,omitempty"`
	Stream          string          `json:"stream,omitempty"`
	ExpectedVersion *int64          `json:"expectedVersion,omitempty"`
	ID              string          `json:"id,omitempty"`
	CorrelationID   string          `json:"correlationId,omitempty"`
	CausationID     string          `json:"causationId,omitempty"`
}

func publishCommand() *cobra.Command {
	var c caller
	var d description
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "publish [NAMESPACE TYPE DATA]",
		Short: "Publish an event, or any number of them from standard input",
		Long: `Publish one event, given as arguments, and print what the log made of it.

Without arguments events are read from standard input: on each line an object
as in POST /v1/events, or an array of them that is published whole or not at
all. Any amount can be piped through. Lines that are refused are reported with
the reason, the others are published, and the exit status tells.

Events get their ids here, so that what the server cannot take at present, or
does not answer for, is sent again without being published twice.`,
		Example: `  tailroom publish /orders newOrder '{"orderId":"1042","branchId":"b7"}' --company c1
  tailroom publish /orders orderStatusUpdate '{"orderId":"1042","branchId":"b7","status":"accepted"}' \
    --company c1 --expected-version 1
  tailroom publish --company c1 < events.ndjson`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 3 {
				return fmt.Errorf("%d arguments: want NAMESPACE TYPE DATA, or none and events on standard input", len(args))
			}
			return nil
		},
	}
	flags := cmd.Flags()
	c.register(flags)
	c.registerCompany(flags)
	flags.DurationVar(&patience, "retry-for", time.Minute, "how long to try again while the server takes nothing")
	flags.StringArrayVar(&d.Rooms, "room", nil, "`room` to address it to; may be repeated (default: by the catalogue)")
	flags.StringVar(&d.Stream, "stream", "", "`stream` it belongs to (default: by the catalogue)")
	d.ExpectedVersion = flags.Int64("expected-version", 0, "`version` the stream must have; 0: it must not exist")
	flags.StringVar(&d.ID, "id", "", "`uuid` of the event (default: a new one)")
	flags.StringVar(&d.CorrelationID, "correlation-id", "", "`text` that ties it to others (default: its id)")
	flags.StringVar(&d.CausationID, "causation-id", "", "`uuid` of the event that caused it")
	flags.SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		tokens, err := c.tokens(access.Service)
		if err != nil {
			return err
		}
		p := &publisher{
			poster:  poster{url: c.url(), token: tokens, patience: patience, notice: cmd.ErrOrStderr()},
			company: c.company, out: cmd.OutOrStdout(), status: newStatus(cmd.ErrOrStderr()),
		}
		if !flags.Changed("expected-version") {
			d.ExpectedVersion = nil
		}
		if len(args) > 0 {
			return p.one(cmd.Context(), d, args)
		}
		for _, name := range []string{"room", "stream", "expected-version", "id", "correlation-id", "causation-id"} {
			if flags.Changed(name) {
				return fmt.Errorf("--%s is for an event given as arguments: on standard input each event says it itself", name)
			}
		}
		if isTerminal(cmd.InOrStdin()) {
			p.status.printf("Type events, one a line; Ctrl-D ends.")
		}
		return p.all(cmd.Context(), cmd.InOrStdin())
	}
	return cmd
}
