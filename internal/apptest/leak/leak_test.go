package leak_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/apptest/leak"
)

// The negative control of what every suite looks for.
func TestFinder(t *testing.T) {
	t.Parallel()
	mint := func(subject string) string {
		token, err := access.Mint([]byte(strings.Repeat("k", 32)), access.Claims{Subject: subject, CompanyID: "c1", Expires: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		return token
	}
	known, other := mint("known"), mint("other")
	_, key := certtest.NewAuthority(t).Sign(t, time.Now().Add(time.Hour), "localhost")
	lines := strings.Split(string(key), "\n")
	signature := known[strings.LastIndex(known, ".")+1:]
	for name, test := range map[string]struct {
		text  string
		found string
	}{
		"the token":             {`{"msg":"hello","token":"` + known + `"}`, "a token"},
		"in an address":         {"GET /v1/stream?token=" + known + "&cursor=now", "a token"},
		"its signature":         {"signature=" + signature + " is wrong", "a token"},
		"its signature, alone":  {signature, "a token"},
		"at the end":            {"cursor-" + signature, "a token"},
		"the secret":            {"key: the secret of the test.", "the secret"},
		"a key":                 {"-----BEGIN PRIVATE KEY-----\n" + lines[1] + "\n", "the key"},
		"a line of a key":       {"key=" + lines[2], "the key"},
		"where all keys begin":  {lines[1][:40], ""},
		"another token":         {other, ""},
		"half of its signature": {signature[:20], ""},
		"an unsigned token":     {known[:strings.LastIndex(known, ".")], ""},
		"nothing":               {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f leak.Finder
			f.Secret("the secret", "the secret of the test")
			f.Key("the key", string(key))
			f.Token(`{"type":"hello","token":"` + known + `"}`)
			slog.New(slog.NewJSONHandler(&f, nil)).Info("a line", "text", test.text)
			if test.found == "" {
				require.NoError(t, f.Err())
				return
			}
			require.ErrorContains(t, f.Err(), test.found+" is in the log")
		})
	}
}
