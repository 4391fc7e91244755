package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// otherRoles is the name in a RoleMap that stands for every role not named,
// and for a token without one.
const otherRoles = "*"

// RoleMap says which Role each userRole of a platform is. The zero RoleMap is
// valid.
type RoleMap map[string]Role

// ParseRoleMap reads "owner=web,manager=admin,*=web". Its errors name the
// part that is wrong.
func ParseRoleMap(list string) (RoleMap, error) {
	m := RoleMap{}
	for _, part := range splitList(list) {
		name, role, found := strings.Cut(part, "=")
		name, role = strings.TrimSpace(name), strings.TrimSpace(role)
		switch {
		case !found || name == "":
			return nil, fmt.Errorf("%q is not of the form name=role", part)
		case !slices.Contains(Roles, Role(role)):
			return nil, fmt.Errorf("%q has a role that is none of %v", part, Roles)
		case m[name] != "":
			return nil, fmt.Errorf("%q maps %s a second time", part, name)
		}
		m[name] = Role(role)
	}
	return m, nil
}

// Role returns what a platform's role is here; "" is a token without one.
// The names of the Roles mean themselves unless the map says otherwise, and
// what it does not name is what it says of "*", or Web.
func (m RoleMap) Role(name string) Role {
	if role, ok := m[name]; ok {
		return role
	}
	if slices.Contains(Roles, Role(name)) {
		return Role(name)
	}
	if role, ok := m[otherRoles]; ok {
		return role
	}
	return Web
}

// String returns what ParseRoleMap reads, sorted.
func (m RoleMap) String() string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+string(m[name]))
	}
	return strings.Join(parts, ",")
}

// splitList returns the parts of a comma-separated list, without blank ones.
func splitList(list string) []string {
	var parts []string
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}
