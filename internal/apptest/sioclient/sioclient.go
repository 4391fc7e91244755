// Package sioclient is a Socket.IO client for tests. It speaks Engine.IO and Socket.IO by
// hand, over a WebSocket or by polling, and hides nothing of them: what comes is shown as it
// came, and between two calls nothing is read.
package sioclient

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

// Client is a Conn of a test, which what is unexpected ends.
type Client struct{ *Conn }

// Dial connects, and joins nothing yet. The headers, of every request, come in pairs. The
// connection is cut when the test ends.
func Dial(t testing.TB, i *apptest.Instance, transport string, headers ...string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	c, err := Open(ctx, func() *apptest.Instance { return i }, transport, headers...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return &Client{c}
}

// Write writes a packet of Engine.IO.
func (c *Client) Write(t testing.TB, packet string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	return c.Tell(ctx, packet)
}

// Send sends a packet of Socket.IO, and what is attached to it.
func (c *Client) Send(t testing.TB, text string, attachments ...[]byte) {
	t.Helper()
	require.NoError(t, c.TrySend(t, text, attachments...))
}

// TrySend is Send on a connection that may have ended.
func (c *Client) TrySend(t testing.TB, text string, attachments ...[]byte) error {
	t.Helper()
	list := []string{"4" + text}
	if c.socket == nil {
		for _, a := range attachments {
			list = append(list, "b"+base64.StdEncoding.EncodeToString(a))
		}
		return c.Write(t, strings.Join(list, separator))
	}
	if err := c.Write(t, list[0]); err != nil {
		return err
	}
	for _, a := range attachments {
		if err := c.socket.Write(t.Context(), websocket.MessageBinary, a); err != nil {
			return err
		}
	}
	return nil
}

// Next reads a packet of Socket.IO, or how the connection ended. Pings are answered.
func (c *Client) Next(t testing.TB) (Packet, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	p, err := c.Receive(ctx)
	require.NotErrorIs(t, err, ErrPacket)
	return p, err
}
