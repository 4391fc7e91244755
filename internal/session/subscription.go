package session

import (
	"fmt"
	"slices"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/limit"
	"github.com/tailroom/tailroom/internal/problem"
)

// Subscription is a namespace and some of its rooms; none is all that the
// grant covers, now and after every renewal of the token.
type Subscription struct {
	Namespace string   `json:"namespace"`
	Rooms     []string `json:"rooms"`
	// Snapshot asks for the states of those rooms first.
	Snapshot Extent `json:"-"`
}

// Rules are what a subscription must keep to.
type Rules struct {
	// Known returns an error for a namespace that is not in the catalogue.
	Known func(namespace string) error
	// MaxRooms bounds the rooms a session names, over all namespaces.
	MaxRooms int
	// MaxNamespaces bounds the namespaces a session follows.
	MaxNamespaces int
	Limits        *limit.Limits
}

// subscriptions is what a session follows, one entry for each namespace. It is
// a list because most sessions have one or three: a map is ten times the size.
type subscriptions []followed

type followed struct {
	namespace string
	all       bool
	rooms     []string // by name, sorted, colon form
}

// in returns what is followed in a namespace, and where in the list that is.
func (s subscriptions) in(namespace string) (followed, int) {
	i := slices.IndexFunc(s, func(f followed) bool { return f.namespace == namespace })
	if i < 0 {
		return followed{namespace: namespace}, i
	}
	return s[i], i
}

// with returns the subscriptions and list together. On an error, a
// *problem.Error, nothing has changed. What the list names, repeated or not, is
// bounded before any work is done for it.
func (s subscriptions) with(grant access.Grant, list []Subscription, rules Rules) (subscriptions, error) {
	if err := rules.length(list); err != nil {
		return nil, err
	}
	next := s.clone()
	named := 0
	for _, sub := range list {
		if err := rules.Known(sub.Namespace); err != nil {
			return nil, err
		}
		if named += len(sub.Rooms); named > rules.MaxRooms {
			return nil, rules.tooManyRooms()
		}
		f, i := next.in(sub.Namespace)
		if i < 0 {
			if len(next) == rules.MaxNamespaces {
				return nil, rules.tooManyNamespaces()
			}
			i, next = len(next), append(next, f)
		}
		f.all = f.all || sub.Rooms == nil
		for _, name := range sub.Rooms {
			room, err := grant.Room(name)
			if err != nil {
				return nil, err
			}
			f.rooms = append(f.rooms, room)
		}
		next[i] = f
	}
	total := 0
	for i, f := range next {
		slices.Sort(f.rooms)
		next[i].rooms = slices.Compact(f.rooms)
		total += len(next[i].rooms)
	}
	if total > rules.MaxRooms {
		return nil, rules.tooManyRooms()
	}
	return next, nil
}

// clone returns a copy whose rooms are its own.
func (s subscriptions) clone() subscriptions {
	next := slices.Clone(s)
	for i, f := range next {
		next[i].rooms = slices.Clone(f.rooms)
	}
	return next
}

// length refuses a list that is longer than it can be if each entry says
// something: a room or a namespace.
func (r Rules) length(list []Subscription) error {
	if len(list) > r.MaxNamespaces+r.MaxRooms {
		return r.tooManyNamespaces()
	}
	return nil
}

func (r Rules) tooManyRooms() error {
	r.Limits.Hit(limit.Rooms)
	return problem.New(problem.TooLarge,
		fmt.Sprintf("a session names at most %d rooms; leave rooms out to follow all that the token covers", r.MaxRooms)).
		With("limit", r.MaxRooms)
}

func (r Rules) tooManyNamespaces() error {
	r.Limits.Hit(limit.Namespaces)
	return problem.New(problem.TooLarge,
		fmt.Sprintf("a session follows at most %d namespaces: subscribe to fewer of them", r.MaxNamespaces)).
		With("limit", r.MaxNamespaces)
}

// without returns the subscriptions less list. Taking single rooms from "all"
// leaves the rest of the grant's rooms, which a company-wide grant cannot list.
func (s subscriptions) without(grant access.Grant, list []Subscription, rules Rules) (subscriptions, error) {
	if err := rules.length(list); err != nil {
		return nil, err
	}
	next := s.clone()
	for _, sub := range list {
		f, i := next.in(sub.Namespace)
		if i < 0 {
			return nil, problem.New(problem.InvalidParameter, "not subscribed to that namespace").
				With("path", "namespace").With("allowed", s.namespaces())
		}
		if sub.Rooms == nil {
			next = slices.Delete(next, i, i+1)
			continue
		}
		if len(sub.Rooms) == 0 {
			continue // less nothing: "all" stays what it is
		}
		if f.all {
			if grant.AllBranches {
				return nil, problem.New(problem.InvalidParameter,
					"the subscription is to every room of the company: unsubscribe from the namespace, then subscribe to rooms by name").
					With("path", "rooms")
			}
			f.all, f.rooms = false, slices.Concat(f.rooms, grant.Rooms())
			slices.Sort(f.rooms)
			f.rooms = slices.Compact(f.rooms)
		}
		var gone []string
		for _, name := range sub.Rooms {
			room, err := grant.Room(name)
			if err != nil {
				return nil, err
			}
			gone = append(gone, room)
		}
		slices.Sort(gone)
		f.rooms = slices.DeleteFunc(f.rooms, func(room string) bool {
			_, found := slices.BinarySearch(gone, room)
			return found
		})
		next[i] = f
		if len(f.rooms) == 0 {
			next = slices.Delete(next, i, i+1)
		}
	}
	return next, nil
}

func (s subscriptions) namespaces() []string {
	names := make([]string, len(s))
	for i, f := range s {
		names[i] = f.namespace
	}
	return names
}

// under returns what is left of the subscriptions under another grant: rooms
// it does not cover are gone.
func (s subscriptions) under(grant access.Grant) subscriptions {
	var next subscriptions
	for _, f := range s {
		f.rooms = slices.DeleteFunc(slices.Clone(f.rooms), func(room string) bool {
			_, err := grant.Room(room)
			return err != nil
		})
		if f.all || len(f.rooms) > 0 {
			next = append(next, f)
		}
	}
	return next
}

// topics are what the feed is to follow.
func (s subscriptions) topics(grant access.Grant) []event.Topic {
	var topics []event.Topic
	for _, f := range s {
		if f.all {
			topics = append(topics, grant.Topics(f.namespace)...)
		}
		if f.all && grant.AllBranches {
			continue
		}
		for _, room := range f.rooms {
			topics = append(topics, event.Topic{Tenant: grant.Tenant, Namespace: f.namespace, Room: room})
		}
	}
	// A feed follows each topic once; a room can be both granted and named.
	slices.SortFunc(topics, event.Topic.Compare)
	return slices.Compact(topics)
}

// joined are the rooms joined in each namespace.
func (s subscriptions) joined(grant access.Grant) map[string][]string {
	joined := make(map[string][]string, len(s))
	for _, f := range s {
		rooms := append([]string{}, f.rooms...) // a list in JSON, even when empty
		if f.all {
			rooms = append(rooms, grant.Rooms()...)
		}
		slices.Sort(rooms)
		joined[f.namespace] = slices.Compact(rooms)
	}
	return joined
}
