package access

import (
	"errors"

	"github.com/golang-jwt/jwt/v5"
)

// minSecret is the length of a secret that guessing cannot find, in bytes:
// that of an HS256 signature.
const minSecret = 32

// WeakSecret reports whether secret is too short to sign tokens with: shorter
// than 32 bytes.
func WeakSecret(secret []byte) bool { return len(secret) < minSecret }

var errWeakSecret = errors.New("the secret is shorter than 32 bytes")

// sharedKey is the key source of HS256: one secret, whatever the header says.
// Other sources are functions of the same type, each with its own pinned
// algorithms, so that a key is never used with another kind of algorithm.
func sharedKey(secret []byte) jwt.Keyfunc {
	return func(*jwt.Token) (any, error) {
		if WeakSecret(secret) { // an empty key would let anybody sign
			return nil, errWeakSecret
		}
		return secret, nil
	}
}

// disbelieve says why a token's form or signature was refused.
func disbelieve(err error) error {
	switch {
	case errors.Is(err, errWeakSecret):
		return refuse("the server has no key to verify tokens with")
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse("the token is not a JWT")
	case errors.Is(err, jwt.ErrSignatureInvalid):
		return refuse("the signature does not match")
	}
	return refuse("the token's algorithm is not accepted: HS256 is")
}
