package access

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxKeys is how many keys a set may have: a token without a kid is tried
// against all of its algorithm.
const maxKeys = 100

// parseKeySet reads a JWK Set (RFC 7517 §5). Keys that cannot be used are left
// out, and ignored says why; a set without one that can be is an error.
func parseKeySet(text []byte) (keys []PublicKey, ignored []string, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, nil, fmt.Errorf("it is no JWK Set: %w", err)
	}
	if len(set.Keys) > maxKeys {
		return nil, nil, fmt.Errorf("it has %d keys: want at most %d", len(set.Keys), maxKeys)
	}
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			ignored = append(ignored, fmt.Sprintf("key %d: %s", i+1, err))
			continue
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, ignored, errors.New("it has no key that can be used: " + strings.Join(ignored, "; "))
	}
	return keys, ignored, nil
}

// parseKey reads a JWK that is meant to verify signatures with.
func parseKey(raw []byte) (PublicKey, error) {
	var meant struct {
		Type       string          `json:"kty"`
		Use        string          `json:"use"`
		Operations []string        `json:"key_ops"`
		Secret     json.RawMessage `json:"k"`
		Private    json.RawMessage `json:"d"`
	}
	if json.Unmarshal(raw, &meant) != nil {
		return PublicKey{}, errors.New("it is no JWK")
	}
	switch {
	case meant.Type == "oct" || meant.Secret != nil:
		return PublicKey{}, errors.New("it is a secret, which anybody could sign with who reads it here")
	case meant.Private != nil:
		return PublicKey{}, errors.New("it is a private key, which anybody could sign with who reads it here")
	case meant.Use != "" && meant.Use != "sig":
		return PublicKey{}, fmt.Errorf("its use is %q: want sig", meant.Use)
	case meant.Operations != nil && !slices.Contains(meant.Operations, "verify"):
		return PublicKey{}, errors.New("its key_ops do not have verify")
	}
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(raw); err != nil {
		return PublicKey{}, err
	}
	key, err := newPublicKey(jwk.KeyID, jwk.Key)
	if err != nil {
		return PublicKey{}, err
	}
	if jwk.Algorithm != "" && jwk.Algorithm != key.algorithm {
		return PublicKey{}, fmt.Errorf("its alg is %q: keys of its type are for %s here", jwk.Algorithm, key.algorithm)
	}
	return key, nil
}
