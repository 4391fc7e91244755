package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func TestSimulate_FillsTheLog(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	simulate := func(ctx context.Context, more ...string) error {
		_, stderr, err := tailroom(ctx, nil, append([]string{
			"simulate", "--url", server.URL, "--token", serviceToken(t),
			"--rate", "4000", "--companies", "2", "--branches", "2", "--seed", "1",
		}, more...)...)
		if err != nil {
			return err
		}
		if !simulated.MatchString(stderr) {
			return fmt.Errorf("it said %q", stderr)
		}
		return nil
	}
	require.NoError(t, simulate(t.Context(), "--duration", "1s"))

	// However long the whole story takes here.
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- simulate(ctx) }()
	apptest.Eventually(t, func() bool {
		events := logged(t, server, "c1") + logged(t, server, "c2")
		for _, namespace := range catalog.Default().All() {
			for _, typ := range namespace.Types {
				if !strings.Contains(events, `"type":"`+typ.Name+`"`) {
					return false
				}
			}
		}
		return true
	}, apptest.Patience, 200*time.Millisecond)
	interrupt()
	require.NoError(t, <-ended)
}

// simulated is what a simulation says that has published something.
var simulated = regexp.MustCompile(`(?s)--seed 1\n.*: [1-9]\d* events published, \d+ a second, 0 refused\n$`)

func TestSimulate_RefusesWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--rate=0", "--companies=0", "--branches=0", "--duration=-1s"} {
		_, _, err := tailroom(t.Context(), nil, "simulate", "--token", "any", flag)
		require.Error(t, err, flag)
	}
}

// An instance with a simulation, and commands that find its secret in the
// folder. It changes the folder, so it does not run beside others.
func TestDev_Simulates(t *testing.T) {
	keepLog(t)
	dsn := pgtest.Database(t)
	t.Chdir(t.TempDir())
	ctx, interrupt := context.WithCancel(t.Context())
	greeting, out := io.Pipe()
	log, err := os.Create("log")
	require.NoError(t, err)
	defer log.Close()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"dev", "--database-url", dsn, "--port", "0", "--simulate", "500"}, out, log)
	}()
	text := make([]byte, 8<<10)
	n, err := greeting.Read(text)
	require.NoError(t, err)
	url := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(string(text[:n]))
	_, err = os.Stat(".tailroom/jwt_secret")
	require.NoError(t, err)

	events, stop := io.Pipe()
	following, leave := context.WithCancel(t.Context())
	followed := make(chan error, 1)
	go func() {
		followed <- run(following, []string{"tail", "--url", url, "--from", "earliest"}, stop, io.Discard)
	}()
	_, err = io.ReadFull(events, make([]byte, 64<<10))
	require.NoError(t, err)
	go func() { _, _ = io.Copy(io.Discard, events) }()
	leave()
	require.NoError(t, <-followed)
	require.NoError(t, stop.Close())

	stdout, _, err := tailroom(t.Context(), nil, "publish", "--url", url, "--company", "c9", "/orders", "newOrder", `{"orderId":"1","branchId":"b7"}`)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(stdout, `{"cursor":`))
	interrupt()
	require.NoError(t, <-ended)
	said, err := os.ReadFile("log")
	require.NoError(t, err)
	apptest.Look("the log of `tailroom dev`", said)
	require.Contains(t, string(said), "Simulating 3 companies with 4 branches each, 500 events a second")
}
