package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/client"
	"github.com/tailroom/tailroom/internal/apptest"
)

// program is a desktop application that is killed over and over: it stores orders,
// one after the other, and says each when it is stored, and each event when it is
// handled.
func program() error {
	var begin int
	if _, err := fmt.Sscan(os.Getenv("BEGIN"), &begin); err != nil {
		return err
	}
	dir := os.Getenv("DIR")
	c, err := client.New(client.Config{
		Server:     client.Server{URLs: []string{os.Getenv("URL")}, Token: static(os.Getenv("TOKEN"))},
		CursorFile: filepath.Join(dir, "cursor"),
		From:       "earliest",
		Handler: func(_ context.Context, e client.Event) error {
			fmt.Fprintf(os.Stdout, "handled %s\n", e.Stream)
			return nil
		},
		Outbox:    filepath.Join(dir, "outbox"),
		OnRefused: func(_ context.Context, r client.Refusal) error { return r.Err },
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(context.Background()) }()
	for i := begin; ; i++ {
		order := orders(i, i+1)[0]
		order.ID = client.DeriveID("orders", fmt.Sprint(i)) // it is stored again if the last life did not say it
		if err := c.Enqueue(order); err != nil {
			return errors.Join(err, c.Close())
		}
		fmt.Fprintf(os.Stdout, "stored order:%d\n", i)
		select {
		case err := <-ended:
			return err
		default:
		}
	}
}

// A program is killed with -9 at random, with its connection up and down. What it
// stored is in the log once and in order, and it handles every event, in order,
// beginning each time where it had kept the cursor.
func TestKill_NothingIsLost(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	l := apptest.NewLine(t, server.URL)
	dir := t.TempDir()
	stored, handled := 0, 0
	for life := range 8 {
		l.Turn(server.URL)
		if life%3 == 2 {
			l.Turn("")
		}
		lines, kill := spawn(t, "program", "DIR="+dir, "URL="+l.URL(), "TOKEN="+service(t), fmt.Sprintf("BEGIN=%d", stored))
		first := true
		take := func(line string) {
			var n int
			if _, err := fmt.Sscanf(line, "stored order:%d", &n); err == nil {
				require.Equal(t, stored, n)
				stored++
			}
			if _, err := fmt.Sscanf(line, "handled order:%d", &n); err == nil {
				if first {
					require.LessOrEqual(t, n, handled, "it passed over an event")
				} else {
					require.Equal(t, handled, n)
				}
				first, handled = false, n+1
			}
		}
		for range 50 + rand.N(200) {
			line, ok := next(t, lines), true
			require.True(t, ok)
			require.NotEmpty(t, line, "it ended by itself")
			take(line)
		}
		kill()
		for line := range lines {
			take(line)
		}
	}

	l.Turn(server.URL)
	f := follow(t, client.Config{
		Server: serverAt(service(t), l.URL()), CursorFile: filepath.Join(dir, "cursor"), Outbox: filepath.Join(dir, "outbox"),
		OnRefused: func(_ context.Context, r client.Refusal) error { return r.Err },
	})
	require.Eventually(t, func() bool { return f.Pending() == 0 }, apptest.Patience, 1e7)
	all := logged(t, serverAt(service(t), server.URL))
	// The one that was being stored when the last life ended may be there as well.
	require.Contains(t, []int{stored, stored + 1}, len(all))
	for i, e := range all {
		require.Equal(t, fmt.Sprintf("order:%d", i), e.Stream)
		require.EqualValues(t, 1, e.Version, "it was published twice")
	}
	// There is one to come, however far the last life got.
	_, err := serverAt(service(t), server.URL).Publish(t.Context(), orders(len(all), len(all)+1)...)
	require.NoError(t, err)
	all = logged(t, serverAt(service(t), server.URL))
	e := next(t, f.events)
	var n int
	_, err = fmt.Sscanf(e.Stream, "order:%d", &n)
	require.NoError(t, err)
	require.LessOrEqual(t, n, handled)
	for e.Cursor != all[len(all)-1].Cursor {
		e = next(t, f.events)
	}
	f.stop()
	require.NoError(t, <-f.ended)
	kept, err := os.ReadFile(filepath.Join(dir, "cursor"))
	require.NoError(t, err)
	require.Equal(t, e.Cursor, strings.TrimSpace(string(kept)))
}
