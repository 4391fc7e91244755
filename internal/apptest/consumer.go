package apptest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Consumer is a consumer as GET /v1/consumers has it.
type Consumer struct {
	Name                   string    `json:"name"`
	CompanyID              string    `json:"companyId"`
	Subject                string    `json:"subject"`
	Role                   string    `json:"role"`
	Connected              bool      `json:"connected"`
	Instance               string    `json:"instance"`
	Since                  time.Time `json:"since"`
	Cursor                 string    `json:"cursor"`
	LagEvents              int64     `json:"lagEvents"`
	LagIsMore              bool      `json:"lagIsMore"`
	LagSeconds             float64   `json:"lagSeconds"`
	OldestUnacknowledgedAt string    `json:"oldestUnacknowledgedAt"`
}

// Receipted is one of an event's receipts.
type Receipted struct {
	Name           string    `json:"name"`
	Role           string    `json:"role"`
	Addressed      bool      `json:"addressed"`
	Acknowledged   bool      `json:"acknowledged"`
	AcknowledgedAt time.Time `json:"acknowledgedAt"`
	Reason         string    `json:"reason"`
	Since          time.Time `json:"since"`
}

// Consumers reads GET /v1/consumers with a query.
func (i *Instance) Consumers(t testing.TB, token, query string) []Consumer {
	t.Helper()
	answer := i.Get(t, "/v1/consumers?"+query, token)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	var page struct {
		Consumers []Consumer `json:"consumers"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &page))
	return page.Consumers
}

// AwaitConsumer waits until a consumer of the token's company is as the test wants.
func (i *Instance) AwaitConsumer(t testing.TB, token, name string, wanted func(Consumer) bool) (found Consumer) {
	t.Helper()
	Eventually(t, func() bool {
		for _, c := range i.Consumers(t, token, "name="+url.QueryEscape(name)) {
			if wanted(c) {
				found = c
				return true
			}
		}
		return false
	}, Patience, 20*time.Millisecond, name)
	return found
}

// Receipts reads the receipts of an event, by the consumer's name.
func (i *Instance) Receipts(t testing.TB, token, id string) map[string]Receipted {
	t.Helper()
	answer := i.Get(t, "/v1/events/"+id+"/receipts", token)
	require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	var page struct {
		Receipts []Receipted `json:"receipts"`
	}
	require.NoError(t, json.Unmarshal(answer.Body, &page))
	receipts := map[string]Receipted{}
	for _, r := range page.Receipts {
		receipts[r.Name] = r
	}
	return receipts
}
