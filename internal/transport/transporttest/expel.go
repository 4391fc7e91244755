package transporttest

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// expelled has a reader, and another of the same company, hear of what an
// administrator orders of another instance.
func expelled(t *testing.T, dial Dialer, path, reason string) {
	t.Helper()
	cluster := apptest.Cluster(t, 2)
	service := apptest.Token(t, access.Service, "c1")
	meant := live(t, dial, cluster[1], Ask{Token: apptest.Token(t, access.Web, "c1", "b1"), Namespaces: availability})
	other := live(t, dial, cluster[1], Ask{Token: apptest.Token(t, access.DesktopApp, "c1", "b1"), Namespaces: availability})
	publish(t, cluster[0], service, alert("branch:b1", "before"))
	meant.hear(t, 1)

	ordered := cluster[0].Do(t, http.MethodPost, path, apptest.Token(t, access.Admin, "c1"), `{"subject":"test-web","reason":"of the test"}`)
	require.Equal(t, http.StatusCreated, ordered.Status, string(ordered.Body))
	require.Equal(t, reason, meant.until(t, GoAway).Reason)
	require.Equal(t, News{Kind: End, Reason: reason}, meant.next(t))
	publish(t, cluster[0], service, alert("branch:b1", "after"))
	other.hear(t, 2)
}

func revocation(t *testing.T, dial Dialer) {
	t.Helper()
	expelled(t, dial, "/v1/revocations", "token_revoked")
}

func disconnection(t *testing.T, dial Dialer) {
	t.Helper()
	expelled(t, dial, "/v1/disconnections", "disconnected")
}
