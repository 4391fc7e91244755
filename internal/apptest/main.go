package apptest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/tailroom/tailroom/internal/apptest/leak"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// secrets looks for tokens, tickets, the secrets that sign them, the keys of
// certificates, and the password of the database in whatever instances log, at
// every level, and answer to this package's helpers. Every token that goes out
// through them is known to it, and every ticket that comes.
var secrets leak.Finder

// Main is pgtest.Main, and fails when a secret was found where none may be.
func Main(m *testing.M, options ...goleak.Option) {
	pgtest.Main(watched{m}, options...)
}

// Look looks for secrets in what a test got without this package's helpers, such
// as the log of another process.
func Look(where string, text []byte) { secrets.Look(where, text) }

// Shown makes the tokens in a text known that a test sends without this package's helpers.
func Shown(text string) { secrets.Token(text) }

// Log is where another process can log to: it is looked at, a line at a time.
var Log io.Writer = &secrets

// Key makes a private key in PEM known that must be nowhere.
func Key(name string, pem []byte) { secrets.Key(name, string(pem)) }

type watched struct{ m *testing.M }

func (w watched) Run() int {
	flag.Parse()
	secrets.Secret("JWT_SECRET", Secret)
	secrets.Secret("TAILROOM_JWT_SECRET_PREVIOUS", SecretPrevious)
	secrets.Secret("CLUSTER_SECRET", ClusterSecret)
	secrets.Secret("TAILROOM_CLUSTER_SECRET_PREVIOUS", ClusterSecretPrevious)
	secrets.Secret("the database's password", pgtest.WriterPassword)
	if f := flag.Lookup("test.bench"); f == nil || f.Value.String() == "" { // a benchmark does not pay for it
		// What tests cause on purpose is not news, but is looked at.
		shown := slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
		looked := slog.NewJSONHandler(&secrets, &slog.HandlerOptions{Level: slog.LevelDebug})
		slog.SetDefault(slog.New(both{shown, looked}))
	}
	code := w.m.Run()
	if err := secrets.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// both is two handlers, each with a level of its own.
type both [2]slog.Handler

func (b both) Enabled(ctx context.Context, level slog.Level) bool {
	return b[0].Enabled(ctx, level) || b[1].Enabled(ctx, level)
}

func (b both) Handle(ctx context.Context, r slog.Record) error {
	var errs []error
	for _, h := range b {
		if h.Enabled(ctx, r.Level) {
			errs = append(errs, h.Handle(ctx, r.Clone()))
		}
	}
	return errors.Join(errs...)
}

func (b both) WithAttrs(attrs []slog.Attr) slog.Handler {
	return both{b[0].WithAttrs(attrs), b[1].WithAttrs(attrs)}
}

func (b both) WithGroup(name string) slog.Handler {
	return both{b[0].WithGroup(name), b[1].WithGroup(name)}
}
