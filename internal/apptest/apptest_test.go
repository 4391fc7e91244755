package apptest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

func TestMain(m *testing.M) { apptest.Main(m) }

// The thin path through all of it: published on one instance, delivered on the
// other, resumed on the first.
func TestThinPath(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	service, branch := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b7")

	there, welcome := cluster[1].Hello(t, branch, "now", `[{"namespace":"/orders"}]`)
	require.Equal(t, "1-0", welcome.Cursor)
	require.Equal(t, map[string][]string{"/orders": {"branch:b7", "company:c1"}}, welcome.Rooms)
	there.Until(t, "live")
	cluster[0].Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b7"}}`)
	first := there.Collect(t, 1)
	require.NoError(t, there.Conn.CloseNow())

	cluster[1].Publish(t, service, `[{"namespace":"/orders","type":"newOrder","data":{"orderId":"2","branchId":"b7"}},
		{"namespace":"/orders","type":"newOrder","data":{"orderId":"3","branchId":"b8"}}]`)
	here, _ := cluster[0].Hello(t, branch, first[0].Cursor, `[{"namespace":"/orders"}]`)
	second := here.Collect(t, 1)
	require.Equal(t, int64(2), second[0].Position)
	require.JSONEq(t, `{"orderId":"2","branchId":"b7"}`, string(second[0].Data))
}
