package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/access"
)

func tailCommand() *cobra.Command {
	var c caller
	var namespaces, rooms []string
	var untilLive bool
	config := client.Config{Name: "tailroom tail", Version: buildVersion()}
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Follow events as they happen, or from any point of the log",
		Long: `Follow events. Each is a line of JSON on standard output; what becomes of the
connection is said on standard error. When the connection breaks it comes back
and goes on behind the last event, on any instance.

Ctrl-C says where to come back to, for --from. A token of one branch follows
that branch, a company's the whole company. Without a token, and without
--company, all companies are followed.`,
		Example: `  tailroom tail --namespace /orders --room branch:b7 --company c1
  tailroom tail --from 1-1042
  tailroom tail --from earliest --until-live > events.ndjson`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	c.register(flags)
	c.registerCompany(flags)
	flags.StringArrayVar(&namespaces, "namespace", nil, "`namespace` to follow; may be repeated (default: all)")
	flags.StringArrayVar(&rooms, "room", nil, "`room` to follow; may be repeated (default: all that the token covers)")
	flags.StringVar(&config.From, "from", "now", "where to begin: earliest, now or a `cursor`")
	flags.BoolVar(&untilLive, "until-live", false, "stop when all that has happened so far is told")
	flags.SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// An analyst reads everything and changes nothing.
		tokens, err := c.tokens(access.Analyst)
		if err != nil {
			return err
		}
		config.Server = client.Server{URLs: []string{c.url()}, Token: tokens, CompanyID: c.company}
		if len(namespaces) == 0 {
			namespaces = []string{""}
		}
		for _, namespace := range namespaces {
			config.Subscribe = append(config.Subscribe, client.Subscription{Namespace: namespace, Rooms: rooms})
		}
		return tail(cmd, config, untilLive)
	}
	return cmd
}

// tail prints what it follows. An interrupt is a good end.
func tail(cmd *cobra.Command, config client.Config, untilLive bool) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	said := newStatus(cmd.ErrOrStderr())
	config.Handler = func(_ context.Context, e client.Event) error {
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", e.Raw); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
		return nil
	}
	config.OnReset = func(_ context.Context, r client.Reset) error {
		said.printf("%s", describeReset(r))
		return nil
	}
	config.OnStatus = func(s client.Status) {
		if text := describeStatus(s); text != "" {
			said.printf("%s", text)
		}
		if untilLive && s.Phase == client.Live {
			cancel()
		}
	}
	c, err := client.New(config)
	if err != nil {
		return err
	}
	err = c.Run(ctx)
	if cursor := c.Cursor(); cursor != "" {
		said.printf("To go on from here: --from %s", cursor)
	}
	return err
}

// describeStatus says for people what became of the connection.
func describeStatus(s client.Status) string {
	switch s.Phase {
	case client.Replaying:
		rooms := make([]string, 0, len(s.Rooms))
		for _, namespace := range slices.Sorted(maps.Keys(s.Rooms)) {
			rooms = append(rooms, namespace+" "+strings.Join(s.Rooms[namespace], " "))
		}
		return fmt.Sprintf("Connected to %s, following from %s: %s", s.Instance, s.Cursor, strings.Join(rooms, ", "))
	case client.Live:
		return "Live at " + s.Cursor
	case client.Degraded:
		return "The log is away: " + s.Reason
	case client.Offline:
		return fmt.Sprintf("Disconnected: %s. Trying again in %s", s.Err, time.Until(s.Retry).Round(time.Millisecond))
	case client.Connecting, client.Closed:
	}
	return ""
}

// describeReset tells of a gap, so that nobody overlooks it.
func describeReset(r client.Reset) string {
	why := "the log no longer goes back that far"
	if r.Reason == "diverged" {
		why = "the log was failed over or restored, and has another past"
	}
	return fmt.Sprintf("RESET (%s): %s. Events before %s are missing here; the log is complete from %s, and %s has the state",
		r.Reason, why, r.Resume, r.Oldest, r.Snapshot)
}
