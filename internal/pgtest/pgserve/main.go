// Command pgserve is a private Postgres for tests that are not written in Go.
// It prints the address of an empty database, and is gone, with its data, when
// its standard input closes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/tailroom/tailroom/internal/localpg"
)

// patience is how long Postgres may take to start or to stop.
const patience = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Stdin, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "pgserve:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, stdin io.Reader, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "tailroom-pgtest-") // pgtest sweeps away what is left of these
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // root's Postgres runs as somebody else
		return err
	}
	starting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	server, err := localpg.Start(starting, localpg.Config{Dir: dir, Settings: map[string]string{"max_connections": "200"}})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(stdout, server.URL("tailroom"))

	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		close(closed)
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(err, server.Stop(stopping))
}
