package access

import (
	"crypto/hkdf"
	"crypto/sha256"
)

// Purpose is what a key of the cluster is for. Each has keys of its own, so
// that what was signed for one is worth nothing for another.
type Purpose string

// The purposes there are.
const (
	Tickets  Purpose = "ticket"   // to sign the cookies of browsers
	Recovery Purpose = "recovery" // to sign what Socket.IO clients come back with
	Peers    Purpose = "peer"     // to sign what instances ask of each other
)

// derivedKey is the length of a derived key, in bytes.
const derivedKey = sha256.Size

// Cluster derives the keys that instances share, for what they hand to each
// other and to clients. The zero Cluster has none.
type Cluster struct {
	generations [][]byte
	label       string
}

// NewCluster derives keys from secret and, so that what was signed before a
// rotation stays good, from previous, which may be nil. Without a secret, the
// keys are derived from the token secrets, of which the first signs; those
// keys are others than the same text would give as a cluster secret.
func NewCluster(secret, previous []byte, tokenSecrets ...[]byte) Cluster {
	if len(secret) > 0 {
		return Cluster{[][]byte{secret, previous}, "tailroom cluster secret: "}
	}
	return Cluster{tokenSecrets, "tailroom token secret: "}
}

// Keys returns the keys of a purpose: the first signs, all verify. They are
// derived with HKDF-SHA256 (RFC 5869), the purpose in its info.
func (c Cluster) Keys(p Purpose) [][]byte {
	var keys [][]byte
	for _, secret := range c.generations {
		if WeakSecret(secret) {
			continue
		}
		keys = append(keys, derive(secret, c.label+string(p)))
	}
	return keys
}

// derive is HKDF-SHA256. No two purposes of a secret have the same info.
func derive(secret []byte, info string) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, info, derivedKey)
	if err != nil {
		panic("access: HKDF: " + err.Error()) // only for a length that it cannot make
	}
	return key
}
