package access

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

var (
	branchUser   = Grant{Subject: "9", Role: Web, Tenant: "c1", Branches: []string{"b7"}}
	companyUser  = Grant{Subject: "9", Role: Web, Tenant: "c1", AllBranches: true}
	platformUser = Grant{Subject: "9", Role: Analyst, PlatformWide: true, AllBranches: true}
	namedUser    = Grant{Subject: "9", Role: Admin, Tenant: "c1", PlatformWide: true, Branches: []string{"b7"}}
	anyService   = Grant{Subject: "s", Role: Service, PlatformWide: true, AllBranches: true}
)

func TestGrantName(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grant   Grant
		company string
		tenant  string
		code    problem.Code // "" is none
	}{
		"own by default":      {branchUser, "", "c1", ""},
		"own by name":         {branchUser, "c1", "c1", ""},
		"another":             {companyUser, "c2", "", problem.Forbidden},
		"any":                 {platformUser, "c2", "c2", ""},
		"all":                 {platformUser, "", "", ""},
		"another than before": {namedUser, "c2", "", problem.Forbidden},
		"the same as before":  {namedUser, "c1", "c1", ""},
		"the one before":      {namedUser, "", "c1", ""},
		"a star is no name":   {platformUser, "*", "", problem.InvalidParameter},
		"a service names one": {anyService, "c2", "c2", ""},
		"a service names all": {anyService, "", "", problem.InvalidParameter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, err := test.grant.Name(test.company)
			if test.code != "" {
				requireProblem(t, err, test.code, "company")
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.tenant, g.Tenant)
		})
	}
}

func TestGrantRoom(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grant      Grant
		room, want string
		code       problem.Code
	}{
		"own branch":           {branchUser, "branch:b7", "branch:b7", ""},
		"underscore form":      {branchUser, "branch_b7", "branch:b7", ""},
		"own company":          {branchUser, "company:c1", "company:c1", ""},
		"another branch":       {branchUser, "branch:b8", "", problem.Forbidden},
		"another company":      {branchUser, "company:c2", "", problem.Forbidden},
		"any branch":           {companyUser, "branch:b8", "branch:b8", ""},
		"any branch but not":   {companyUser, "company:c2", "", problem.Forbidden},
		"no room":              {companyUser, "table:1", "", problem.InvalidRoom},
		"of no named company":  {platformUser, "branch:b7", "", problem.InvalidParameter},
		"of every company (*)": {platformUser, "company:*", "", problem.InvalidRoom},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := test.grant.Room(test.room)
			if test.code != "" {
				requireProblem(t, err, test.code, "")
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestGrantSees(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		grant  Grant
		tenant string
		room   string
		want   bool
	}{
		"own branch":                    {branchUser, "c1", "branch:b7", true},
		"own company":                   {branchUser, "c1", "company:c1", true},
		"another branch":                {branchUser, "c1", "branch:b8", false},
		"the like branch of another":    {branchUser, "c2", "branch:b7", false},
		"any branch":                    {companyUser, "c1", "branch:b8", true},
		"another company":               {companyUser, "c2", "branch:b7", false},
		"every company":                 {platformUser, "c2", "branch:b7", true},
		"every company, branches bound": {Grant{PlatformWide: true, Branches: []string{"b7"}}, "c2", "branch:b7", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &event.Event{Tenant: test.tenant, Rooms: []string{test.room}}
			require.Equal(t, test.want, test.grant.Sees(e))
		})
	}
}

// TestGrantTopics holds the topics against the meaning of each grant.
func TestGrantTopics(t *testing.T) {
	t.Parallel()
	require.Equal(t, []event.Topic{{Tenant: "c1", Namespace: "/orders"}}, companyUser.Topics("/orders"))
	require.Equal(t, []event.Topic{{Namespace: "/orders"}}, platformUser.Topics("/orders"))
	require.Equal(t, []event.Topic{
		{Tenant: "c1", Namespace: "/orders", Room: "company:c1"},
		{Tenant: "c1", Namespace: "/orders", Room: "branch:b7"},
	}, branchUser.Topics("/orders"))
}

func TestGrantActor(t *testing.T) {
	t.Parallel()
	require.Equal(t, "user:9", branchUser.Actor())
	require.Equal(t, "service:s", anyService.Actor())
}
