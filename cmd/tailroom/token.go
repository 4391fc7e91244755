package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/config"
)

func tokenCommand() *cobra.Command {
	var claims access.Claims
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Mint a token for a role, company and branches",
		Long: `Mint a token signed with JWT_SECRET, or with the secret of "tailroom dev" when
that runs in this folder. It is printed alone, for use in scripts.

Without --branch the token covers the whole company. --company '*' is platform
wide, for the roles service, analyst and admin.`,
		Example: `  tailroom token --role web --company c1 --branch b7
  tailroom token --role desktop_app --company c1 --branch b7 --sub printer-pc-7 --ttl 720h
  curl -H "Authorization: Bearer $(tailroom token --role service --company c1)" …`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	flags.StringVar(&claims.UserRole, "role", "web", "web, desktop_app, service, analyst or admin")
	flags.StringVar(&claims.CompanyID, "company", "c1", "the company's id, or * for every company")
	flags.StringSliceVar(&claims.BranchIDs, "branch", nil, "a branch's id; may be repeated (default: the whole company)")
	flags.StringVar(&claims.Subject, "sub", "", "who the token is for (default: the role)")
	flags.DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is good")
	flags.StringVar(&claims.Issuer, "issuer", "", "the claim iss (default: JWT_ISSUER)")
	flags.StringVar(&claims.Audience, "audience", "", "the claim aud (default: JWT_AUDIENCE)")
	flags.SortFlags = false
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(access.Roles, access.Role(claims.UserRole)) {
			return fmt.Errorf("--role %q: want web, desktop_app, service, analyst or admin", claims.UserRole)
		}
		c, err := config.Load(os.Environ(), cmd.Flags())
		if err != nil {
			return err
		}
		secret, err := tokenSecret(c)
		if err != nil {
			return err
		}
		if claims.Subject == "" {
			claims.Subject = claims.UserRole
		}
		if claims.Issuer == "" {
			claims.Issuer = c.JWTIssuer
		}
		if claims.Audience == "" {
			claims.Audience = c.JWTAudience
		}
		claims.IssuedAt = time.Now()
		claims.Expires = claims.IssuedAt.Add(ttl)
		token, err := access.Mint(secret, claims)
		if err != nil {
			return err
		}
		fmt.Fprintln(cmd.OutOrStdout(), token)
		return nil
	}
	return cmd
}

// tokenSecret is JWT_SECRET, or that of the dev server of this folder.
func tokenSecret(c config.Config) ([]byte, error) {
	if c.JWTSecret != "" {
		return []byte(c.JWTSecret), nil
	}
	secret, err := os.ReadFile(filepath.Join(devDir, devSecretFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, errors.New("JWT_SECRET is not set, and no `tailroom dev` has run in this folder")
	}
	return []byte(strings.TrimSpace(string(secret))), err
}
