package config

import (
	"errors"

	"github.com/tailroom/tailroom/internal/access"
)

// KeySecrets are the secrets that tokens are verified with, the newest first.
func (c Config) KeySecrets() [][]byte {
	return [][]byte{[]byte(c.JWTSecret), []byte(c.JWTSecretPrevious)}
}

// Cluster derives the keys that the instances share.
func (c Config) Cluster() access.Cluster {
	return access.NewCluster([]byte(c.ClusterSecret), []byte(c.ClusterSecretPrevious), c.KeySecrets()...)
}

// rotations reports a secret that is going away without one that takes over.
// given says which settings were given, good or bad.
func rotations(given map[string]bool) error {
	var errs []error
	for previous, current := range map[string]string{
		"TAILROOM_JWT_SECRET_PREVIOUS": "JWT_SECRET", "TAILROOM_CLUSTER_SECRET_PREVIOUS": "CLUSTER_SECRET",
	} {
		if given[previous] && !given[current] {
			errs = append(errs, errors.New(previous+" is set without "+current+": the newer secret goes there"))
		}
	}
	return errors.Join(errs...)
}

// needKeys reports what is missing to verify tokens, and to sign what the
// cluster signs.
func needKeys(given map[string]bool) error {
	switch {
	case given["JWT_SECRET"]:
		return nil
	case !given["JWT_PUBLIC_KEY_FILE"] && !given["JWKS_URL"]:
		return errors.New("none of JWT_SECRET, JWT_PUBLIC_KEY_FILE and JWKS_URL is set: tokens are verified with a secret, " +
			"with public keys in a file, or with those of an issuer")
	case !given["CLUSTER_SECRET"]:
		return errors.New("CLUSTER_SECRET is not set: without JWT_SECRET there is nothing else to derive the cluster's keys from; " +
			"give all instances the same, such as openssl rand -hex 32 prints")
	}
	return nil
}
