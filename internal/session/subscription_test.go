package session

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

var (
	branches    = access.Grant{Role: access.Web, Tenant: "c1", Branches: []string{"b1", "b2"}}
	companyWide = access.Grant{Role: access.Web, Tenant: "c1", AllBranches: true}
	everybody   = access.Grant{Role: access.Admin, PlatformWide: true, AllBranches: true}
)

func all(namespace string) Subscription { return Subscription{Namespace: namespace} }

func named(namespace string, rooms ...string) Subscription {
	return Subscription{Namespace: namespace, Rooms: rooms}
}

// topicsOf writes topics as "tenant namespace room".
func topicsOf(topics []event.Topic) []string {
	list := make([]string, len(topics))
	for i, topic := range topics {
		list[i] = fmt.Sprintf("%s %s %s", topic.Tenant, topic.Namespace, topic.Room)
	}
	return list
}

func TestSubscriptions(t *testing.T) {
	t.Parallel()
	type rooms = map[string][]string
	for name, test := range map[string]struct {
		grant  access.Grant
		sub    []Subscription
		unsub  []Subscription
		under  *access.Grant // a renewal
		topics []string
		joined rooms
	}{
		"nothing": {grant: branches, topics: []string{}, joined: rooms{}},
		"all of a branch user": {
			grant: branches, sub: []Subscription{all("/orders")},
			topics: []string{"c1 /orders branch:b1", "c1 /orders branch:b2", "c1 /orders company:c1"},
			joined: rooms{"/orders": {"branch:b1", "branch:b2", "company:c1"}},
		},
		"all of a company": {
			grant: companyWide, sub: []Subscription{all("/orders")},
			topics: []string{"c1 /orders "}, joined: rooms{"/orders": {"company:c1"}},
		},
		"all of everybody": {
			grant: everybody, sub: []Subscription{all("/orders")},
			topics: []string{" /orders "}, joined: rooms{"/orders": {"company:*"}},
		},
		"one room, in the old form": {
			grant: branches, sub: []Subscription{named("/orders", "branch_b1")},
			topics: []string{"c1 /orders branch:b1"}, joined: rooms{"/orders": {"branch:b1"}},
		},
		"one room of a company": {
			grant: companyWide, sub: []Subscription{named("/orders", "branch:b7")},
			topics: []string{"c1 /orders branch:b7"}, joined: rooms{"/orders": {"branch:b7"}},
		},
		"a room twice": {
			grant: branches, sub: []Subscription{named("/orders", "branch:b1", "branch_b1"), named("/orders", "branch:b1")},
			topics: []string{"c1 /orders branch:b1"}, joined: rooms{"/orders": {"branch:b1"}},
		},
		"no room": {
			grant: branches, sub: []Subscription{{Namespace: "/orders", Rooms: []string{}}},
			topics: []string{}, joined: rooms{"/orders": {}},
		},
		"a room, then all": {
			grant: branches, sub: []Subscription{named("/orders", "branch:b1"), all("/orders")},
			topics: []string{"c1 /orders branch:b1", "c1 /orders branch:b2", "c1 /orders company:c1"},
			joined: rooms{"/orders": {"branch:b1", "branch:b2", "company:c1"}},
		},
		"a room beside all of a company": {
			grant: companyWide, sub: []Subscription{all("/orders"), named("/orders", "branch:b1")},
			topics: []string{"c1 /orders "}, joined: rooms{"/orders": {"branch:b1", "company:c1"}},
		},
		"two namespaces": {
			grant: companyWide, sub: []Subscription{all("/printing-ws"), named("/orders", "branch:b1")},
			topics: []string{"c1 /orders branch:b1", "c1 /printing-ws "},
			joined: rooms{"/orders": {"branch:b1"}, "/printing-ws": {"company:c1"}},
		},

		"less a namespace": {
			grant: branches, sub: []Subscription{all("/orders"), named("/printing-ws", "branch:b1")}, unsub: []Subscription{all("/orders")},
			topics: []string{"c1 /printing-ws branch:b1"}, joined: rooms{"/printing-ws": {"branch:b1"}},
		},
		"all less a room": {
			grant: branches, sub: []Subscription{all("/orders")}, unsub: []Subscription{named("/orders", "branch:b1")},
			topics: []string{"c1 /orders branch:b2", "c1 /orders company:c1"}, joined: rooms{"/orders": {"branch:b2", "company:c1"}},
		},
		"all less no room": {
			grant: branches, sub: []Subscription{all("/orders")}, unsub: []Subscription{{Namespace: "/orders", Rooms: []string{}}},
			under:  &access.Grant{Role: access.Web, Tenant: "c1", Branches: []string{"b1", "b2", "b3"}}, // all is still all
			topics: []string{"c1 /orders branch:b1", "c1 /orders branch:b2", "c1 /orders branch:b3", "c1 /orders company:c1"},
			joined: rooms{"/orders": {"branch:b1", "branch:b2", "branch:b3", "company:c1"}},
		},
		"a room less another": {
			grant: branches, sub: []Subscription{named("/orders", "branch:b1")}, unsub: []Subscription{named("/orders", "branch:b2")},
			topics: []string{"c1 /orders branch:b1"}, joined: rooms{"/orders": {"branch:b1"}},
		},
		"every room, one by one": {
			grant: branches, sub: []Subscription{all("/orders")},
			unsub:  []Subscription{named("/orders", "branch:b1", "branch_b2"), named("/orders", "company:c1")},
			topics: []string{}, joined: rooms{},
		},

		"all, renewed with more": {
			grant: branches, sub: []Subscription{all("/orders")},
			under:  &access.Grant{Role: access.Web, Tenant: "c1", Branches: []string{"b3"}},
			topics: []string{"c1 /orders branch:b3", "c1 /orders company:c1"}, joined: rooms{"/orders": {"branch:b3", "company:c1"}},
		},
		"rooms, renewed with fewer": {
			grant: branches, sub: []Subscription{named("/orders", "branch:b1", "branch:b2"), named("/printing-ws", "branch:b1")},
			under:  &access.Grant{Role: access.Web, Tenant: "c1", Branches: []string{"b2"}},
			topics: []string{"c1 /orders branch:b2"}, joined: rooms{"/orders": {"branch:b2"}},
		},
		"all of a branch user, renewed for the company": {
			grant: branches, sub: []Subscription{all("/orders"), named("/printing-ws", "branch:b1")}, under: &companyWide,
			topics: []string{"c1 /orders ", "c1 /printing-ws branch:b1"},
			joined: rooms{"/orders": {"company:c1"}, "/printing-ws": {"branch:b1"}},
		},
		"all of a company, renewed for a branch": {
			grant: companyWide, sub: []Subscription{all("/orders"), named("/orders", "branch:b7", "branch:b1")}, under: &branches,
			topics: []string{"c1 /orders branch:b1", "c1 /orders branch:b2", "c1 /orders company:c1"},
			joined: rooms{"/orders": {"branch:b1", "branch:b2", "company:c1"}},
		},
	} {
		var none subscriptions
		subs, err := none.with(test.grant, test.sub, rules)
		require.NoError(t, err, name)
		before := topicsOf(subs.topics(test.grant))
		rest, err := subs.without(test.grant, test.unsub, rules)
		require.NoError(t, err, name)
		grant := test.grant
		if test.under != nil {
			grant = *test.under
			rest = rest.under(grant)
		}
		require.Equal(t, test.topics, topicsOf(rest.topics(grant)), name)
		require.Equal(t, test.joined, rest.joined(grant), name)
		require.Equal(t, before, topicsOf(subs.topics(test.grant)), "%s: the old ones are as they were", name)
	}
}

