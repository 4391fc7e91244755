package main

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestRun_ServesUntilItsInputCloses(t *testing.T) {
	t.Parallel()
	stdin, hold := io.Pipe()
	stdout, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(t.Context(), stdin, out) }()

	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, conn.Ping(t.Context()))
	require.NoError(t, conn.Close(t.Context()))

	require.NoError(t, hold.Close())
	require.NoError(t, <-ended)
	_, err = pgx.Connect(t.Context(), strings.TrimSpace(line))
	require.Error(t, err)
}
