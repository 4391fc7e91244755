package main

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// A database is not spoken to unless it can prove who it is, by whatever way it
// is given, and the error says what to do.
func TestDatabase_IsVerified(t *testing.T) {
	t.Parallel()
	keepLog(t)
	authority, another := certtest.NewAuthority(t), certtest.NewAuthority(t)
	cert, key := authority.Sign(t, time.Now().Add(time.Hour), "localhost")
	server, port := pgtest.TLSServer(t, cert, key)
	dsn := pgtest.DatabaseOn(t, server)
	good := pgtest.TLSAddress(dsn, "localhost", port, authority.File)
	untrusted := pgtest.TLSAddress(dsn, "localhost", port, another.File)
	elsewhere := pgtest.TLSAddress(dsn, "127.0.0.1", port, authority.File)
	const (
		whoSigned = "name the file of its authority in the database's URL, as sslrootcert=…"
		whichHost = "use a name that it has in the database's URL (localhost)"
	)
	at := pgtest.FreePort(t)
	serve := func(database, listen string) []string {
		return []string{
			"serve", "--port", at, "--host", "127.0.0.1", "--jwt-secret", apptest.Secret, "--log-level", "debug",
			"--database-url", database, "--listen-database-url", listen,
		}
	}
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"all, another authority":             {serve(untrusted, untrusted), whoSigned},
		"all, another host":                  {serve(elsewhere, elsewhere), whichHost},
		"the pools, another authority":       {serve(untrusted, good), whoSigned},
		"the pools, another host":            {serve(elsewhere, good), whichHost},
		"what listens and leads, another CA": {serve(good, untrusted), whoSigned},
		"what listens and leads, elsewhere":  {serve(good, elsewhere), whichHost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := run(t.Context(), test.args, apptest.Log, apptest.Log)
			require.ErrorContains(t, err, test.says)
			require.ErrorContains(t, err, "x509: ")
			require.NotContains(t, err.Error(), apptest.Secret)
		})
	}
	t.Run("whom it can believe", func(t *testing.T) {
		t.Parallel()
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, serve(good, good), apptest.Log, apptest.Log) }()
		i := &apptest.Instance{URL: "http://127.0.0.1:" + at}
		apptest.Eventually(t, func() bool {
			require.Empty(t, ended)
			answer, err := i.Request(t.Context(), http.MethodGet, "/readyz", "", "")
			return err == nil && answer.Status == http.StatusOK
		}, apptest.Patience, 10*time.Millisecond, "it serves")
		interrupt()
		require.NoError(t, <-ended, "it runs until it is told to end")
	})
}
