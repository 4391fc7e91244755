package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// A client that does not take its answers is cut, whichever they are; one that takes
// them slowly gets all of them.
func TestUnread(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=2s")[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	large := `{"namespace":"/availability","type":"newAlert","data":{"message":"` + strings.Repeat("x", 200<<10) + `"}}`
	for range 40 { // more than all buffers on the way hold
		i.Publish(t, service, large)
	}
	listing := "GET /v1/events?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + token + "\r\n"
	many := func(request string) string { return strings.Repeat(request+" HTTP/1.1\r\nHost: x\r\n\r\n", 30_000) }
	for _, request := range []string{
		listing + "\r\n",
		listing + "Accept: application/x-ndjson\r\n\r\n",
		many("GET /healthz"),
		many("GET /nowhere"),
		strings.ReplaceAll(many("GET /healthz"), "Host: x\r\n", "Host: x\r\nOrigin: https://evil.example\r\n"), // which is refused before all else
	} {
		conn, in := raw(t, i, "")
		written := make(chan struct{})
		go func() {
			defer close(written)
			_, _ = io.WriteString(conn, request) // until it is cut
		}()
		i.AwaitMetric(t, "tailroom_open_connections", 1)
		<-written
		requireEnded(t, in)
	}
	_, in := raw(t, i, listing+"Connection: close\r\n\r\n")
	response, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	for range 8 {
		_, err := io.CopyN(io.Discard, response.Body, 900<<10)
		require.NoError(t, err)
		<-time.After(200 * time.Millisecond)
	}
	rest, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Contains(t, string(rest[len(rest)-50:]), `"more":false}`)
	require.NoError(t, response.Body.Close())
}

// The time for an answer is none for what is done before it, and does not end what
// comes next on the connection.
func TestUnread_AnswersThatTakeTheirTime(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=600ms", "TAILROOM_PUBLISH_RATE_PER_COMPANY=2")[0]
	body := strings.Repeat(status("")+"\n", 4) // which waits for its rate
	conn, in := raw(t, i, health)
	require.Equal(t, http.StatusOK, answered(t, in).Status)
	<-time.After(time.Second)
	_, err := fmt.Fprintf(conn, "POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nAuthorization: Bearer %s\r\n"+
		"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", apptest.Token(t, access.Service, "c1"), len(body))
	require.NoError(t, err)
	require.Equal(t, http.StatusContinue, answered(t, in).Status)
	_, err = io.WriteString(conn, body)
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(string(answered(t, in).Body), `"status":201`))
}
