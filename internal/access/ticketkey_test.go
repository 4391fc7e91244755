package access

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

const keyGone = "the key of its token is not believed any more"

// reissue returns a verifier that has the cluster's secret and these keys for
// tokens: what an instance is after a restart with other settings.
func reissue(change func(*VerifierConfig)) *Verifier {
	return ticketing(clusterSecret, func(c *VerifierConfig) {
		c.Secrets = nil
		change(c)
	})
}

// TestTicketsEndWithTheSecret has a secret that leaked, and a ticket for a token
// that was forged with it.
func TestTicketsEndWithTheSecret(t *testing.T) {
	t.Parallel()
	newer, oldest := []byte("the secret of after, which is long enough"), []byte("the secret of long ago, long enough too")
	with := func(list ...[]byte) *Verifier { return reissue(func(c *VerifierConfig) { c.Secrets = list }) }
	ticket, _, err := with(testSecret, oldest).Ticket(signed(t, nil))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		now  *Verifier
		gone bool
	}{
		"still it":           {with(testSecret), false},
		"the previous one":   {with(newer, testSecret), false},
		"the next one":       {with(testSecret, newer), false},
		"rotated":            {with(newer), true},
		"rotated twice":      {with(newer, oldest), true},
		"from secret to key": {reissue(func(c *VerifierConfig) { c.Public = publicKeys(t, newSigner(t, "", "ES256")) }), true},
		"too weak to be one": {with(newer, testSecret[:31]), true},
		"no key for tokens":  {with(), true},
	} {
		_, err := test.now.VerifyTicket(ticket)
		if !test.gone {
			require.NoError(t, err, name)
			continue
		}
		requireProblem(t, err, problem.Unauthenticated, keyGone)
	}

	// The second of two secrets signs as well, and it is named.
	overlap := with(newer, testSecret)
	ticket, _, err = overlap.Ticket(signed(t, nil))
	require.NoError(t, err)
	_, err = with(testSecret).VerifyTicket(ticket)
	require.NoError(t, err)
	_, err = with(newer).VerifyTicket(ticket)
	requireProblem(t, err, problem.Unauthenticated, keyGone)
}

func publicKeys(t testing.TB, signers ...signer) []PublicKey {
	t.Helper()
	var text strings.Builder
	for _, s := range signers {
		text.WriteString(publicPEM(t, s.key.Public()))
	}
	path := filepath.Join(t.TempDir(), "keys.pem")
	require.NoError(t, os.WriteFile(path, []byte(text.String()), 0o600))
	keys, err := LoadPublicKeys(path)
	require.NoError(t, err)
	return keys
}

func TestTicketsEndWithTheKeyOfAFile(t *testing.T) {
	t.Parallel()
	for _, algorithm := range []string{"RS256", "ES256", "EdDSA"} {
		first, second := newSigner(t, "1", algorithm), newSigner(t, "2", algorithm)
		file := func(signers ...signer) *Verifier {
			return reissue(func(c *VerifierConfig) { c.Public = publicKeys(t, signers...) })
		}
		ticket, _, err := file(first, second).Ticket(second.token(t, nil))
		require.NoError(t, err)
		for _, has := range []*Verifier{file(first, second), file(second), file(second, first)} {
			_, err = has.VerifyTicket(ticket)
			require.NoError(t, err, algorithm)
		}
		_, err = file(first).VerifyTicket(ticket)
		requireProblem(t, err, problem.Unauthenticated, keyGone)
		// A key is the same wherever it is listed, under whatever name.
		second.id = "renamed"
		issuer := startIssuer(t, second)
		set, _, _ := issuer.follow()
		_, err = reissue(func(c *VerifierConfig) { c.KeySet = set }).VerifyTicket(ticket)
		require.NoError(t, err, algorithm)
	}
}

