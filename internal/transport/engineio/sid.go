package engineio

import (
	"crypto/rand"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"
)

// newSID returns an id that nobody guesses: who knows it can read and write the
// connection. It is "{owner}.{secret}", 128 bits each in base64url.
func newSID(owner uuid.UUID) string {
	var secret [16]byte
	_, _ = rand.Read(secret[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(owner[:]) + "." + base64.RawURLEncoding.EncodeToString(secret[:])
}

// Owner is the instance that a session id belongs to; ok is false if it is none of ours.
func Owner(sid string) (owner uuid.UUID, ok bool) {
	name, _, ok := strings.Cut(sid, ".")
	if !ok || base64.RawURLEncoding.DecodedLen(len(name)) != len(owner) {
		return uuid.Nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(name)
	if err != nil || len(raw) != len(owner) { // line breaks are passed over
		return uuid.Nil, false
	}
	return uuid.UUID(raw), true
}
