package access

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tailroom/tailroom/internal/problem"
)

// leeway is how far the clocks of the issuer and of this server may be apart.
const leeway = 30 * time.Second

// everyCompany is the companyId of a platform-wide token.
const everyCompany = "*"

// VerifierConfig says which tokens to believe.
type VerifierConfig struct {
	Secrets  [][]byte         // the HS256 keys; a WeakSecret verifies nothing
	Public   []PublicKey      // the keys of the other algorithms
	KeySet   *KeySet          // more of them, an issuer's; may be nil
	Tickets  [][]byte         // the keys of tickets, as Cluster.Keys returns them; none: there are no tickets
	Issuer   string           // what iss must be; "" accepts any
	Audience string           // what aud must contain; "" accepts any
	Roles    RoleMap          // what userRole means
	Lifetime time.Duration    // the longest from iat to exp; 0 is any, and then iat may be missing
	Revoked  func(Grant) bool // whether a token that is good otherwise was revoked; nil: none was
	Now      func() time.Time // nil is time.Now
}

// Verifier turns tokens into grants. It is safe for concurrent use.
type Verifier struct {
	config  VerifierConfig
	tokens  *keyring
	tickets *keyring
}

// NewVerifier returns a Verifier that believes what c says.
func NewVerifier(c VerifierConfig) *Verifier {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verifier{
		config: c, tokens: newKeyring(c.Secrets, c.Public, c.KeySet), tickets: newKeyring(c.Tickets, nil, nil),
	}
}

// Verify returns what the token allows. Its errors are of the codes
// unauthenticated, token_expired, token_revoked, forbidden for a platform-wide
// token whose role cannot have one, and unavailable while the issuer's keys are
// not known.
func (v *Verifier) Verify(token string) (Grant, error) {
	_, grant, err := v.believe(token, v.tokens, "")
	return grant, err
}

// believe returns the claims of a token of a kind that a key of the ring has
// signed, and what they allow.
func (v *Verifier) believe(token string, ring *keyring, kind string) (claims, Grant, error) {
	parsed, err := ring.open(token)
	if err != nil {
		return claims{}, Grant{}, err
	}
	return v.weigh(parsed, kind)
}

// weigh returns the claims of a token whose signature is good, and what they
// allow.
func (v *Verifier) weigh(parsed *jwt.Token, kind string) (claims, Grant, error) {
	if typ, _ := parsed.Header["typ"].(string); (typ == ticketType) != (kind == ticketType) {
		return claims{}, Grant{}, refuse("a ticket is no token, and a token no ticket")
	}
	raw, _ := parsed.Claims.(jwt.MapClaims)
	c, err := readClaims(raw)
	if err != nil {
		return claims{}, Grant{}, err
	}
	now := v.config.Now()
	if err := v.judge(c, now); err != nil {
		return claims{}, Grant{}, err
	}
	grant, err := v.grant(c, now)
	if err != nil {
		return claims{}, Grant{}, err
	}
	if v.config.Revoked != nil && v.config.Revoked(grant) {
		return claims{}, Grant{}, problem.New(problem.TokenRevoked, "the token was revoked")
	}
	if kind == ticketType {
		signer, _ := parsed.Header[ticketKey].(string)
		if err := v.tokens.holds(signer); err != nil {
			return claims{}, Grant{}, err
		}
	}
	return c, grant, nil
}

// judge reports whether the claims are meant for this server and for now.
func (v *Verifier) judge(c claims, now time.Time) error {
	switch {
	case v.config.Issuer != "" && c.issuer != v.config.Issuer:
		return refuse("the token is of another issuer (iss)")
	case v.config.Audience != "" && !slices.Contains(c.audience, v.config.Audience):
		return refuse("the token was issued for another audience (aud)")
	case now.Before(c.notBefore.Add(-leeway)):
		return refuse("the token is not valid yet (nbf)")
	case now.Before(c.issuedAt.Add(-leeway)):
		return refuse("the token was issued in the future (iat)")
	case !now.Before(c.expires.Add(leeway)):
		return problem.New(problem.TokenExpired, "the token has expired")
	}
	return v.judgeLifetime(c)
}

// judgeLifetime refuses a token that could outlive the memory of its revocation.
// One that does not say when it was issued could live for ever: it would be good
// again and again while its end draws near.
func (v *Verifier) judgeLifetime(c claims) error {
	most := v.config.Lifetime
	switch {
	case most == 0:
		return nil
	case c.issuedAt.IsZero():
		return refuse("the token does not say when it was issued (iat), " +
			"and this server accepts only tokens that live for at most " + most.String())
	case c.expires.Sub(c.issuedAt) > most:
		return refuse("the token lives too long (from iat to exp): this server accepts only tokens that live for at most " + most.String())
	}
	return nil
}

func (v *Verifier) grant(c claims, now time.Time) (Grant, error) {
	g := Grant{
		Subject:     c.subject,
		TokenID:     c.tokenID,
		Role:        v.config.Roles.Role(c.role),
		Tenant:      c.company,
		AllBranches: c.branches == nil,
		Branches:    c.branches,
		IssuedAt:    c.issuedAt,
		Expires:     c.expires,
	}
	if !now.Before(g.Expires) { // accepted within the leeway: not to be cut at once
		g.Expires = g.Expires.Add(leeway)
	}
	if c.company == everyCompany {
		if !slices.Contains(platformRoles(), g.Role) {
			return Grant{}, problem.New(problem.Forbidden,
				`only the roles service, analyst and admin can have companyId "*"`).
				With("allowed", platformRoles())
		}
		g.Tenant, g.PlatformWide = "", true
	}
	return g, nil
}

// BearerToken returns the token of the request's Authorization header. It is
// an error of code unauthenticated if there is none.
func BearerToken(r *http.Request) (string, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	switch {
	case scheme == "":
		return "", refuse("there is no token: send Authorization: Bearer and the token")
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", refuse("the Authorization header is not of the form Bearer and a token")
	}
	return token, nil
}

func refuse(detail string) error { return problem.New(problem.Unauthenticated, detail) }
