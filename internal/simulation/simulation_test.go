package simulation_test

import (
	"encoding/json"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/simulation"
)

var dinner = time.Date(2026, 3, 14, 18, 0, 0, 0, time.UTC)

// tell returns the first n events of a service, one a second.
func tell(c simulation.Config, n int) []simulation.Event {
	s := simulation.New(c)
	events := make([]simulation.Event, n)
	for i := range events {
		events[i] = s.Next(dinner.Add(time.Duration(i) * time.Second))
	}
	return events
}

func TestNext_IsValidAndCoversTheCatalogue(t *testing.T) {
	t.Parallel()
	for seed := range 5 {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			t.Parallel()
			types := map[string]bool{}
			for _, e := range tell(simulation.Config{Seed: uint64(seed), Companies: 3, Branches: 4}, 2000) {
				typ, err := catalog.Default().Lookup(e.Namespace, e.Type)
				require.NoError(t, err)
				require.True(t, typ.MayPublish(access.Service))
				data, err := json.Marshal(e.Data)
				require.NoError(t, err)
				require.NoError(t, jsonvalue.Check(data, 64<<10))
				value, err := typ.Validate(data)
				require.NoError(t, err, "%s: %s", e.Type, data)
				rooms, err := typ.RoomsFor(e.CompanyID, value)
				require.NoError(t, err)
				require.NotEmpty(t, rooms)
				_, err = typ.StreamFor(e.CompanyID, value)
				require.NoError(t, err)
				types[e.Type] = true
			}
			all := 0
			for _, namespace := range catalog.Default().All() {
				for _, typ := range namespace.Types {
					all++
					require.True(t, types[typ.Name], "%s never happened", typ.Name)
				}
			}
			require.Equal(t, 13, all)
		})
	}
}

func TestNext_IsDeterministic(t *testing.T) {
	t.Parallel()
	first := tell(simulation.Config{Seed: 7, Companies: 2, Branches: 3}, 2000)
	again := tell(simulation.Config{Seed: 7, Companies: 2, Branches: 3}, 2000)
	other := tell(simulation.Config{Seed: 8, Companies: 2, Branches: 3}, 2000)
	require.Equal(t, first, again)
	require.NotEqual(t, first, other)
}

func TestNext_IDsAreVersion7AndTheirOwn(t *testing.T) {
	t.Parallel()
	seen := map[uuid.UUID]bool{}
	for i, e := range tell(simulation.Config{Companies: 1, Branches: 1}, 5000) {
		require.EqualValues(t, 7, e.ID.Version())
		require.Equal(t, uuid.RFC4122, e.ID.Variant())
		seconds, _ := e.ID.Time().UnixTime()
		require.Equal(t, dinner.Add(time.Duration(i)*time.Second).Unix(), seconds)
		require.False(t, seen[e.ID])
		seen[e.ID] = true
	}
}

// follows is which status of an order comes after which.
var follows = map[any][]any{
	"pending":          {"accepted", "rejected"},
	"accepted":         {"preparing", "cancelled"},
	"preparing":        {"ready"},
	"ready":            {"picked_up", "out_for_delivery", "completed"},
	"out_for_delivery": {"delivered"},
}

func TestNext_OrdersLiveOneLife(t *testing.T) {
	t.Parallel()
	type life struct {
		company   string
		branch    any
		placed    uuid.UUID
		status    any
		jobStatus any
	}
	orders := map[any]*life{}
	ended := map[any]int{}
	for _, e := range tell(simulation.Config{Seed: 3, Companies: 3, Branches: 4}, 20_000) {
		id := e.Data["orderId"]
		if e.Type == "newOrder" {
			require.Nil(t, orders[id], "an order is placed once")
			orders[id] = &life{company: e.CompanyID, branch: e.Data["branchId"], placed: e.ID, status: "pending"}
			continue
		}
		if id == nil {
			continue
		}
		o := orders[id]
		require.NotNil(t, o, "an order is placed before anything else")
		require.Equal(t, o.company, e.CompanyID)
		require.Equal(t, o.branch, e.Data["branchId"])
		require.Equal(t, o.placed.String(), e.CorrelationID)
		require.Equal(t, o.placed, *e.CausationID)
		switch e.Type {
		case "orderStatusUpdate", "orderCancelled":
			require.Contains(t, follows[o.status], e.Data["status"], "after %v", o.status)
			o.status = e.Data["status"]
			if follows[o.status] == nil {
				ended[o.status]++
			}
		case "printJobUpdate":
			require.NotContains(t, []any{"printed", "cancelled"}, o.jobStatus, "the job was over")
			o.jobStatus = e.Data["status"]
		}
	}
	for _, end := range []any{"rejected", "cancelled", "picked_up", "delivered", "completed"} {
		require.NotZero(t, ended[end], end)
	}
	open := len(orders)
	for _, n := range ended {
		open -= n
	}
	require.Less(t, open, 12*15, "orders do not pile up")
}

func TestNext_StockFallsAndComesBack(t *testing.T) {
	t.Parallel()
	type place struct{ company, branch, product any }
	left, off := map[place]any{}, map[place]bool{}
	again := 0
	for _, e := range tell(simulation.Config{Seed: 5, Companies: 2, Branches: 2}, 20_000) {
		at := place{e.CompanyID, e.Data["branchId"], e.Data["productId"]}
		switch e.Type {
		case "stockAlert":
			before, level := left[at], e.Data["level"]
			require.True(t, level != "low" || before == nil || before == "ok", "%v after %v", level, before)
			require.True(t, level != "ok" || before == "out", "%v after %v", level, before)
			left[at] = level
		case "availabilityUpdate":
			available := e.Data["available"] == true
			require.Equal(t, available, off[at], "it changes")
			off[at] = !available
			if available {
				again++
			}
		}
	}
	require.NotZero(t, again)
}

// A later run is about other orders, of the same branches.
func TestNext_RunsDoNotMix(t *testing.T) {
	t.Parallel()
	orders := map[any]bool{}
	for _, begin := range []time.Time{dinner, dinner.Add(time.Second)} {
		s := simulation.New(simulation.Config{Companies: 1, Branches: 1})
		for range 500 {
			e := s.Next(begin)
			if e.Type == "newOrder" {
				require.False(t, orders[e.Data["orderId"]])
				orders[e.Data["orderId"]] = true
			}
			require.Equal(t, "c1", e.CompanyID)
			if e.Data["branchId"] != nil {
				require.Equal(t, "b7", e.Data["branchId"])
			}
		}
	}
}
