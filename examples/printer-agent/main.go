// Command printer-agent is the program beside the printers of a branch. It prints
// the jobs that Tailroom brings, each once, and tells what became of them.
//
//	main.go     flags
//	agent.go    what is taken from the log, and what is said to it
//	task.go     which events are work
//	queue.go    what waits for a printer
//	journal.go  what is done, on the disk
//	printer.go  the printers: put yours here
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

	"github.com/tailroom/tailroom/client"
)

const usage = `Usage: printer-agent -branch ID [flags]

Prints the jobs of a branch. Each virtual printer is a folder in -dir, a page is
a file in it, and the file "status" there says how the printer is: online, slow,
paper_out, cover_open, offline.

Example:

  export TAILROOM_TOKEN=$(bin/tailroom token --role desktop_app --company c1 --branch b7 --sub pc-7)
  printer-agent -branch b7 -printers kitchen-b7,bar-b7 -dir /var/lib/printer-agent

Flags:

`

// settings are what the flags say.
type settings struct {
	urls, tokenFile, branch, name, dir, printers string
}

func main() {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("component", "printer-agent"))
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	os.Exit(code(err))
}

// code is what tells the service manager whether to start the agent again: after 1 it
// may help, after 3 it must not. Two agents of one name would replace each other for
// ever, and an operator who has ended a session wants it to stay so.
func code(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, client.ErrReplaced), errors.Is(err, &client.Error{Code: "disconnected"}):
		slog.Error("the agent has ended, and is not to be started again by itself", "error", err)
		return 3
	default:
		slog.Error("the agent has ended", "error", err)
		return 1
	}
}

func run(ctx context.Context, args []string) error {
	var s settings
	flags := flag.NewFlagSet("printer-agent", flag.ContinueOnError)
	here := cmp.Or(os.Getenv("TAILROOM_URL"), "http://127.0.0.1:3001")
	flags.StringVar(&s.urls, "url", here, "the instances, parted by commas; also TAILROOM_URL")
	flags.StringVar(&s.tokenFile, "token-file", "", "a file with the token, read at every connection; without it TAILROOM_TOKEN")
	flags.StringVar(&s.branch, "branch", "", "the branch whose printers these are")
	flags.StringVar(&s.name, "name", "", "the name of this agent, under which the server keeps its place (default printer-agent-BRANCH)")
	flags.StringVar(&s.dir, "dir", "printer-agent", "where the journal, the outbox and the printers are")
	flags.StringVar(&s.printers, "printers", "", "the printers' ids, parted by commas (default kitchen-BRANCH)")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), usage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.branch == "" {
		return errors.New("no branch: say whose printers these are, such as -branch b7")
	}
	s.name = cmp.Or(s.name, "printer-agent-"+s.branch)
	s.printers = cmp.Or(s.printers, "kitchen-"+s.branch)
	a, err := newAgent(s)
	if err != nil {
		return err
	}
	return errors.Join(a.run(ctx), a.close())
}

// server is where the server is, and who the agent is to it.
func (s settings) server() client.Server {
	return client.Server{URLs: strings.Split(s.urls, ","), Token: func(context.Context) (string, error) {
		if s.tokenFile == "" {
			return os.Getenv("TAILROOM_TOKEN"), nil
		}
		text, err := os.ReadFile(s.tokenFile)
		return strings.TrimSpace(string(text)), err
	}}
}
