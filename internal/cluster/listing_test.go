package cluster_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// listing is the answer of GET /v1/connections.
type listing struct {
	Instance         string
	TotalConnections int
	ByInstance       map[string]int
	ByNamespace      map[string]int
	ByUserRole       map[string]int
	ByTransport      map[string]int
	ByRoom           map[string]int
	Connections      []connection
	More             bool
	Next             string
}

type connection struct {
	Session, Connection, Instance, CompanyID, Subject, UserRole, Transport, Address, Consumer string

	Engine *struct {
		Transport string
		Version   int
	}
	Client *struct{ Name, Version string }
	Rooms  map[string][]string
	Since  time.Time
}

func list(t *testing.T, i *apptest.Instance, token, query string) (l listing) {
	t.Helper()
	answer := i.Get(t, "/v1/connections?"+query, token)
	require.Equal(t, 200, answer.Status, string(answer.Body))
	require.NoError(t, json.Unmarshal(answer.Body, &l))
	return l
}

// await waits until so many sessions are seen.
func await(t *testing.T, i *apptest.Instance, token, query string, sessions int) (l listing) {
	t.Helper()
	require.Eventually(t, func() bool {
		l = list(t, i, token, query)
		return len(l.Connections) == sessions
	}, apptest.Patience, 10*time.Millisecond)
	return l
}

func (l listing) of(transport string) (list []connection) {
	for _, c := range l.Connections {
		if c.Transport == transport {
			list = append(list, c)
		}
	}
	return list
}

// Whatever they come over and wherever they are, every instance tells of all connections.
func TestConnections_Cluster(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	one, two := apptest.Start(t, dsn, "INSTANCE_ID=one"), apptest.Start(t, dsn, "INSTANCE_ID=two")
	admin := apptest.Token(t, access.Admin, "*")
	agent := apptest.Token(t, access.DesktopApp, "c1", "b1")

	socket := one.Dial(t)
	socket.SendJSON(t, map[string]any{
		"type": "hello", "token": apptest.Token(t, access.Web, "c1", "b1"), "client": map[string]any{"name": "kitchen-screen", "version": "1.2.0"},
		"subscribe": []any{map[string]any{"namespace": "/orders"}, map[string]any{"namespace": "/printing-ws", "rooms": []string{"branch_b1"}}},
	})
	socket.Until(t, "live")
	two.Stream(t, apptest.Token(t, access.Service, "c2"), "namespace=/orders")
	consumer, _ := two.Consume(t, agent, "agent-1", `[{"namespace":"/printing-ws"}]`)
	engine := sioclient.Dial(t, one, sioclient.Polling)
	for _, namespace := range []string{"/orders", "/printing-ws"} {
		engine.Join(t, namespace, sioclient.Token(agent))
	}

	for _, i := range []*apptest.Instance{one, two} {
		// Over Socket.IO, each namespace that is joined is a session.
		l := await(t, i, admin, "", 5)
		require.Equal(t, 4, l.TotalConnections)
		require.Equal(t, i.Get(t, "/healthz", "").Field("instance"), l.Instance)
		require.Equal(t, map[string]int{"one": 2, "two": 2}, l.ByInstance)
		require.Equal(t, map[string]int{"/orders": 3, "/printing-ws": 3}, l.ByNamespace)
		require.Equal(t, map[string]int{"web": 1, "service": 1, "desktop_app": 2}, l.ByUserRole)
		require.Equal(t, map[string]int{"socketio": 1, "sse": 1, "websocket": 2}, l.ByTransport)
		require.Equal(t, map[string]int{"company:c1": 3, "branch:b1": 3, "company:c2": 1}, l.ByRoom)
		orders := list(t, i, admin, "namespace=/orders")
		require.Equal(t, 3, orders.TotalConnections)
		require.Equal(t, map[string]int{"socketio": 1, "sse": 1, "websocket": 1}, orders.ByTransport)

		sessions := l.of("socketio")
		require.Equal(t, sessions[0].Connection, sessions[1].Connection)
		require.NotEqual(t, sessions[0].Session, sessions[1].Session)
		for _, s := range sessions {
			require.Equal(t, "polling", s.Engine.Transport)
			require.Equal(t, 4, s.Engine.Version)
			require.Equal(t, "desktop_app", s.UserRole)
			namespace := slices.Collect(maps.Keys(s.Rooms))[0]
			require.Equal(t, s.Subject+":"+namespace, s.Consumer)
			require.Equal(t, map[string][]string{namespace: {"branch:b1", "company:c1"}}, s.Rooms)
		}
		stream := l.of("sse")[0]
		require.Equal(t, []string{"two", "c2", "service", "127.0.0.1"}, []string{stream.Instance, stream.CompanyID, stream.UserRole, stream.Address})
		require.Nil(t, stream.Engine)
		require.Nil(t, stream.Client)
		screen := list(t, i, admin, "userRole=web").Connections[0]
		require.Equal(t, []string{"kitchen-screen", "1.2.0"}, []string{screen.Client.Name, screen.Client.Version})
		require.Equal(t, map[string][]string{"/orders": {"branch:b1", "company:c1"}, "/printing-ws": {"branch:b1"}}, screen.Rooms)
		require.WithinDuration(t, time.Now(), screen.Since, time.Minute)
		require.Equal(t, "agent-1", list(t, i, admin, "instance=two&userRole=desktop_app").Connections[0].Consumer)
	}

	// What a session follows, and its token, change while it lives.
	socket.SendJSON(t, map[string]any{"type": "unsubscribe", "ref": 1, "unsubscribe": []any{map[string]any{"namespace": "/orders"}}})
	socket.Until(t, "reply")
	require.Equal(t, map[string]int{"/printing-ws": 1}, list(t, one, admin, "userRole=web").ByNamespace)
	await(t, two, admin, "namespace=/orders&userRole=web", 0)
	// Who leaves is not there any more.
	engine.Send(t, "1/orders,")
	await(t, two, admin, "transport=socketio", 1)
	require.NoError(t, consumer.Conn.CloseNow())
	await(t, one, admin, "instance=two", 1)
	two.Stop()
	require.Equal(t, map[string]int{"one": 2}, await(t, one, admin, "", 2).ByInstance)
}