func TestSubscriptions_Refused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grant access.Grant
		sub   []Subscription
		unsub []Subscription
		code  problem.Code
	}{
		"an unknown namespace":       {grant: branches, sub: []Subscription{all("/orders"), all("/x")}, code: problem.UnknownNamespace},
		"another branch":             {grant: branches, sub: []Subscription{named("/orders", "branch:b1", "branch:b3")}, code: problem.Forbidden},
		"another company":            {grant: companyWide, sub: []Subscription{named("/orders", "company:c2")}, code: problem.Forbidden},
		"no room's form":             {grant: branches, sub: []Subscription{named("/orders", "kitchen")}, code: problem.InvalidRoom},
		"a room of no company":       {grant: everybody, sub: []Subscription{named("/orders", "branch:b1")}, code: problem.InvalidParameter},
		"too many rooms":             {grant: companyWide, sub: []Subscription{named("/orders", "branch:1", "branch:2", "branch:3", "branch:4", "branch:5", "branch:6")}, code: problem.TooLarge},
		"too many rooms in all":      {grant: companyWide, sub: []Subscription{named("/orders", "branch:1", "branch:2", "branch:3"), named("/printing-ws", "branch:1", "branch:2", "branch:3")}, code: problem.TooLarge},
		"less what is not there":     {grant: branches, sub: []Subscription{all("/orders")}, unsub: []Subscription{all("/orders"), all("/orders")}, code: problem.InvalidParameter},
		"less a room of all":         {grant: companyWide, sub: []Subscription{all("/orders")}, unsub: []Subscription{named("/orders", "branch:b1")}, code: problem.InvalidParameter},
		"less a room that it is not": {grant: branches, sub: []Subscription{all("/orders")}, unsub: []Subscription{named("/orders", "kitchen")}, code: problem.InvalidRoom},
		"less another branch":        {grant: branches, sub: []Subscription{all("/orders")}, unsub: []Subscription{named("/orders", "branch:b3")}, code: problem.Forbidden},
	} {
		var none subscriptions
		subs, err := none.with(test.grant, test.sub, rules)
		if test.unsub != nil {
			require.NoError(t, err, name)
			_, err = subs.without(test.grant, test.unsub, rules)
		}
		require.Error(t, err, name)
		require.Equal(t, test.code, problem.From(err).Code, name)
	}
}

