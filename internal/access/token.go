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

// platformRoles are the roles that a platform-wide token can have.
var platformRoles = []Role{Service, Analyst, Admin}

// VerifierConfig says which tokens to believe.
type VerifierConfig struct {
	Secret   []byte           // the HS256 key; a WeakSecret verifies nothing
	Issuer   string           // what iss must be; "" accepts any
	Audience string           // what aud must contain; "" accepts any
	Roles    RoleMap          // what userRole means
	Lifetime time.Duration    // the longest from iat to exp; 0 is any, and then iat may be missing
	Revoked  func(Grant) bool // whether a token that is good otherwise was revoked; nil: none was
	Now      func() time.Time // nil is time.Now
}

// Verifier turns tokens into grants. It is safe for concurrent use.
type Verifier struct {
	config VerifierConfig
	parser *jwt.Parser
	key    jwt.Keyfunc
}

// NewVerifier returns a Verifier that believes what c says.
func NewVerifier(c VerifierConfig) *Verifier {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Verifier{
		config: c,
		key:    sharedKey(c.Secret),
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithJSONNumber(),           // ids may be integers beyond 2^53
			jwt.WithoutClaimsValidation()), // judge has a sentence for each
	}
}

// Verify returns what the token allows. Its errors are of the codes
// unauthenticated, token_expired, token_revoked, and forbidden for a
// platform-wide token whose role cannot have one.
func (v *Verifier) Verify(token string) (Grant, error) {
	raw := jwt.MapClaims{}
	parsed, err := v.parser.ParseWithClaims(token, raw, v.key)
	if err != nil {
		return Grant{}, disbelieve(err)
	}
	if _, ok := parsed.Header["crit"]; ok { // RFC 7515 §4.1.11: understand it or refuse
		return Grant{}, refuse("the token needs header extensions that are not supported")
	}
	c, err := readClaims(raw)
	if err != nil {
		return Grant{}, err
	}
	now := v.config.Now()
	if err := v.judge(c, now); err != nil {
		return Grant{}, err
	}
	g, err := v.grant(c, now)
	if err == nil && v.config.Revoked != nil && v.config.Revoked(g) {
		return Grant{}, problem.New(problem.TokenRevoked, "the token was revoked")
	}
	return g, err
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
		if !slices.Contains(platformRoles, g.Role) {
			return Grant{}, problem.New(problem.Forbidden,
				`only the roles service, analyst and admin can have companyId "*"`).
				With("allowed", platformRoles)
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
