package leak_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest/leak"
)

// What a server says back of the token that came to it, wherever it says so. Only
// the cookie of a ticket may hold one, and that only one that no client has sent.
func TestTransport(t *testing.T) {
	t.Parallel()
	mint := func(subject string) string {
		token, err := access.Mint([]byte(strings.Repeat("k", 32)), access.Claims{Subject: subject, CompanyID: "c1", Expires: time.Now().Add(time.Hour)})
		require.NoError(t, err)
		return token
	}
	token, ticket := mint("user"), mint("ticket")
	cookie := func(value string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Set-Cookie", "tailroom_ticket="+value+"; Path=/v1/stream")
		}
	}
	for name, test := range map[string]struct {
		answer func(http.ResponseWriter)
		found  string
	}{
		"nothing":            {func(w http.ResponseWriter) { _, _ = io.WriteString(w, "no") }, ""},
		"a header":           {func(w http.ResponseWriter) { w.Header().Set("Location", "/?token="+token) }, "a token is in the answer to GET /path, Location"},
		"a body":             {func(w http.ResponseWriter) { _, _ = io.WriteString(w, token) }, "a token is in the answer to GET /path:"},
		"a body, in pieces":  {inPieces(token), "a token is in the answer to GET /path:"},
		"a ticket":           {cookie(ticket), ""},
		"a token for ticket": {cookie(token), "a token is in the answer to GET /path, Set-Cookie"},
		"another cookie":     {func(w http.ResponseWriter) { w.Header().Set("Set-Cookie", "session="+token) }, "a token is in"},
		"a ticket, and again": {func(w http.ResponseWriter) {
			cookie(ticket)(w)
			_, _ = io.WriteString(w, ticket)
		}, "a ticket is in the answer to GET /path:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { test.answer(w) }))
			t.Cleanup(server.Close)
			var f leak.Finder
			client := &http.Client{Transport: leak.Transport{Finder: &f, Base: server.Client().Transport}}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/path", http.NoBody)
			require.NoError(t, err)
			r.Header.Set("Authorization", "Bearer "+token)
			response, err := client.Do(r)
			require.NoError(t, err)
			_, err = io.ReadAll(response.Body)
			require.NoError(t, err)
			require.NoError(t, response.Body.Close())
			requireFound(t, &f, test.found)
		})
	}
}

// inPieces sends a text in two pieces.
func inPieces(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for _, piece := range []string{text[:len(text)-9], text[len(text)-9:]} {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func TestConn(t *testing.T) {
	t.Parallel()
	token, err := access.Mint([]byte(strings.Repeat("k", 32)), access.Claims{Subject: "user", CompanyID: "c1", Expires: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	for name, test := range map[string]struct{ says, found string }{
		"nothing": {"no", ""},
		"a token": {token, "a token is in what came over a connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var f leak.Finder
			here, there := net.Pipe()
			conn := leak.NewConn(&f, here)
			go func() {
				defer there.Close()
				_, _ = io.ReadFull(there, make([]byte, len(token)))
				for _, b := range []byte(test.says) { // a byte at a time
					_, _ = there.Write([]byte{b})
				}
			}()
			_, err := io.WriteString(conn, token)
			require.NoError(t, err)
			_, err = io.ReadAll(conn)
			require.NoError(t, err)
			require.NoError(t, conn.Close())
			requireFound(t, &f, test.found)
		})
	}
}

func requireFound(t testing.TB, f *leak.Finder, what string) {
	t.Helper()
	if what == "" {
		require.NoError(t, f.Err())
		return
	}
	require.ErrorContains(t, f.Err(), what)
}
