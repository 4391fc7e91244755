package socketio_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/pgtest"
)

func write(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// acknowledged waits until the server keeps a position for the desktop app.
func acknowledged(t testing.TB, i *apptest.Instance, position int64) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := i.Request(t.Context(), "GET", "/v1/consumers", apptest.Token(t, access.Admin, "c1"), "")
		return err == nil && strings.Contains(string(answer.Body), `"name":"test-desktop_app:/availability"`) &&
			strings.Contains(string(answer.Body), `"cursor":"1-`+strconv.FormatInt(position, 10)+`"`)
	}, apptest.Patience, 10*time.Millisecond)
}

// A desktop app that is started anew has neither pid nor offset. It goes on behind what came
// before a ping that it has answered.
func TestConsumer(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	one := apptest.Start(t, dsn, "TAILROOM_SOCKETIO_PING_INTERVAL=200ms")
	other := apptest.Start(t, dsn, "TAILROOM_SOCKETIO_PING_INTERVAL=1h")
	app := apptest.Token(t, access.DesktopApp, "c1", "b1")
	c := sioclient.Dial(t, one, sioclient.WebSocket)
	c.Join(t, availability, sioclient.Token(app))
	last := alert(t, one, "branch:b1", "received")
	messages, _ := heard(t, c, last)
	require.Equal(t, []string{"received"}, messages)
	reading := make(chan error)
	go func() {
		_, err := c.Next(t)
		reading <- err
	}()
	acknowledged(t, other, last)
	c.Close()
	require.Error(t, <-reading)
	alert(t, one, "branch:b1", "while it is off")

	// Where no ping comes, nothing is received for certain.
	for range 2 {
		c := sioclient.Dial(t, other, sioclient.Polling)
		c.Join(t, availability, sioclient.Token(app))
		messages, _ := heard(t, c, last+1)
		require.Equal(t, []string{"while it is off"}, messages)
		c.Send(t, "1/availability,")
	}
	// What it brings counts more.
	c = sioclient.Dial(t, other, sioclient.Polling)
	c.Join(t, availability, sioclient.Token(app, "cursor", "earliest"))
	messages, _ = heard(t, c, last+1)
	require.Equal(t, []string{"received", "while it is off"}, messages)
}

// A pong that does not come acknowledges nothing.
func TestConsumer_Mute(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_SOCKETIO_PING_INTERVAL=100ms", "TAILROOM_SOCKETIO_PING_TIMEOUT=3s")[0]
	app := apptest.Token(t, access.DesktopApp, "c1", "b1")
	c := sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, availability, sioclient.Token(app))
	c.Mute = true
	messages, _ := heard(t, c, alert(t, i, "branch:b1", "received"))
	require.Equal(t, []string{"received"}, messages)
	_, reason := c.Ended(t)
	require.Equal(t, "heartbeat_missed", reason)
	c = sioclient.Dial(t, i, sioclient.WebSocket)
	c.Join(t, availability, sioclient.Token(app))
	messages, _ = heard(t, c, 1)
	require.Equal(t, []string{"received"}, messages)
}

// Another one of the same name replaces it, for good: they would take turns for ever.
func TestConsumer_Replaced(t *testing.T) {
	t.Parallel()
	cluster := apptest.Cluster(t, 2)
	app := apptest.Token(t, access.DesktopApp, "c1", "b1")
	c := sioclient.Dial(t, cluster[0], sioclient.WebSocket)
	c.Join(t, availability, sioclient.Token(app))
	c.Join(t, "/orders", sioclient.Token(app))
	c.Until(t, "/orders", "$live")
	c2 := sioclient.Dial(t, cluster[1], sioclient.WebSocket)
	c2.Join(t, availability, sioclient.Token(app))
	goaway, _ := c.Until(t, availability, "$goaway")
	require.Contains(t, string(goaway), `"reason":"replaced"`)
	p, err := c.Next(t)
	require.NoError(t, err)
	require.Equal(t, "1/availability,", p.Raw)
	require.True(t, strings.HasPrefix(c.Ask(t, availability, sioclient.Token("nonsense")).Raw, "4/availability,"), "the connection lives")
}
