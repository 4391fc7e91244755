package session

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// Subscription is a namespace and some of its rooms; none is all that the
// grant covers, now and after every renewal of the token.
type Subscription struct {
	Namespace string   `json:"namespace"`
	Rooms     []string `json:"rooms"`
}

// Rules are what a subscription must keep to.
type Rules struct {
	// Known returns an error for a namespace that is not in the catalogue.
	Known func(namespace string) error
	// MaxRooms bounds the rooms a session names, over all namespaces.
	MaxRooms int
}

// subscriptions is what a session follows, by namespace.
type subscriptions map[string]followed

type followed struct {
	all   bool
	rooms []string // by name, sorted, colon form
}

// with returns the subscriptions and list together. On an error, a
// *problem.Error, nothing has changed.
func (s subscriptions) with(grant access.Grant, list []Subscription, rules Rules) (subscriptions, error) {
	next := maps.Clone(s)
	for _, sub := range list {
		if err := rules.Known(sub.Namespace); err != nil {
			return nil, err
		}
		f := next[sub.Namespace]
		if sub.Rooms == nil {
			f.all = true
		}
		if len(sub.Rooms) > rules.MaxRooms {
			return nil, tooManyRooms(rules.MaxRooms)
		}
		f.rooms = slices.Clone(f.rooms)
		for _, name := range sub.Rooms {
			room, err := grant.Room(name)
			if err != nil {
				return nil, err
			}
			f.rooms = append(f.rooms, room)
		}
		slices.Sort(f.rooms)
		f.rooms = slices.Compact(f.rooms)
		next[sub.Namespace] = f
	}
	total := 0
	for _, f := range next {
		total += len(f.rooms)
	}
	if total > rules.MaxRooms {
		return nil, tooManyRooms(rules.MaxRooms)
	}
	return next, nil
}

func tooManyRooms(limit int) error {
	return problem.New(problem.TooLarge,
		fmt.Sprintf("a session names at most %d rooms; leave rooms out to follow all that the token covers", limit)).
		With("limit", limit)
}

// without returns the subscriptions less list. Taking single rooms from "all"
// leaves the rest of the grant's rooms, which a company-wide grant cannot list.
func (s subscriptions) without(grant access.Grant, list []Subscription) (subscriptions, error) {
	next := maps.Clone(s)
	for _, sub := range list {
		f, ok := next[sub.Namespace]
		if !ok {
			return nil, problem.New(problem.InvalidParameter, "not subscribed to that namespace").
				With("path", "namespace").With("allowed", slices.Sorted(maps.Keys(s)))
		}
		if sub.Rooms == nil {
			delete(next, sub.Namespace)
			continue
		}
		if f.all {
			if grant.AllBranches {
				return nil, problem.New(problem.InvalidParameter,
					"the subscription is to every room of the company: unsubscribe from the namespace, then subscribe to rooms by name").
					With("path", "rooms")
			}
			f = followed{rooms: append(slices.Clone(f.rooms), grant.Rooms()...)}
		}
		gone := map[string]bool{}
		for _, name := range sub.Rooms {
			room, err := grant.Room(name)
			if err != nil {
				return nil, err
			}
			gone[room] = true
		}
		f.rooms = slices.DeleteFunc(slices.Clone(f.rooms), func(room string) bool { return gone[room] })
		slices.Sort(f.rooms)
		f.rooms = slices.Compact(f.rooms)
		next[sub.Namespace] = f
		if len(f.rooms) == 0 {
			delete(next, sub.Namespace)
		}
	}
	return next, nil
}

// under returns what is left of the subscriptions under another grant: rooms
// it does not cover are gone.
func (s subscriptions) under(grant access.Grant) subscriptions {
	next := subscriptions{}
	for namespace, f := range s {
		f.rooms = slices.DeleteFunc(slices.Clone(f.rooms), func(room string) bool {
			_, err := grant.Room(room)
			return err != nil
		})
		if f.all || len(f.rooms) > 0 {
			next[namespace] = f
		}
	}
	return next
}

// topics are what the feed is to follow.
func (s subscriptions) topics(grant access.Grant) []event.Topic {
	var topics []event.Topic
	for namespace, f := range s {
		if f.all {
			topics = append(topics, grant.Topics(namespace)...)
		}
		if f.all && grant.AllBranches {
			continue
		}
		for _, room := range f.rooms {
			topics = append(topics, event.Topic{Tenant: grant.Tenant, Namespace: namespace, Room: room})
		}
	}
	// A feed follows each topic once; a room can be both granted and named.
	slices.SortFunc(topics, event.Topic.Compare)
	return slices.Compact(topics)
}

// joined are the rooms joined in each namespace.
func (s subscriptions) joined(grant access.Grant) map[string][]string {
	joined := make(map[string][]string, len(s))
	for namespace, f := range s {
		rooms := slices.Clone(f.rooms)
		if f.all {
			rooms = append(rooms, grant.Rooms()...)
		}
		slices.Sort(rooms)
		joined[namespace] = slices.Compact(rooms)
	}
	return joined
}
