package access

import (
	"errors"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// What keeps a token from being verified, besides its form and its algorithm.
var (
	errUnknownKey = errors.New("there is no key for the token")
	errSignature  = errors.New("the signature is of none of the keys")
)

// keyring is every key that may have signed a token. Which algorithms are
// taken follows from what is in it, never from the token: HS256 is verified
// with secrets alone, and each of the others with public keys of its own type.
type keyring struct {
	secrets []verifyKey // of HS256
	public  []PublicKey
	set     *KeySet // the keys of an issuer, or nil
	parser  *jwt.Parser
}

// newKeyring leaves out secrets that are weak: an empty one would let anybody
// sign.
func newKeyring(secrets [][]byte, public []PublicKey, set *KeySet) *keyring {
	k := &keyring{public: public, set: set}
	for _, secret := range secrets {
		if !WeakSecret(secret) {
			k.secrets = append(k.secrets, secretKey(secret))
		}
	}
	k.parser = jwt.NewParser(
		jwt.WithValidMethods(k.algorithms()),
		jwt.WithJSONNumber(),          // ids may be integers beyond 2^53
		jwt.WithoutClaimsValidation()) // judge has a sentence for each
	return k
}

func (k *keyring) algorithms() []string {
	list := []string{} // to the parser, nil would be every one
	if len(k.secrets) > 0 {
		list = append(list, jwt.SigningMethodHS256.Alg())
	}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodES256, jwt.SigningMethodEdDSA} {
		if keys, _ := find(k.public, method.Alg(), ""); k.set != nil || len(keys) > 0 {
			list = append(list, method.Alg())
		}
	}
	return list
}

// open returns the token if one of the keys has signed it. A token whose key
// the issuer's set does not have makes the set be loaded anew, once.
func (k *keyring) open(token string) (*jwt.Token, error) {
	parsed, seen, err := k.try(token)
	if errors.Is(err, errUnknownKey) && k.set != nil {
		if err := k.set.renew(seen, func() bool { _, unknown, _ := k.candidates(parsed); return !unknown }); err != nil {
			return nil, err
		}
		parsed, _, err = k.try(token)
	}
	if err != nil {
		return nil, k.disbelieve(err)
	}
	if _, ok := parsed.Header["crit"]; ok { // RFC 7515 §4.1.11: understand it or refuse
		return nil, refuse("the token needs header extensions that are not supported")
	}
	return parsed, nil
}

// try verifies the token with the keys at hand. The error is errUnknownKey if
// none of them matches and there is one that is not known, or was not when the
// set was seen.
func (k *keyring) try(token string) (_ *jwt.Token, seen int64, _ error) {
	var found, unknown bool
	parsed, err := k.parser.Parse(token, func(t *jwt.Token) (any, error) {
		var list []verifyKey
		list, unknown, seen = k.candidates(t)
		found = len(list) > 0
		keys := jwt.VerificationKeySet{}
		for _, key := range list {
			keys.Keys = append(keys.Keys, key.key)
		}
		return keys, nil
	})
	switch {
	case err != nil && unknown:
		err = errUnknownKey
	case err != nil && found:
		err = errSignature
	}
	return parsed, seen, err
}

// candidates are the keys that may have signed a token of one of the ring's
// algorithms, and whether its kid names another that the set lacked when it was
// seen.
func (k *keyring) candidates(t *jwt.Token) (list []verifyKey, unknown bool, seen int64) {
	algorithm := t.Method.Alg()
	if algorithm == jwt.SigningMethodHS256.Alg() {
		return k.secrets, false, 0
	}
	id, _ := t.Header["kid"].(string)
	list, _ = find(k.public, algorithm, id)
	if k.set == nil {
		return list, len(list) == 0, 0
	}
	keys, seen := k.set.keys()
	more, known := find(keys, algorithm, id)
	list = append(list, more...)
	return list, keys == nil || !known, seen
}

// signer is the name of the key that has signed a token, which open returned.
func (k *keyring) signer(t *jwt.Token) (name string, err error) {
	list, _, _ := k.candidates(t)
	text := t.Raw[:strings.LastIndexByte(t.Raw, '.')]
	for _, key := range list {
		if t.Method.Verify(text, t.Signature, key.key) == nil {
			return key.name, nil
		}
	}
	return "", k.disbelieve(errUnknownKey) // it has just gone
}

// holds returns nil if a key of the ring has the name. The issuer's set is
// loaded anew for one that it may have by now, as for a token.
func (k *keyring) holds(name string) error {
	known, seen := k.has(name)
	if !known && k.set != nil && !ofSecret(name) {
		err := k.set.renew(seen, func() bool { known, _ := k.has(name); return known })
		if err != nil {
			return err
		}
		known, _ = k.has(name)
	}
	if !known {
		return refuse("the ticket is good no longer, because the key of its token is not believed any more: get another one")
	}
	return nil
}

// has reports whether a key has the name, and when the set was seen.
func (k *keyring) has(name string) (known bool, seen int64) {
	public := func(key PublicKey) bool { return key.name == name }
	known = slices.ContainsFunc(k.public, public) ||
		slices.ContainsFunc(k.secrets, func(key verifyKey) bool { return key.name == name })
	if k.set == nil {
		return known, 0
	}
	keys, seen := k.set.keys()
	return known || slices.ContainsFunc(keys, public), seen
}

// disbelieve says why a token's form or signature was refused.
func (k *keyring) disbelieve(err error) error {
	algorithms := k.algorithms()
	switch {
	case len(algorithms) == 0:
		return refuse("the server has no key to verify tokens with")
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse("the token is not a JWT")
	case errors.Is(err, errUnknownKey):
		return refuse("the token is signed with a key that is not known here (kid)")
	case errors.Is(err, errSignature):
		return refuse("the signature does not match")
	}
	return refuse("the token's algorithm is not accepted: the keys here are for " + strings.Join(algorithms, ", "))
}
