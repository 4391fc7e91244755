package event

import "cmp"

// Topic is what a reader can follow: a room of a tenant's namespace. With an
// empty Room it is everything in the namespace of that tenant, with an empty
// Tenant as well everything in the namespace (operators only).
type Topic struct {
	Tenant, Namespace, Room string
}

// Topics appends to dst every topic that an event with this address belongs
// to: one for each room, one for its tenant's namespace, one for the
// namespace.
func (e *Event) Topics(dst []Topic) []Topic {
	for _, room := range e.Rooms {
		dst = append(dst, Topic{e.Tenant, e.Namespace, room})
	}
	return append(dst, Topic{e.Tenant, e.Namespace, ""}, Topic{"", e.Namespace, ""})
}

// Compare orders topics by tenant, namespace and room.
func (t Topic) Compare(o Topic) int {
	return cmp.Or(cmp.Compare(t.Tenant, o.Tenant), cmp.Compare(t.Namespace, o.Namespace), cmp.Compare(t.Room, o.Room))
}
