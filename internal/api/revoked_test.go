package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// An administrator whose token was revoked while his order was on its way orders
// nothing any more.
func TestOrder_AcrossARevocation(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	platform := apptest.Token(t, access.Admin, "*")
	for company, path := range map[string]string{"c1": "/v1/revocations", "c2": "/v1/disconnections"} {
		conn, in := raw(t, i, "POST "+path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+apptest.Token(t, access.Admin, company)+
			"\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n")
		line, err := in.ReadString('\n') // it has been let in, and its body is read
		require.NoError(t, err)
		require.Equal(t, "HTTP/1.1 100 Continue\r\n", line)
		_, err = in.ReadString('\n')
		require.NoError(t, err)
		answer := i.Do(t, http.MethodPost, "/v1/revocations", platform, `{"companyId":"`+company+`","subject":"test-admin"}`)
		require.Equal(t, http.StatusCreated, answer.Status, string(answer.Body))
		_, err = io.WriteString(conn, `{"subject":"victim"}`)
		require.NoError(t, err)
		requireProblem(t, answered(t, in), http.StatusUnauthorized, "token_revoked", path)
	}
}

// A request may last for as long as its lines come. The token is asked for with each
// of them, not once.
func TestPublish_LinesAcrossARevocation(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	token := apptest.Token(t, access.Service, "c1")
	conn, in := raw(t, i, "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token+
		"\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n")
	send := func(text string) {
		t.Helper()
		_, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(text), text)
		require.NoError(t, err)
	}
	send(status("") + "\n")
	admin := apptest.Token(t, access.Admin, "c1")
	require.Eventually(t, func() bool { return len(i.Lines(t, "/v1/events", admin)) == 1 }, apptest.Patience, tick)

	revoked := i.Do(t, http.MethodPost, "/v1/revocations", admin, `{"subject":"test-service"}`)
	require.Equal(t, http.StatusCreated, revoked.Status, string(revoked.Body))
	send(status("") + "\n" + status("") + "\n")
	send("") // the end
	lines := strings.Split(strings.TrimSpace(string(answered(t, in).Body)), "\n")
	require.Len(t, lines, 3)
	require.Contains(t, lines[0], `"status":201`)
	for _, line := range lines[1:] {
		require.Contains(t, line, `"code":"token_revoked"`)
		require.Contains(t, line, `"status":401`)
	}
	require.Len(t, i.Lines(t, "/v1/events", admin), 1)
	require.EqualValues(t, 2, i.Metric(t, `tailroom_publish_refused_total{code="token_revoked"}`))
}
