package access

import (
	"slices"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// Role is what a token's holder is to Tailroom.
type Role string

// The roles there are; ROLE_MAP maps a platform's own onto them.
const (
	Web        Role = "web"
	DesktopApp Role = "desktop_app"
	Service    Role = "service"
	Analyst    Role = "analyst"
	Admin      Role = "admin"
)

// Roles lists every role.
var Roles = []Role{Web, DesktopApp, Service, Analyst, Admin}

// Grant is what a token allows. It is a value: narrowing makes a new one.
type Grant struct {
	Subject string
	TokenID string // "" without a jti claim
	Role    Role
	// Tenant is the company the grant is for; "" is every company, which only
	// a platform-wide token (companyId "*") that named none has.
	Tenant string
	// PlatformWide says that the token may name any company.
	PlatformWide bool
	// AllBranches says that the grant covers every room of the company;
	// otherwise it covers company:{Tenant} and the Branches'.
	AllBranches bool
	Branches    []string
	// Narrowed is the branch that the client has asked to be narrowed to; ""
	// is none.
	Narrowed string
	// IssuedAt is the token's iat, zero without one.
	IssuedAt time.Time
	// Expires is when a connection of this grant ends.
	Expires time.Time
}

// Actor is how the log names who published.
func (g Grant) Actor() string {
	if g.Role == Service {
		return "service:" + g.Subject
	}
	return "user:" + g.Subject
}

// Name returns the grant for a company that the client named: a
// platform-wide token may name any, another only its own, and a grant that
// has a company keeps it: its branches are that one's. An empty name changes
// nothing. A service must name one.
func (g Grant) Name(company string) (Grant, error) {
	switch {
	case company == "" && g.Tenant == "" && rights[g.Role].companies != allCompanies:
		return Grant{}, problem.New(problem.InvalidParameter,
			"a platform-wide "+string(g.Role)+" token must name the company: companyId").With("path", "companyId")
	case company == "" || company == g.Tenant:
		return g, nil
	case g.Tenant != "" || !g.PlatformWide:
		detail := "the token is for another company"
		if g.PlatformWide {
			detail = "another company was named before, and the session keeps it"
		}
		return Grant{}, problem.New(problem.Forbidden, detail).With("allowed", []string{g.Tenant})
	case !event.ValidRoomID(company):
		return Grant{}, problem.New(problem.InvalidParameter,
			"companyId is 1 to 64 of A-Z a-z 0-9 _ -").With("path", "companyId")
	}
	g.Tenant = company
	return g, nil
}

// Rooms are the rooms the grant joins by itself: the company's and the
// branches'. A company-wide grant is in company:{id} and hears every branch.
func (g Grant) Rooms() []string {
	if g.Tenant == "" {
		return []string{event.CompanyRoom("*")}
	}
	rooms := []string{event.CompanyRoom(g.Tenant)}
	for _, b := range g.Branches {
		rooms = append(rooms, event.BranchRoom(b))
	}
	return rooms
}

// Topics are all the topics the grant covers in a namespace. Branches are of a
// company: without one they cover nothing.
func (g Grant) Topics(namespace string) []event.Topic {
	if g.AllBranches {
		return []event.Topic{{Tenant: g.Tenant, Namespace: namespace}}
	}
	if g.Tenant == "" {
		return nil
	}
	var topics []event.Topic
	for _, room := range g.Rooms() {
		topics = append(topics, event.Topic{Tenant: g.Tenant, Namespace: namespace, Room: room})
	}
	return topics
}

// Room returns the colon form of a room that the grant covers. It is an error
// of code invalid_room or forbidden otherwise.
func (g Grant) Room(name string) (string, error) {
	room, err := event.ParseRoom(name)
	if err != nil {
		return "", problem.New(problem.InvalidRoom, err.Error()).With("allowed", event.RoomForms)
	}
	if g.Tenant == "" {
		return "", problem.New(problem.InvalidParameter,
			"rooms belong to a company: name it with companyId").With("path", "companyId")
	}
	if !g.covers(room) {
		return "", problem.New(problem.Forbidden, "the token does not cover that room").
			With("allowed", g.allowedRooms())
	}
	return room, nil
}

// Sees reports whether the grant may read e.
func (g Grant) Sees(e *event.Event) bool {
	if g.Tenant == "" {
		return g.AllBranches
	}
	return e.Tenant == g.Tenant && (g.AllBranches || slices.ContainsFunc(e.Rooms, g.covers))
}

// covers reports whether room, in colon form, is in the grant.
func (g Grant) covers(room string) bool {
	if company, ok := event.RoomCompany(room); ok {
		return company == g.Tenant
	}
	return g.AllBranches || slices.Contains(g.Rooms(), room)
}

func (g Grant) allowedRooms() []string {
	if g.AllBranches {
		return []string{event.CompanyRoom(g.Tenant), event.BranchRoom("{any}")}
	}
	return g.Rooms()
}
