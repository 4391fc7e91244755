package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/eventlog"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// What the log says of itself, such as why data were erased, is for
// administrators who know its id. Nobody else gets it, however he asks.
func TestSystemEvents(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn)
	service := apptest.Token(t, access.Service, "c1")
	published := i.Publish(t, service, status(""))[0]
	log := eventlog.New(pgtest.Pool(t, dsn))
	_, err := log.Redact(t.Context(), eventlog.Redaction{
		Position: published.Position, Reason: "the reason", Actor: "officer:1", Replacement: []byte("{}"),
	})
	require.NoError(t, err)
	i.Reach(t, published.Position+1)
	record, err := log.At(t.Context(), published.Position+1)
	require.NoError(t, err)
	path := "/v1/events/" + record.ID.String()

	for name, token := range map[string]string{
		"web":                   apptest.Token(t, access.Web, "c1"),
		"web of a branch":       apptest.Token(t, access.Web, "c1", "b1"),
		"desktop app":           apptest.Token(t, access.DesktopApp, "c1"),
		"service":               service,
		"analyst":               apptest.Token(t, access.Analyst, "c1"),
		"analyst of everything": apptest.Token(t, access.Analyst, "*"),
		"admin":                 apptest.Token(t, access.Admin, "*"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, query := range []string{"", "?order=desc", "?room=company:c1&companyId=c1", "?correlationId=" + record.CorrelationID} {
				for _, accept := range []string{"application/json", "application/x-ndjson"} {
					answer := i.Do(t, http.MethodGet, "/v1/events"+query, token, "", "Accept", accept)
					require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
					require.NotContains(t, string(answer.Body), "eventRedacted")
				}
			}
			for _, path := range []string{"/v1/events?namespace=/system", "/v1/events?namespace=/orders&namespace=/system", "/v1/stream?namespace=/system"} {
				if name == "admin" && strings.HasPrefix(path, "/v1/events") {
					continue // see TestOrders_History
				}
				requireProblem(t, i.Get(t, path, token), 422, "unknown_namespace", path)
			}
			s := i.Dial(t)
			s.SendJSON(t, map[string]any{"type": "hello", "token": token, "cursor": "earliest", "subscribe": json.RawMessage(`[{"namespace":"/system"}]`)})
			require.Equal(t, "unknown_namespace", s.Next(t).Code)
			s, _ = i.Hello(t, token, "earliest", `[{"namespace":"/orders"}]`)
			s.Send(t, `{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/system"}]}`)
			heard := s.Until(t, "reply")
			require.Equal(t, "unknown_namespace", heard[len(heard)-1].Code)
			for _, m := range heard {
				require.NotContains(t, string(m.Raw), "eventRedacted")
			}

			answer := i.Get(t, path, token)
			if name != "admin" {
				requireProblem(t, answer, 404, "not_found")
				return
			}
			require.Equal(t, http.StatusOK, answer.Status)
			require.Equal(t, string(record.JSON()), string(answer.Body))
			require.Equal(t, []string{string(record.JSON())}, i.Lines(t, "/v1/events?namespace=/system", token))
			requireProblem(t, i.Get(t, path+"?companyId=c2", token), 404, "not_found")
		})
	}
}