// As many rooms as allowed are allowed, also when they come one by one and
// repeated, and "all" counts for none.
func TestSubscriptions_AtTheLimit(t *testing.T) {
	t.Parallel()
	var subs subscriptions
	var err error
	for n := range 2 * rules.MaxRooms {
		subs, err = subs.with(companyWide, []Subscription{named("/orders", fmt.Sprintf("branch:%d", n%rules.MaxRooms)), all("/printing-ws")}, rules)
		require.NoError(t, err)
	}
	_, err = subs.with(companyWide, []Subscription{named("/printing-ws", "branch:x")}, rules)
	require.Error(t, err)
	require.Len(t, slices.DeleteFunc(subs.topics(companyWide), func(topic event.Topic) bool { return topic.Room == "" }), rules.MaxRooms)
}

// A list that is refused for its length is refused before the work is done, and one
// that is not takes work for each room, not for each room and entry.
func TestSubscriptions_WorkIsBounded(t *testing.T) { //nolint:paralleltest // AllocsPerRun must run alone
	rules := rules
	rules.MaxRooms, rules.MaxNamespaces = 1000, 100
	list := func(entries, rooms int) []Subscription {
		list := make([]Subscription, entries)
		for i := range list {
			list[i] = Subscription{Namespace: "/orders", Rooms: make([]string, rooms)}
			for k := range list[i].Rooms {
				list[i].Rooms[k] = fmt.Sprintf("branch:%d-%d", i, k)
			}
		}
		return list
	}
	for name, test := range map[string]struct {
		list    []Subscription
		refused bool
		most    float64
	}{
		"new rooms in every entry":      {list(1100, 270), true, 1100},
		"the same rooms in every entry": {slices.Repeat(list(1, 270), 1100), true, 1100},
		"as many as may be":             {list(1000, 1), false, 1100},
	} {
		allocs := testing.AllocsPerRun(1, func() {
			_, err := subscriptions{}.with(companyWide, test.list, rules)
			require.Equal(t, test.refused, err != nil, name)
		})
		require.LessOrEqual(t, allocs, test.most, name)
	}
}
