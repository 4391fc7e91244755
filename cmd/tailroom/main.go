// Command tailroom is an event log that talks: a realtime server on PostgreSQL
// alone.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version string

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // who asks twice is not kept waiting
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tailroom:", err)
		os.Exit(exitStatus(err))
	}
}

// exitError is an error with an exit status of its own.
type exitError struct {
	status int
	err    error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// exitStatus is what the process says of an error: 1, unless it knows better.
func exitStatus(err error) int {
	if own, ok := errors.AsType[*exitError](err); ok {
		return own.status
	}
	return 1
}

// run is main without the process: tests run it as well.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return explainCertificate(root.ExecuteContext(ctx))
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tailroom",
		Short: "An event log that talks: realtime on PostgreSQL alone",
		Long: `Tailroom keeps domain events in an append-only PostgreSQL table, tells every
instance with NOTIFY, and pushes them to the sockets in the matching rooms. A
client that reconnects, anywhere, replays from its last event id.`,
		Example: `  tailroom dev                                   # a private Postgres, tokens, and what to try next
  tailroom serve --database-url postgres://…     # an instance; needs JWT_SECRET
  tailroom token --role web --company c1 --branch b7
  tailroom tail --from earliest                  # every event there is, then those to come`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       buildVersion(),
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(devCommand(), serveCommand(), migrateCommand(), tokenCommand(),
		publishCommand(), tailCommand(), simulateCommand(), partitionsCommand(),
		epochCommand(), outboxCommand(), redactCommand(), stateCommand(), verifyCommand())
	return root
}

func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
