package access

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// minSecret is the length of a secret that guessing cannot find, in bytes:
	// that of an HS256 signature.
	minSecret = 32
	// minRSA is the least size of an RSA key, in bits: RFC 7518 §3.3.
	minRSA = 2048
)

// WeakSecret reports whether secret is too short to sign tokens with: shorter
// than 32 bytes.
func WeakSecret(secret []byte) bool { return len(secret) < minSecret }

var errWeakSecret = errors.New("the secret is shorter than 32 bytes")

// PublicKey verifies the signatures of one algorithm, and of no other.
type PublicKey struct {
	id        string // the kid it answers to; "" is every one
	algorithm string
	key       any
}

// newPublicKey returns a key with the one algorithm that keys of its type are
// used with here: RS256, ES256 or EdDSA.
func newPublicKey(id string, key any) (PublicKey, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return PublicKey{}, fmt.Errorf("it is an RSA key of %d bits: want at least %d", bits, minRSA)
		}
		return PublicKey{id, jwt.SigningMethodRS256.Alg(), key}, nil
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("it is an EC key of the curve %s: want P-256", key.Curve.Params().Name)
		}
		return PublicKey{id, jwt.SigningMethodES256.Alg(), key}, nil
	case ed25519.PublicKey:
		return PublicKey{id, jwt.SigningMethodEdDSA.Alg(), key}, nil
	}
	return PublicKey{}, errors.New("it is none of RSA, EC P-256 and Ed25519")
}

// find returns the keys of an algorithm that may have signed a token with this
// kid, all of them if it is "", and whether one of them answers to the kid by
// name. Without a kid, any that there are will do.
func find(keys []PublicKey, algorithm, id string) (list []jwt.VerificationKey, known bool) {
	for _, k := range keys {
		if k.algorithm == algorithm && (id == "" || k.id == "" || k.id == id) {
			list = append(list, k.key)
			known = known || id == "" || k.id == id
		}
	}
	return list, known
}
