package tailclient_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/tailclient"
)

// A follower is cut while other companies and branches are busy, and comes back
// to the other instance, several times. It gets its events once, in order.
func TestFollow_ComesBackToAnotherInstance(t *testing.T) {
	t.Parallel()
	const rounds, perRound = 4, 30
	cluster := apptest.Cluster(t, 2)
	service := apptest.Token(t, access.Service, "*")
	board := newSwitchboard(t)
	address := func(i int) string { return strings.TrimPrefix(cluster[i%2].URL, "http://") }
	board.turn(address(0))
	publish := func(round int) {
		var lines strings.Builder
		for i := range perRound {
			for _, to := range []struct{ company, branch string }{{"c1", "b7"}, {"c1", "b8"}, {"c2", "b7"}} {
				fmt.Fprintf(&lines, `{"companyId":%q,"namespace":"/orders","type":"newOrder","data":{"orderId":"%d-%d","branchId":%q}}`+"\n",
					to.company, round, i, to.branch)
			}
		}
		answer := cluster[round%2].PostLines(t, service, lines.String())
		require.Equal(t, http.StatusOK, answer.Status, string(answer.Body))
	}

	var got []apptest.Event
	disconnected, round := 0, 0
	for m, err := range tailclient.Follow(t.Context(), tailclient.Config{
		URL: board.url(), Token: token(apptest.Token(t, access.Web, "c1", "b7")), From: "now",
	}) {
		require.NoError(t, err)
		got = append(got, decode(t, m)...)
		switch {
		case m.Type == tailclient.Live && round == 0:
			publish(round) // live
			round++
		case m.Type == tailclient.Disconnected:
			disconnected++
			board.turn(address(round)) // to the other
		case m.Type == tailclient.Events && len(got) == perRound*round && round < rounds:
			board.turn("")
			publish(round) // and nobody listens
			round++
		}
		if len(got) == perRound*rounds {
			break
		}
	}
	require.GreaterOrEqual(t, disconnected, rounds-1)
	want, _, _ := cluster[0].History(t, service, "companyId=c1&room=branch:b7&limit=10000")
	require.Equal(t, want, got)
}

func TestFollow_TellsOfAGap(t *testing.T) {
	t.Parallel()
	server := apptest.Cluster(t, 1)[0]
	server.Publish(t, apptest.Token(t, access.Service, "c1"), `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b7"}}`)
	var types []tailclient.Type
	for m, err := range tailclient.Follow(t.Context(), tailclient.Config{
		URL: server.URL, Token: token(apptest.Token(t, access.Web, "c1")), From: "1-1000", Namespaces: []string{"/orders"},
	}) {
		require.NoError(t, err)
		types = append(types, m.Type)
		if m.Type == tailclient.Reset {
			require.Equal(t, "diverged", m.Reason)
			require.Equal(t, "1-1", m.Cursor)
			require.Equal(t, "/v1/state", m.Snapshot)
		}
		if m.Type == tailclient.Live {
			break
		}
	}
	require.Equal(t, []tailclient.Type{tailclient.Welcome, tailclient.Reset, tailclient.Live}, types)
}

// An instance that is shut down sends its followers away; they find the other.
func TestFollow_LeavesADrainingInstance(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	board := newSwitchboard(t)
	board.turn(strings.TrimPrefix(cluster[0].URL, "http://"))
	live, sentAway := 0, false
	stopped := make(chan struct{})
	for m, err := range tailclient.Follow(t.Context(), tailclient.Config{
		URL: board.url(), Token: token(apptest.Token(t, access.Web, "c1")),
	}) {
		require.NoError(t, err)
		switch m.Type {
		case tailclient.Live:
			live++
			if live == 1 {
				go func() { defer close(stopped); cluster[0].Stop() }()
			}
		case tailclient.GoAway:
			sentAway = true
			require.Equal(t, "draining", m.Reason)
		case tailclient.Disconnected:
			require.EqualError(t, m.Err, "the server closed the connection: draining (1001)")
			board.turn(strings.TrimPrefix(cluster[1].URL, "http://"))
		default:
		}
		if live == 2 {
			break
		}
	}
	<-stopped
	require.True(t, sentAway)
}
