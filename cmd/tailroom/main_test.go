package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"TAILROOM_URL", "TAILROOM_TOKEN", "JWT_SECRET", "DATABASE_URL"} {
		_ = os.Unsetenv(name) // the developer's own
	}
	apptest.Main(m)
}

// tailroom runs a command to its end. It must not say a token.
func tailroom(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	var out, said bytes.Buffer
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(&out)
	root.SetErr(&said)
	err = root.ExecuteContext(ctx)
	for _, text := range []string{out.String(), said.String(), fmt.Sprint(err)} {
		apptest.Look("what `tailroom "+args[0]+"` says", []byte(text))
	}
	return out.String(), said.String(), err
}

// keepLog gives the log back when the test ends: `serve` and `dev` take the whole
// process's.
func keepLog(t *testing.T) {
	t.Helper()
	before := slog.Default()
	t.Cleanup(func() { slog.SetDefault(before) })
}

// startInstance runs an instance on a database of its own.
func startInstance(t *testing.T) *apptest.Instance {
	t.Helper()
	return apptest.Cluster(t, 1)[0]
}

func serviceToken(t *testing.T) string {
	t.Helper()
	return apptest.Token(t, access.Service, "*")
}

func analystToken(t *testing.T) string {
	t.Helper()
	return apptest.Token(t, access.Analyst, "*")
}

// logged is the log of a company, a line for each event, as history has it.
func logged(t *testing.T, server *apptest.Instance, company string) string {
	t.Helper()
	answer := server.Do(t, http.MethodGet, "/v1/events?limit=10000&companyId="+company, analystToken(t), "",
		"Accept", "application/x-ndjson")
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	return string(answer.Body)
}

func TestHelp_HasAnExampleForEachCommand(t *testing.T) {
	t.Parallel()
	for _, cmd := range rootCommand().Commands() {
		if !cmd.Hidden {
			require.Contains(t, cmd.Example, "tailroom "+cmd.Name(), cmd.Name())
		}
	}
}
