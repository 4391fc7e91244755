package main

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"

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
		Example: `  export DATABASE_URL=postgres://app:secret@db/app JWT_SECRET_FILE=/run/secrets/jwt
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

// serve runs an instance until the command's context ends. ready, when not
// nil, is called once it is about to serve.
func serve(cmd *cobra.Command, c config.Config, ready func(*app.App)) error {
	slog.SetDefault(telemetry.NewLogger(cmd.ErrOrStderr(), c.LogFormat, c.LogLevel, c.InstanceID))
	instance, err := app.Build(cmd.Context(), c, buildVersion())
	if err != nil {
		return err
	}
	if ready != nil {
		ready(instance)
	}
	return instance.Run(cmd.Context())
}
