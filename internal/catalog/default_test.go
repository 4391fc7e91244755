package catalog_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/jsonvalue"
)

func TestDefaultHasThePlatformsEvents(t *testing.T) {
	t.Parallel()
	type entry struct {
		name   string
		role   access.Role // who may publish it beside service and admin
		stream string      // of its example
		room   string
	}
	for namespace, entries := range map[string][]entry{
		"/printing-ws": {
			{"printer:test", access.Web, "", "branch:b7"},
			{"printer:test:result", access.DesktopApp, "", "branch:b7"},
			{"printer:discovered", access.DesktopApp, "printer:kitchen-1", "branch:b7"},
			{"printerStatusUpdate", access.DesktopApp, "printer:kitchen-1", "branch:b7"},
			{"printJobUpdate", access.DesktopApp, "job:j-1042-1", "branch:b7"},
		},
		"/orders": {
			{"newOrder", access.Web, "order:1042", "branch:b7"},
			{"orderStatusUpdate", access.Web, "order:1042", "branch:b7"},
			{"orderCancelled", access.Web, "order:1042", "branch:b7"},
			{"driverUpdate", access.Web, "driver:d-3", "branch:b7"},
		},
		"/availability": {
			{"availabilityUpdate", access.Web, "product:b7:margherita", "branch:b7"},
			{"bulkAvailabilityUpdate", access.Web, "", "company:c1"},
			{"stockAlert", "", "stock:b7:mozzarella", "branch:b7"},
			{"newAlert", "", "", "company:c1"},
		},
	} {
		var names []string
		for _, e := range entries {
			names = append(names, e.name)
			typ := lookup(t, catalog.Default(), namespace, e.name)
			require.Equal(t, namespace, typ.Namespace)
			require.Equal(t, 1, typ.SchemaVersion)
			require.NotEmpty(t, typ.Description, e.name)
			for _, role := range access.Roles {
				may := role == access.Service || role == access.Admin || role == e.role
				require.Equal(t, may, typ.MayPublish(role), "%s as %s", e.name, role)
			}
			require.Contains(t, typ.Publish, access.Service)

			require.NoError(t, jsonvalue.Check(typ.Example, 10_000))
			v, err := typ.Validate(typ.Example)
			require.NoError(t, err)
			rooms, err := typ.RoomsFor("c1", v)
			require.NoError(t, err)
			require.Equal(t, []string{e.room}, rooms)
			stream, err := typ.StreamFor("c1", v)
			require.NoError(t, err)
			require.Equal(t, e.stream, stream)
		}
		require.Equal(t, names, allowed(t, catalog.Default(), namespace))
	}
	require.Equal(t, []string{"/printing-ws", "/orders", "/availability"}, catalog.Default().Namespaces())
}

func TestDefaultReplies(t *testing.T) {
	t.Parallel()
	c := catalog.Default()
	test := lookup(t, c, "/printing-ws", "printer:test").Reply
	require.Equal(t, &catalog.Reply{Type: "printer:test:result", Timeout: 30 * time.Second, Ack: true}, test)
	order := lookup(t, c, "/orders", "newOrder").Reply
	require.Equal(t, &catalog.Reply{
		Type: "orderStatusUpdate", Timeout: 2 * time.Minute,
		When: map[string][]any{"status": {"accepted", "rejected"}},
	}, order)
	for _, n := range c.All() {
		for _, typ := range n.Types {
			require.Equal(t, typ.Name == "printer:test" || typ.Name == "newOrder", typ.Reply != nil, typ.Name)
		}
	}
}

func TestDefaultTakesWhatClientsSend(t *testing.T) {
	t.Parallel()
	for data, room := range map[string]string{
		`{"orderId":"1042","branchId":"b7","total":1250}`:                                    "branch:b7",
		`{"orderId":1042,"branchId":7,"total":1250.0,"somethingElse":{"deep":[1]}}`:          "branch:7",
		`{"orderId":"3f6c1f9e-55d1-4f0e-9e3c-0b8a7a1c2d3e","branchId":"A_b-1","lines":[{}]}`: "branch:A_b-1",
	} {
		typ := lookup(t, catalog.Default(), "/orders", "newOrder")
		v, err := typ.Validate([]byte(data))
		require.NoError(t, err, data)
		rooms, err := typ.RoomsFor("c1", v)
		require.NoError(t, err, data)
		require.Equal(t, []string{room}, rooms)
	}
}

// TestDefaultJSON reads GET /v1/catalog's body as a client would.
func TestDefaultJSON(t *testing.T) {
	t.Parallel()
	var body struct {
		Namespaces []struct {
			Name, Description string
			Events            []struct {
				Type, Description string
				SchemaVersion     int
				Schema, Example   map[string]any
				Publish, Rooms    []string
				Stream            *string
				Reply             *struct {
					Type      string
					TimeoutMs int
				}
			}
		}
	}
	require.NoError(t, json.Unmarshal(catalog.Default().JSON(), &body))
	require.Len(t, body.Namespaces, 3)
	order := body.Namespaces[1].Events[0]
	require.Equal(t, "newOrder", order.Type)
	require.Equal(t, []string{"web", "service"}, order.Publish)
	require.Equal(t, []string{"branch:{data.branchId}"}, order.Rooms)
	require.Equal(t, "order:{data.orderId}", *order.Stream)
	require.Equal(t, 120_000, order.Reply.TimeoutMs)
	require.Equal(t, "2026-03-14T18:05:11Z", order.Example["placedAt"])
	require.Nil(t, body.Namespaces[0].Events[0].Stream)
}
