package main

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/tailclient"
)

func tailCommand() *cobra.Command {
	var c client
	var untilLive bool
	config := tailclient.Config{Name: "tailroom tail", Version: buildVersion()}
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
	flags.StringArrayVar(&config.Namespaces, "namespace", nil, "`namespace` to follow; may be repeated (default: all)")
	flags.StringArrayVar(&config.Rooms, "room", nil, "`room` to follow; may be repeated (default: all that the token covers)")
	flags.StringVar(&config.From, "from", "now", "where to begin: earliest, now or a `cursor`")
	flags.BoolVar(&untilLive, "until-live", false, "stop when all that has happened so far is told")
	flags.SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// An analyst reads everything and changes nothing.
		tokens, err := c.tokens(access.Analyst)
		if err != nil {
			return err
		}
		config.URL, config.Token, config.CompanyID = c.url(), tokens, c.company
		return tail(cmd, config, untilLive)
	}
	return cmd
}

// tail prints what it follows. An interrupt is a good end.
func tail(cmd *cobra.Command, config tailclient.Config, untilLive bool) error {
	out, said := bufio.NewWriter(cmd.OutOrStdout()), newStatus(cmd.ErrOrStderr())
	cursor := ""
	defer func() {
		if cursor != "" {
			said.printf("To go on from here: --from %s", cursor)
		}
	}()
	for m, err := range tailclient.Follow(cmd.Context(), config) {
		if err != nil {
			return err
		}
		for _, e := range m.Events {
			fmt.Fprintf(out, "%s\n", e)
		}
		if err := out.Flush(); err != nil {
			return fmt.Errorf("writing events: %w", err)
		}
		if m.Cursor != "" {
			cursor = m.Cursor
		}
		if text := describeMessage(m); text != "" {
			said.printf("%s", text)
		}
		if untilLive && m.Type == tailclient.Live {
			return nil
		}
	}
	return nil
}

// describeMessage says for people what became of the connection.
func describeMessage(m tailclient.Message) string {
	switch m.Type {
	case tailclient.Welcome:
		rooms := make([]string, 0, len(m.Rooms))
		for _, namespace := range slices.Sorted(maps.Keys(m.Rooms)) {
			rooms = append(rooms, namespace+" "+strings.Join(m.Rooms[namespace], " "))
		}
		return fmt.Sprintf("Connected to %s, following from %s: %s", m.Instance, m.Cursor, strings.Join(rooms, ", "))
	case tailclient.Live:
		return "Live at " + m.Cursor
	case tailclient.Degraded:
		return "The log is away: " + m.Reason
	case tailclient.Expiring:
		return "The token expires at " + m.ExpiresAt.Format(time.RFC3339)
	case tailclient.GoAway:
		return "The server sends us away: " + m.Reason
	case tailclient.Disconnected:
		return fmt.Sprintf("Disconnected: %s. Trying again in %s", m.Err, m.Delay.Round(1e6))
	case tailclient.Reset:
		return describeReset(m)
	case tailclient.Events, tailclient.Bookmark:
	}
	return ""
}

// describeReset tells of a gap, so that nobody overlooks it.
func describeReset(m tailclient.Message) string {
	why := "the log no longer goes back that far"
	if m.Reason == "diverged" {
		why = "the log was failed over or restored, and has another past"
	}
	return fmt.Sprintf("RESET (%s): %s. Events before %s are missing here; the log is complete from %s, and %s has the state",
		m.Reason, why, m.Cursor, m.Oldest, m.Snapshot)
}
