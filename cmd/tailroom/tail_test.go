package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

func publishOrders(t *testing.T, server *apptest.Instance, company string, orders ...int) {
	t.Helper()
	var input strings.Builder
	for _, i := range orders {
		fmt.Fprintf(&input, order, i)
	}
	_, _, err := tailroom(t.Context(), strings.NewReader(input.String()),
		"publish", "--url", server.URL, "--token", serviceToken(t), "--company", company)
	require.NoError(t, err)
}

func TestTail_UntilLive(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	publishOrders(t, server, "c1", 1, 2, 3)
	publishOrders(t, server, "c2", 4)
	server.Reach(t, 4)
	tail := func(args ...string) (string, string) {
		args = append([]string{"tail", "--url", server.URL, "--token", analystToken(t), "--until-live"}, args...)
		stdout, stderr, err := tailroom(t.Context(), nil, args...)
		require.NoError(t, err)
		return stdout, stderr
	}
	events, said := tail("--from", "earliest", "--company", "c1")
	require.Equal(t, logged(t, server, "c1"), events)
	require.Contains(t, said, "following from 1-0: /availability company:c1, /orders company:c1, /printing-ws company:c1\n")
	require.Contains(t, said, "Live at 1-4\nTo go on from here: --from 1-4\n")

	events, _ = tail("--from", "1-2", "--company", "c1")
	require.Equal(t, strings.Join(strings.SplitAfter(logged(t, server, "c1"), "\n")[2:], ""), events)
	events, _ = tail("--from", "earliest")
	require.Equal(t, logged(t, server, "c1")+logged(t, server, "c2"), events, "all companies")
	events, _ = tail("--from", "earliest", "--namespace", "/printing-ws")
	require.Empty(t, events)
	events, _ = tail("--from", "earliest", "--company", "c1", "--room", "branch:b8")
	require.Empty(t, events)
	events, said = tail()
	require.Empty(t, events)
	require.Contains(t, said, "following from 1-4")
}

func TestTail_FollowsUntilInterrupted(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	ctx, interrupt := context.WithCancel(t.Context())
	stdout, out := io.Pipe()
	stderr, said := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"tail", "--url", server.URL, "--token", analystToken(t)}, out, said)
		_ = said.Close()
	}()
	status, events := bufio.NewScanner(stderr), bufio.NewScanner(stdout)
	require.True(t, status.Scan())
	require.Contains(t, status.Text(), "Connected to ")
	require.True(t, status.Scan())
	require.Equal(t, "Live at 1-0", status.Text())

	for i := range 3 {
		publishOrders(t, server, "c1", i)
		require.True(t, events.Scan())
		require.Contains(t, events.Text(), fmt.Sprintf(`{"cursor":"1-%d"`, i+1))
	}
	interrupt()
	require.True(t, status.Scan())
	require.Equal(t, "To go on from here: --from 1-3", status.Text())
	require.NoError(t, <-ended)
}

func TestTail_SaysWhyItIsRefused(t *testing.T) {
	t.Parallel()
	server := startInstance(t)
	for args, want := range map[string]string{
		"--token rubbish":                        "unauthenticated: the token is not a JWT",
		"--token rubbish --namespace /orders":    "unauthenticated: the token is not a JWT (4100)",
		"--token good --from 1-x":                "invalid_cursor",
		"--token good --namespace /nowhere":      "unknown_namespace",
		"--token good --url example.com:3001":    `"example.com:3001" is not the address of a server`,
		"--token good --room lobby --company c1": "invalid_room",
	} {
		args = strings.Replace(args, "good", analystToken(t), 1)
		_, _, err := tailroom(t.Context(), nil, append([]string{"tail", "--url", server.URL}, strings.Fields(args)...)...)
		require.ErrorContains(t, err, want, args)
	}
}