// Only administrators of a whole company, or of all, see who is connected; a company's
// see its own.
func TestConnections_WhoSeesWhom(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	for _, company := range []string{"c1", "c1", "c2"} {
		socket, _ := i.Hello(t, apptest.Token(t, access.Web, company, "b1"), "", `[{"namespace":"/orders"}]`)
		socket.Until(t, "live")
	}
	everywhere, _ := i.Hello(t, apptest.Token(t, access.Analyst, "*"), "", `[{"namespace":"/orders"}]`)
	everywhere.Until(t, "live")
	all, mine := apptest.Token(t, access.Admin, "*"), apptest.Token(t, access.Admin, "c1")
	for _, role := range []access.Role{access.Web, access.DesktopApp, access.Service, access.Analyst} {
		require.Equal(t, "forbidden", i.Get(t, "/v1/connections", apptest.Token(t, role, "c1")).Code(), role)
	}
	require.Equal(t, "forbidden", i.Get(t, "/v1/connections", apptest.Token(t, access.Admin, "c1", "b1")).Code())
	require.Equal(t, "forbidden", i.Get(t, "/v1/connections?companyId=c2", mine).Code())
	require.Equal(t, "unauthenticated", i.Get(t, "/v1/connections", "").Code())

	l := list(t, i, all, "")
	require.Equal(t, 4, l.TotalConnections)
	require.Equal(t, map[string]int{"company:c1": 2, "company:c2": 1, "branch:b1": 3, "company:*": 1}, l.ByRoom)
	require.Equal(t, "*", list(t, i, all, "userRole=analyst").Connections[0].CompanyID)
	for token, query := range map[string]string{mine: "", all: "companyId=c1"} {
		l := list(t, i, token, query)
		require.Equal(t, 2, l.TotalConnections)
		require.Equal(t, map[string]int{"company:c1": 2, "branch:b1": 2}, l.ByRoom)
		require.Len(t, l.Connections, 2)
	}
}

// The list comes in pages, and what is asked for amiss is explained.
func TestConnections_Parameters(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	admin := apptest.Token(t, access.Admin, "c1")
	for _, branch := range []string{"b1", "b2", "b3"} {
		socket, _ := i.Hello(t, apptest.Token(t, access.Web, "c1", branch), "", `[{"namespace":"/orders"}]`)
		socket.Until(t, "live")
	}
	first := list(t, i, admin, "limit=2")
	require.Equal(t, 3, first.TotalConnections)
	require.Len(t, first.Connections, 2)
	require.True(t, first.More)
	second := list(t, i, admin, "limit=2&after="+first.Next)
	require.Len(t, second.Connections, 1)
	require.False(t, second.More)
	require.Empty(t, second.Next)
	require.Len(t, list(t, i, admin, "room=branch_b2").Connections, 1)
	require.Empty(t, list(t, i, admin, "room=branch:b2&namespace=/printing-ws").Connections)
	require.Equal(t, 3, list(t, i, admin, "subject="+first.Connections[0].Subject).TotalConnections)
	require.Zero(t, list(t, i, admin, "instance=nowhere").TotalConnections)
	for query, code := range map[string]string{
		"limit=0": "invalid_parameter", "limit=1001": "invalid_parameter", "after=x": "invalid_parameter", "room=kitchen": "invalid_room",
		"userRole=cook": "invalid_parameter", "transport=pigeon": "invalid_parameter", "namespace=/nothing": "unknown_namespace",
		"role=web": "invalid_parameter", "subject=a%00": "invalid_parameter", "instance=%ff": "invalid_parameter",
	} {
		require.Equal(t, code, i.Get(t, "/v1/connections?"+query, admin).Code(), query)
	}
}

// What a crash of the database has taken is there again, though nothing has changed.
func TestConnections_AfterTheDatabaseWasAway(t *testing.T) {
	t.Parallel()
	server := pgtest.Server(t)
	dsn := pgtest.DatabaseOn(t, server)
	one, two := apptest.Start(t, dsn, "INSTANCE_ID=one"), apptest.Start(t, dsn, "INSTANCE_ID=two")
	admin := apptest.Token(t, access.Admin, "c1")
	for _, i := range []*apptest.Instance{one, two} {
		socket, _ := i.Hello(t, apptest.Token(t, access.Web, "c1"), "", `[{"namespace":"/orders"}]`)
		socket.Until(t, "live")
	}
	await(t, one, admin, "", 2)
	require.NoError(t, server.Restart(t.Context(), os.Kill))
	require.Eventually(t, func() bool {
		answer := one.Get(t, "/v1/connections", admin)
		var l listing
		return answer.Status == 200 && json.Unmarshal(answer.Body, &l) == nil && len(l.Connections) == 2
	}, apptest.Patience, 50*time.Millisecond)
	require.Equal(t, map[string]int{"one": 1, "two": 1}, list(t, one, admin, "").ByInstance)
}
