package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/localpg"
	"github.com/tailroom/tailroom/internal/simulation"
	"github.com/tailroom/tailroom/internal/telemetry"
)

const (
	devDir        = ".tailroom"
	devSecretFile = "jwt_secret"
	// devDrain is how long Ctrl-C waits for sessions.
	devDrain = time.Second
	// postgresStop is how long the private Postgres may take to stop.
	postgresStop = 20 * time.Second
)

func devCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run an instance with a private PostgreSQL, for trying things out",
		Long: `Run an instance on this machine with a PostgreSQL of its own in .tailroom/, which
keeps the data between runs. It prints tokens that are good for a day, and what
to try next. With DATABASE_URL set it uses that database instead.`,
		Example: `  tailroom dev
  tailroom dev --port 4000 --log-level debug
  tailroom dev --simulate 20`,
		Args: cobra.NoArgs,
	}
	var rate float64
	cmd.Flags().Float64Var(&rate, "simulate", 0, "`events` a second of a simulated dinner service")
	config.Register(cmd.Flags())
	cmd.Flags().SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// What a developer wants differs in these; his own settings come last.
		environ := append([]string{
			"LOG_FORMAT=text", "TAILROOM_HOST=127.0.0.1", "CORS_ORIGINS=*", "TAILROOM_DRAIN_TIMEOUT=" + devDrain.String(),
		}, os.Environ()...)
		c, err := config.Load(environ, cmd.Flags())
		if err != nil {
			return err
		}
		return dev(cmd, c, rate)
	}
	return cmd
}

func dev(cmd *cobra.Command, c config.Config, rate float64) (err error) {
	slog.SetDefault(telemetry.NewLogger(cmd.ErrOrStderr(), c.LogFormat, c.LogLevel, c.InstanceID))
	if err := os.MkdirAll(devDir, 0o755); err != nil {
		return err
	}
	if c.JWTSecret == "" {
		secret, err := devSecret()
		if err != nil {
			return err
		}
		c.JWTSecret = config.Secret(secret)
	}
	var ended <-chan struct{} // the private Postgres'; never of another
	if c.DatabaseURL == "" {
		postgres, err := localpg.Start(cmd.Context(), localpg.Config{Dir: devDir, Durable: true, Log: slog.Default()})
		if err != nil {
			return err
		}
		defer func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), postgresStop)
			defer cancel()
			err = errors.Join(err, postgres.Stop(ctx))
		}()
		ended = postgres.Done()
		c.DatabaseURL = config.Secret(postgres.URL("tailroom"))
	}
	return serve(cmd, c, func(ctx context.Context, url string) error {
		greet(cmd.OutOrStdout(), url, c)
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error {
			select {
			case <-ctx.Done():
				return nil
			case <-ended:
				return errors.New("the private Postgres has ended: see postgres.log in " + devDir)
			}
		})
		if rate <= 0 {
			return g.Wait()
		}
		s := simulator{
			Config: simulation.Config{Companies: simulatedCompanies, Branches: simulatedBranches}, rate: rate,
			poster: poster{url: url, token: minter(c, access.Service, "*"), patience: time.Minute, notice: cmd.ErrOrStderr()},
			status: &status{w: cmd.ErrOrStderr()},
		}
		g.Go(func() error { return s.run(ctx) })
		return g.Wait()
	})
}

// devSecret is the secret that this folder's tokens are signed with, made at
// the first run.
func devSecret() (string, error) {
	path := filepath.Join(devDir, devSecretFile)
	secret, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(secret)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	made := rand.Text() + rand.Text()
	return made, os.WriteFile(path, []byte(made+"\n"), 0o600)
}

// greet says where the instance is and what to try.
func greet(w io.Writer, url string, c config.Config) {
	mint := func(role, company string, branches ...string) string {
		now := time.Now()
		token, err := access.Mint([]byte(c.JWTSecret), access.Claims{
			Subject: "dev-" + role, CompanyID: company, BranchIDs: branches, UserRole: role,
			Issuer: c.JWTIssuer, Audience: c.JWTAudience, IssuedAt: now, Expires: now.Add(24 * time.Hour),
		})
		if err != nil {
			return "(" + err.Error() + ")"
		}
		return token
	}
	self := "tailroom"
	if strings.ContainsRune(os.Args[0], filepath.Separator) {
		self = os.Args[0] // not in the PATH
	}
	fmt.Fprintf(w, `
Tailroom is at %[1]s

Tokens, good for a day ("%[4]s token" makes others):

  export SERVICE=%[2]s
  export BRANCH=%[3]s

Watch branch b7 of company c1 (a WebSocket client that resumes):

  %[4]s tail --url %[1]s --token $BRANCH

Publish an order to it, in another terminal:

  curl -sS %[1]s/v1/events -H "Authorization: Bearer $SERVICE" -H "Content-Type: application/json" \
    -d '{"namespace":"/orders","type":"newOrder","data":{"orderId":"1042","branchId":"b7"}}'

Read it back from the log:

  curl -sS "%[1]s/v1/events?stream=order:1042" -H "Authorization: Bearer $BRANCH"

A whole dinner service, 20 events a second:

  %[4]s simulate --url %[1]s --rate 20

`, url, mint("service", "c1"), mint("web", "c1", "b7"), self)
}
