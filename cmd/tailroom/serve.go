package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/tailroom/tailroom/internal/app"
	"github.com/tailroom/tailroom/internal/config"
	"github.com/tailroom/tailroom/internal/telemetry"
)

func serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one instance on the PostgreSQL of DATABASE_URL",
		Long: `Run one instance. Any number of them share a database; clients may reach any.

Every setting is a flag and an environment variable; the flag wins. A setting
that does not exist, or a bad value, is an error at start that names it.`,
		Example: `  export DATABASE_URL=postgres://app@db/app JWT_SECRET_FILE=/run/secrets/jwt
  tailroom serve --port 3001 --cors-origins https://app.example`,
		Args: cobra.NoArgs,
	}
	config.Register(cmd.Flags())
	cmd.Flags().SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := config.Load(os.Environ(), cmd.Flags(), config.Database, config.Tokens)
		if err != nil {
			return err
		}
		return serve(cmd, c, nil)
	}
	return cmd
}

// serve runs an instance until the command's context ends, and beside it, when
// it is not nil, what wants to know where the instance is. Either ends the
// other by an error.
func serve(cmd *cobra.Command, c config.Config, beside func(ctx context.Context, url string) error) error {
	slog.SetDefault(telemetry.NewLogger(cmd.ErrOrStderr(), c.LogFormat, c.LogLevel, c.InstanceID))
	instance, err := app.Build(cmd.Context(), c, buildVersion())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(cmd.Context())
	g.Go(func() error { return instance.Run(ctx) })
	if beside != nil {
		g.Go(func() error { return beside(ctx, instance.URL()) })
	}
	return g.Wait()
}
