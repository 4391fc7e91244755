package access

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
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

// verifyKey is a key that verifies signatures, and its name, by which a ticket
// says which key its token was verified with. Equal keys have equal names, on
// every instance and wherever they come from; a name gives no key away.
type verifyKey struct {
	name string
	key  any
}

// secretKey is named by what is derived from it for that alone.
func secretKey(secret []byte) verifyKey {
	return verifyKey{keyName(jwt.SigningMethodHS256, derive(secret, "tailroom token secret name")), secret}
}

// keyName begins with the one algorithm that the key is used with.
func keyName(method jwt.SigningMethod, id []byte) string {
	return method.Alg() + ":" + base64.RawURLEncoding.EncodeToString(id)
}

// ofSecret reports whether a name is that of a secret.
func ofSecret(name string) bool { return strings.HasPrefix(name, keyName(jwt.SigningMethodHS256, nil)) }

// PublicKey verifies the signatures of one algorithm, and of no other. It is
// named by its thumbprint (RFC 7638).
type PublicKey struct {
	verifyKey

	id        string // the kid it answers to; "" is every one
	algorithm string
}

// newPublicKey returns a key with the one algorithm that keys of its type are
// used with here: RS256, ES256 or EdDSA.
func newPublicKey(id string, key any) (PublicKey, error) {
	var method jwt.SigningMethod
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < minRSA {
			return PublicKey{}, fmt.Errorf("it is an RSA key of %d bits: want at least %d", bits, minRSA)
		}
		method = jwt.SigningMethodRS256
	case *ecdsa.PublicKey:
		if key.Curve != elliptic.P256() {
			return PublicKey{}, fmt.Errorf("it is an EC key of the curve %s: want P-256", key.Curve.Params().Name)
		}
		method = jwt.SigningMethodES256
	case ed25519.PublicKey:
		method = jwt.SigningMethodEdDSA
	default:
		return PublicKey{}, errors.New("it is none of RSA, EC P-256 and Ed25519")
	}
	thumbprint, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return PublicKey{}, err
	}
	return PublicKey{verifyKey{keyName(method, thumbprint), key}, id, method.Alg()}, nil
}

// find returns the keys of an algorithm that may have signed a token with this
// kid, all of them if it is "", and whether one of them answers to the kid by
// name. Without a kid, any that there are will do.
func find(keys []PublicKey, algorithm, id string) (list []verifyKey, known bool) {
	for _, k := range keys {
		if k.algorithm == algorithm && (id == "" || k.id == "" || k.id == id) {
			list = append(list, k.verifyKey)
			known = known || id == "" || k.id == id
		}
	}
	return list, known
}
