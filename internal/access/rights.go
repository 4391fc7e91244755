package access

import "slices"

// right is what a role may do.
type right struct {
	// companies a token of the role can be for, and so read.
	companies reach
	// publishes says which event types.
	publishes share
	// consumes: the server keeps a cursor for it.
	consumes bool
	// ownConsumers: sees no others than its subject's.
	ownConsumers bool
	// operates: sees and ends connections, revokes tokens, reads what the log
	// says of itself.
	operates bool
}

// reach is whose events a role can read.
type reach int

const (
	ownCompany   reach = iota // that of the token
	namedCompany              // or the one that a platform-wide token names
	allCompanies              // or all, if it names none
)

// share is which event types a role may publish.
type share int

const (
	noTypes     share = iota
	listedTypes       // those that the catalogue lists the role for
	allTypes
)

// rights is the protocol's table, §7 of docs/protocol.md: the one place that
// says what a role may do. A branch claim narrows all of it.
var rights = map[Role]right{
	Web:        {companies: ownCompany, publishes: listedTypes},
	DesktopApp: {companies: ownCompany, publishes: listedTypes, consumes: true, ownConsumers: true},
	Service:    {companies: namedCompany, publishes: allTypes, consumes: true},
	Analyst:    {companies: allCompanies, publishes: noTypes},
	Admin:      {companies: allCompanies, publishes: allTypes, operates: true},
}

// MayPublish reports whether the role may publish an event type that the
// catalogue lists these roles for.
func (r Role) MayPublish(listed []Role) bool {
	switch rights[r].publishes {
	case allTypes:
		return true
	case listedTypes:
		return slices.Contains(listed, r)
	case noTypes:
	}
	return false
}

// Publishers are the roles that may publish anything at all.
func Publishers() []Role {
	return rolesThat(func(r right) bool { return r.publishes != noTypes })
}

// Consumers are the roles that can be a consumer.
func Consumers() []Role {
	return rolesThat(func(r right) bool { return r.consumes })
}

// MayConsume reports whether the role can be a consumer.
func (r Role) MayConsume() bool { return rights[r].consumes }

// OwnConsumersOnly reports whether the role sees no consumers but its subject's.
func (r Role) OwnConsumersOnly() bool { return rights[r].ownConsumers }

// MayOperate reports whether the grant's holder is an operator: of the whole
// company, or of all where Tenant is "". Nobody is of some branches only.
func (g Grant) MayOperate() bool { return rights[g.Role].operates && g.AllBranches }

// platformRoles are the roles that a platform-wide token can have.
func platformRoles() []Role {
	return rolesThat(func(r right) bool { return r.companies != ownCompany })
}

func rolesThat(have func(right) bool) []Role {
	return slices.DeleteFunc(slices.Clone(Roles), func(r Role) bool { return !have(rights[r]) })
}
