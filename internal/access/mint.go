package access

import (
	"crypto/rand"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims is what a minted token says. Zero fields are left out of it, with
// the exception of an empty BranchIDs.
type Claims struct {
	Subject   string
	CompanyID string   // "*" is every company
	BranchIDs []string // nil is every branch, empty is none
	UserRole  string
	Issuer    string
	Audience  string
	IssuedAt  time.Time // whole seconds, as Expires
	Expires   time.Time
}

// Mint returns an HS256 token with a random jti. A WeakSecret is an error,
// because no server would accept it; the claims are not checked.
func Mint(secret []byte, c Claims) (string, error) {
	if WeakSecret(secret) {
		return "", errWeakSecret
	}
	m := jwt.MapClaims{"jti": rand.Text()}
	for name, text := range map[string]string{
		"sub": c.Subject, "companyId": c.CompanyID, "userRole": c.UserRole, "iss": c.Issuer, "aud": c.Audience,
	} {
		if text != "" {
			m[name] = text
		}
	}
	for name, t := range map[string]time.Time{"iat": c.IssuedAt, "exp": c.Expires} {
		if !t.IsZero() {
			m[name] = t.Unix()
		}
	}
	if c.BranchIDs != nil {
		m["branchIds"] = c.BranchIDs
	}
	return jwt.NewWithClaims(jwt.SigningMethodHS256, m).SignedString(secret)
}