func TestTicketsEndWithTheKeyOfASet(t *testing.T) {
	t.Parallel()
	old, fresh := newSigner(t, "k", "ES256"), newSigner(t, "k", "ES256") // a kid says nothing
	issuer := startIssuer(t, old)
	set, _, _ := issuer.follow()
	v := reissue(func(c *VerifierConfig) { c.KeySet = set })
	ticket, _, err := v.Ticket(old.token(t, nil))
	require.NoError(t, err)
	_, err = v.VerifyTicket(ticket)
	require.NoError(t, err)
	require.EqualValues(t, 1, issuer.asked.Load())

	// As with tokens, it is good until the set is next loaded.
	issuer.publish(t, fresh)
	_, err = v.VerifyTicket(ticket)
	require.NoError(t, err)
	require.NoError(t, set.refresh(t.Context()))
	_, err = v.VerifyTicket(ticket)
	requireProblem(t, err, problem.Unauthenticated, keyGone)

	// A key that goes while a ticket is made makes none.
	parsed, err := v.tokens.open(fresh.token(t, nil))
	require.NoError(t, err)
	issuer.publish(t, old)
	require.NoError(t, set.refresh(t.Context()))
	_, err = v.tokens.signer(parsed)
	requireProblem(t, err, problem.Unauthenticated, "not known here")
}

// TestTicketsOfAKeyThatIsNotKnownYet has a ticket of an instance whose set is
// newer, and an issuer that comes and goes.
func TestTicketsOfAKeyThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	old, fresh := newSigner(t, "1", "RS256"), newSigner(t, "2", "RS256")
	issuer := startIssuer(t, old, fresh)
	other, _, _ := issuer.follow()
	ticket, _, err := reissue(func(c *VerifierConfig) { c.KeySet = other }).Ticket(fresh.token(t, nil))
	require.NoError(t, err)
	ofSecret, _, err := ticketing(clusterSecret, nil).Ticket(signed(t, nil))
	require.NoError(t, err)

	issuer.does(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	set, _, _ := issuer.follow()
	now := testNow
	v := reissue(func(c *VerifierConfig) { c.KeySet, c.Now = set, func() time.Time { return now } })
	_, err = v.VerifyTicket(ticket)
	requireProblem(t, err, problem.Unavailable, "cannot be loaded at present")
	asked := issuer.asked.Load()
	_, err = v.VerifyTicket(ofSecret)
	requireProblem(t, err, problem.Unauthenticated, keyGone) // an issuer has no secrets
	now = testNow.Add(2 * time.Hour)
	_, err = v.VerifyTicket(ticket)
	requireProblem(t, err, problem.TokenExpired, "")
	require.Equal(t, asked, issuer.asked.Load())
	now = testNow

	issuer.publish(t, old)
	_, err = v.Verify(old.token(t, nil))
	require.NoError(t, err)
	issuer.publish(t, old, fresh)
	_, err = v.VerifyTicket(ticket)
	require.NoError(t, err)
}

// TestTicketsNameTheirKey has tickets that name none, or another than the
// token's own header says.
func TestTicketsNameTheirKey(t *testing.T) {
	t.Parallel()
	v := ticketing(clusterSecret, nil)
	forge := func(header map[string]any) string {
		ticket := jwt.NewWithClaims(jwt.SigningMethodHS256, with(nil))
		ticket.Header["typ"] = ticketType
		maps.Copy(ticket.Header, header)
		text, err := ticket.SignedString(v.tickets.secrets[0].key)
		require.NoError(t, err)
		return text
	}
	name := v.tokens.secrets[0].name
	_, err := v.VerifyTicket(forge(map[string]any{ticketKey: name}))
	require.NoError(t, err)
	for _, header := range []map[string]any{
		nil, {ticketKey: ""}, {ticketKey: 7}, {ticketKey: name + "x"}, {ticketKey: v.tickets.secrets[0].name}, {"kid": name},
	} {
		_, err := v.VerifyTicket(forge(header))
		requireProblem(t, err, problem.Unauthenticated, keyGone)
	}

	// What a token says of its key is not heard.
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, with(jwt.MapClaims{ticketKey: "x"}))
	token.Header[ticketKey], token.Header["kid"] = "y", "z"
	text, err := token.SignedString(testSecret)
	require.NoError(t, err)
	ticket, _, err := v.Ticket(text)
	require.NoError(t, err)
	_, err = v.VerifyTicket(ticket)
	require.NoError(t, err)
	// A name gives nothing away: neither the secret, nor a key that signs.
	for _, key := range []string{string(testSecret), string(NewCluster(nil, nil, testSecret).Keys(Tickets)[0])} {
		require.NotContains(t, name, key)
	}
}
