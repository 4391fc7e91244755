package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/config"
)

// defaultURL is where `tailroom dev` and `tailroom serve` are by default.
const defaultURL = "http://127.0.0.1:3001"

// mintedTTL is how long a token lasts that a command makes for itself; it
// makes another one for every connection.
const mintedTTL = time.Hour

// caller is what the commands that talk to a server have in common: where it
// is, and who they are to it.
type caller struct {
	address, token, company string
}

func (c *caller) register(flags *pflag.FlagSet) {
	flags.StringVar(&c.address, "url", "", "`url` of the server (default: TAILROOM_URL, else "+defaultURL+")")
	flags.StringVar(&c.token, "token", "", "`token` to show it (default: TAILROOM_TOKEN, else one made with JWT_SECRET or the secret of this folder's \"tailroom dev\")")
}

func (c *caller) registerCompany(flags *pflag.FlagSet) {
	flags.StringVar(&c.company, "company", "", "`id` of the company, for tokens that are good for every company")
}

func (c *caller) url() string { return cmp.Or(c.address, os.Getenv("TAILROOM_URL"), defaultURL) }

// tokens returns what yields the token to show: the one given, or fresh ones
// of this role for the company, or for every company when none was named.
func (c *caller) tokens(role access.Role) (func(context.Context) (string, error), error) {
	if given := cmp.Or(c.token, os.Getenv("TAILROOM_TOKEN")); given != "" {
		return func(context.Context) (string, error) { return given, nil }, nil
	}
	settings, err := config.Load(os.Environ(), pflag.NewFlagSet("", pflag.ContinueOnError))
	if err != nil {
		return nil, err
	}
	secret, err := tokenSecret(settings)
	if err != nil {
		return nil, fmt.Errorf("give a token with --token or TAILROOM_TOKEN; none can be made here: %w", err)
	}
	settings.JWTSecret = config.Secret(secret)
	return minter(settings, role, cmp.Or(c.company, "*")), nil
}

// minter makes tokens for the command line itself.
func minter(c config.Config, role access.Role, company string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		now := time.Now()
		return access.Mint([]byte(c.JWTSecret), access.Claims{
			Subject: "tailroom-cli", CompanyID: company, UserRole: string(role),
			Issuer: c.JWTIssuer, Audience: c.JWTAudience, IssuedAt: now, Expires: now.Add(mintedTTL),
		})
	}
}
