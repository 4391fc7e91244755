// Command kitchen makes a print job of each order. It may be killed at any time
// and started again: each order gets one job, none is left out, and none comes
// twice.
//
//	main.go     flags, and the connection
//	kitchen.go  from the order to the job
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/tailroom/tailroom/client"
)

const usage = `Usage: kitchen [flags]

Follows the orders of a company, and publishes a print job for each, to the
printer kitchen-BRANCH of its branch.

Example:

  export TAILROOM_TOKEN=$(bin/tailroom token --role service --company c1 --sub kitchen)
  kitchen -print-within 15m

Flags:

`

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "kitchen"))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	os.Exit(code(err))
}

// code is what tells the service manager whether to start the kitchen again: after 1
// it may help, after 3 it must not. Two kitchens of one name would replace each other
// for ever, and an operator who has ended a session wants it to stay so.
func code(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, client.ErrReplaced), errors.Is(err, &client.Error{Code: "disconnected"}):
		slog.Error("the kitchen has ended, and is not to be started again by itself", "error", err)
		return 3
	default:
		slog.Error("the kitchen has ended", "error", err)
		return 1
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kitchen", flag.ContinueOnError)
	here := cmp.Or(os.Getenv("TAILROOM_URL"), "http://127.0.0.1:3001")
	urls := flags.String("url", here, "the instances, parted by commas; also TAILROOM_URL")
	tokenFile := flags.String("token-file", "", "a file with the token, read at every connection; without it TAILROOM_TOKEN")
	name := flags.String("name", "kitchen", "the name under which the server keeps its place")
	within := flags.Duration("print-within", 15*time.Minute, "how long after the order paper still helps")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	k := &kitchen{within: *within}
	var err error
	k.client, err = client.New(client.Config{
		Server:    client.Server{URLs: strings.Split(*urls, ","), Token: tokens(*tokenFile)},
		Consumer:  *name,
		Subscribe: []client.Subscription{{Namespace: "/orders"}},
		Handler:   k.handle,
		OnReset:   missing,
		OnStatus:  connection,
		Name:      "kitchen",
		Logger:    slog.Default(),
	})
	if err != nil {
		return err
	}
	return errors.Join(k.client.Run(ctx), k.client.Close())
}

func tokens(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		if file == "" {
			return os.Getenv("TAILROOM_TOKEN"), nil
		}
		text, err := os.ReadFile(file)
		return strings.TrimSpace(string(text)), err
	}
}

func missing(_ context.Context, r client.Reset) error {
	slog.Error("orders may be missing: the log does not go back to where the kitchen was", "reason", r.Reason, "resume", r.Resume)
	return nil
}

func connection(s client.Status) {
	slog.Info("connection", "phase", s.Phase, "instance", s.Instance, "cursor", s.Cursor, "error", s.Err)
}
