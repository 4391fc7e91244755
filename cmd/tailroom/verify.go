package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/verify"
)

// The exit statuses of tailroom verify. 0 is a log in order.
const (
	exitFault     = 1
	exitUnchecked = 2
)

func verifyCommand() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Let the log of DATABASE_URL prove that it is in order",
		Long: `Read the whole log and check that it keeps its promises: every event once and at
its position, every version of every stream once and in order, heads and the
idempotency window in agreement with the events, and nothing that appears behind
the tip, goes or changes while it is read. Instances may go on appending; nothing
is written and nobody is kept waiting.

Exit status: 0 when all holds, 1 when there is a fault, 2 when the log could not be
checked to the end. It needs the rights of tailroom_owner. The window's length is
taken from TAILROOM_ID_WINDOW, as the instances have it.`,
		Example: `  DATABASE_URL=postgres://… tailroom verify
  DATABASE_URL=postgres://… tailroom verify --json > report.json`,
		Args: func(cmd *cobra.Command, args []string) error { return unchecked(cobra.NoArgs(cmd, args)) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return unchecked(err) })
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON object, and no progress")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "show no progress")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(os.Environ(), cmd.Flags(), config.Database)
		if err != nil {
			return unchecked(err)
		}
		run := verify.Config{Window: c.IDWindow}
		bar := newProgress(newStatus(cmd.ErrOrStderr()))
		if !asJSON && !quiet {
			run.Progress = bar.show
		}
		report, err := verify.Run(cmd.Context(), string(c.DatabaseURL), run)
		bar.erase()
		if err != nil {
			return unchecked(fmt.Errorf("the log could not be checked: %w", err))
		}
		if asJSON {
			err = json.NewEncoder(cmd.OutOrStdout()).Encode(report)
		} else {
			err = printReport(cmd.OutOrStdout(), report)
		}
		if err != nil {
			return unchecked(err)
		}
		if n := report.Total(); n > 0 {
			return &exitError{status: exitFault, err: fmt.Errorf("the log has faults: %d", n)}
		}
		return nil
	}
	return cmd
}

// unchecked is an error that left the log unverified.
func unchecked(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{status: exitUnchecked, err: err}
}

func printReport(w io.Writer, r *verify.Report) error {
	for i := range r.Faults {
		printFinding(w, &r.Faults[i])
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "Note: %d %s", n.Count, n.What)
		if n.Position > 0 {
			fmt.Fprintf(w, " (first met at %d)", n.Position)
		}
		fmt.Fprintln(w)
	}
	c := r.Checked
	fmt.Fprintf(w, "Checked %d events behind position %d up to %d-%d, %d partitions, %d streams, "+
		"%d requests, and %d ids of the idempotency window, in %.1f s.\n",
		c.Events, r.Log.Floor, r.Log.Epoch, r.Log.Tip, c.Partitions, c.Streams, c.Requests, c.WindowIDs, r.Seconds)
	verdict := "All holds."
	if !r.OK {
		verdict = fmt.Sprintf("Faults: %d, of %d kinds.", r.Total(), len(r.Faults))
	}
	_, err := fmt.Fprintln(w, verdict)
	return err
}

func printFinding(w io.Writer, f *verify.Finding) {
	fmt.Fprintf(w, "FAULT %s, against invariant %d: %s (%d)\n", f.Kind, f.Invariant, f.What, f.Count)
	for _, p := range f.Examples {
		fmt.Fprintf(w, "  %s: expected %s, found %s\n", placeText(p), p.Expected, p.Found)
	}
	if more := f.Count - int64(len(f.Examples)); more > 0 {
		fmt.Fprintf(w, "  and %d more\n", more)
	}
	fmt.Fprintf(w, "  What to do: %s\n\n", f.Advice)
}

// placeText says where a fault is.
func placeText(p verify.Place) string {
	var text strings.Builder
	fmt.Fprintf(&text, "position %d", p.Position)
	if p.UpTo > 0 {
		fmt.Fprintf(&text, " to %d", p.UpTo)
	}
	for _, part := range []struct{ format, value string }{
		{", partition %s", p.Partition}, {", company %s", p.CompanyID}, {", %s", p.Namespace}, {", stream %s", p.Stream}, {", id %s", p.ID},
	} {
		if part.value != "" {
			fmt.Fprintf(&text, part.format, part.value)
		}
	}
	return text.String()
}
