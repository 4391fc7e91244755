package access

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRoleMap(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		list string
		want map[string]Role
	}{
		"empty":      {"", map[string]Role{"": Web, "owner": Web, "admin": Admin, "desktop_app": DesktopApp}},
		"named":      {"owner=admin, till = desktop_app ,", map[string]Role{"owner": Admin, "till": DesktopApp, "Owner": Web}},
		"the others": {"*=analyst", map[string]Role{"": Analyst, "owner": Analyst, "web": Web, "service": Service}},
		"overridden": {"admin=web,web=service", map[string]Role{"admin": Web, "web": Service}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := ParseRoleMap(test.list)
			require.NoError(t, err)
			for role, want := range test.want {
				require.Equal(t, want, m.Role(role), role)
			}
			again, err := ParseRoleMap(m.String())
			require.NoError(t, err)
			require.Equal(t, m, again)
		})
	}
	require.Equal(t, Web, RoleMap(nil).Role("owner"))
}

func TestParseRoleMapNamesTheBadPart(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"owner=web,cashier":   `"cashier" is not of the form name=role`,
		"=web":                `"=web" is not of the form name=role`,
		"owner=boss,*=web":    `"owner=boss" has a role that is none of [web desktop_app service analyst admin]`,
		"owner=":              `"owner=" has a role`,
		"owner=web,owner=web": `"owner=web" maps owner a second time`,
	} {
		_, err := ParseRoleMap(list)
		require.ErrorContains(t, err, want)
	}
}
