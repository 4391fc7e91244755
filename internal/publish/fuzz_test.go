package publish

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

// FuzzDrafts publishes anything as a branch user of company c1. Whatever it is,
// the answer is a problem with a code of the protocol, or drafts that keep to
// the grant and to every form there is.
func FuzzDrafts(f *testing.F) {
	for _, seed := range []string{
		`{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b7"}}`,
		`{"namespace":"/orders","type":"newOrder","rooms":["branch_b7","company:c1"],"stream":"order:1","expectedVersion":0,` +
			`"id":"0192f0c4-0000-7000-8000-000000000001","correlationId":"x","causationId":null,"occurredAt":"2026-01-31T18:30:00Z",` +
			`"replyBy":"2026-01-31T18:30:00.5+02:00","schemaVersion":1,"data":{"orderId":"1","branchId":"b7"}}`,
		`{"namespace":"/orders","type":"newOrder","companyId":"c2","data":{}}`, `{"namespace":1}`, `null`, `[]`, `{`, `"x"`,
		`{"namespace":"/orders","type":"newOrder","rooms":[],"data":{"orderId":"1"}}`,
		`{"namespace":"/orders","type":"newOrder","data":{"orderId":"\u0000","branchId":"b7"}}`,
		`{"namespace":"/orders","type":"newOrder","stream":"a:\ud800","data":{"orderId":1e131071,"branchId":"b7"}}`,
		`{"namespace":"/orders","type":"newOrder","occurredAt":"0000-01-01T00:00:00Z","data":{"orderId":"1","branchId":"b7"}}`,
		`{"namespace":"/printing-ws","type":"printer:test","data":{"printerId":"p1","branchId":7}}`,
	} {
		f.Add([]byte(seed))
	}
	desk := NewDesk(catalog.Default(), nil, 64<<10, limit.New(limit.Config{Metrics: prometheus.NewRegistry()}), nil, prometheus.NewRegistry())
	grant := access.Grant{Subject: "9", Role: access.Web, Tenant: "c1", Branches: []string{"b7", "7"}, Expires: time.Now().Add(time.Hour)}
	f.Fuzz(func(t *testing.T, body []byte) {
		drafts, err := desk.drafts(grant, []json.RawMessage{body})
		if err != nil {
			p, ok := errors.AsType[*problem.Error](err)
			require.True(t, ok, "%v", err)
			require.NotZero(t, p.Status(), "%s is in no table", p.Code)
			require.True(t, json.Valid(p.JSON()))
			return
		}
		d := drafts[0]
		require.Equal(t, "c1", d.Tenant)
		require.Equal(t, "user:9", d.Actor)
		require.NotEmpty(t, d.Rooms)
		for _, room := range d.Rooms {
			require.Contains(t, []string{"company:c1", "branch:b7", "branch:7"}, room)
		}
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(d.Rooms))), len(d.Rooms))
		require.True(t, d.Stream == "" || event.ValidStream(d.Stream))
		require.True(t, event.ValidCorrelationID(d.CorrelationID))
		require.True(t, json.Valid(d.Data))
		require.False(t, d.OccurredAt.IsZero())
	})
}
