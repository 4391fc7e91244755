// Package sioclient is a Socket.IO client for tests. It speaks Engine.IO and Socket.IO by
// hand, over a WebSocket or by polling, and hides nothing of them: what comes is shown as it
// came, and between two calls nothing is read.
package sioclient

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
)

// The transports.
const (
	WebSocket = "websocket"
	Polling   = "polling"
)

// separator is between the packets of a payload.
const separator = "\x1e"

// ErrClosed is how a connection by polling ends: with a close packet.
var ErrClosed = errors.New("the server has closed the connection")

// Client is one connection. It is for one goroutine.
type Client struct {
	SID          string   `json:"sid"` // of the engine
	Upgrades     []string `json:"upgrades"`
	PingInterval int64    `json:"pingInterval"` // ms
	PingTimeout  int64    `json:"pingTimeout"`  // ms
	MaxPayload   int64    `json:"maxPayload"`

	// Mute keeps pongs back.
	Mute bool

	instance *apptest.Instance
	headers  http.Header
	socket   *websocket.Conn // nil: it polls
	came     []string        // packets that were not asked for yet
}

// Dial connects, and joins nothing yet. The headers, of every request, come in pairs. The
// connection is cut when the test ends.
func Dial(t testing.TB, i *apptest.Instance, transport string, headers ...string) *Client {
	t.Helper()
	c := &Client{instance: i, headers: http.Header{}}
	for n := 0; n+1 < len(headers); n += 2 {
		c.headers.Set(headers[n], headers[n+1])
	}
	if transport == WebSocket {
		ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
		defer cancel()
		var err error
		c.socket, _, err = websocket.Dial(ctx, "ws"+strings.TrimPrefix(i.URL, "http")+"/socket.io/?EIO=4&transport=websocket",
			&websocket.DialOptions{HTTPClient: apptest.Client, HTTPHeader: c.headers})
		require.NoError(t, err)
		c.socket.SetReadLimit(-1)
	}
	t.Cleanup(c.Close)
	open, err := c.packet(t)
	require.NoError(t, err)
	require.Equal(t, "0", open[:1])
	require.NoError(t, json.Unmarshal([]byte(open[1:]), c))
	return c
}

// Close cuts the connection. One that polls is just left alone.
func (c *Client) Close() {
	if c.socket != nil {
		_ = c.socket.CloseNow()
	}
}

// packet reads a packet of Engine.IO.
func (c *Client) packet(t testing.TB) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	if c.socket != nil {
		kind, data, err := c.socket.Read(ctx)
		if err == nil {
			require.Equal(t, websocket.MessageText, kind, "the server sends nothing binary")
			apptest.Look("a packet", data)
		}
		return string(data), err
	}
	for len(c.came) == 0 {
		answer, err := c.request(ctx, http.MethodGet, "")
		if err != nil {
			return "", err
		}
		if answer.Status != http.StatusOK {
			return "", fmt.Errorf("a GET was answered with %d: %s", answer.Status, answer.Body)
		}
		c.came = strings.Split(string(answer.Body), separator)
	}
	p := c.came[0]
	c.came = c.came[1:]
	return p, nil
}

// request polls.
func (c *Client) request(ctx context.Context, method, body string) (apptest.Answer, error) {
	headers := []string{"Content-Type", "text/plain;charset=UTF-8"}
	for name := range c.headers {
		headers = append(headers, name, c.headers.Get(name))
	}
	path := "/socket.io/?EIO=4&transport=polling&t=x"
	if c.SID != "" {
		path += "&sid=" + c.SID
	}
	return c.instance.Request(ctx, method, path, "", body, headers...)
}

// Write writes a packet of Engine.IO.
func (c *Client) Write(t testing.TB, packet string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), apptest.Patience)
	defer cancel()
	apptest.Shown(packet)
	if c.socket != nil {
		return c.socket.Write(ctx, websocket.MessageText, []byte(packet))
	}
	answer, err := c.request(ctx, http.MethodPost, packet)
	if err == nil && (answer.Status != http.StatusOK || string(answer.Body) != "ok") {
		err = fmt.Errorf("a POST was answered with %d: %s", answer.Status, answer.Body)
	}
	return err
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
	for _, a := range attachments {
		list = append(list, "b"+base64.StdEncoding.EncodeToString(a))
	}
	if c.socket == nil {
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
	for deadline := time.Now().Add(apptest.Patience); time.Now().Before(deadline); {
		p, err := c.packet(t)
		if err != nil {
			return Packet{}, err
		}
		require.NotEmpty(t, p)
		switch p[0] {
		case '1':
			return Packet{}, ErrClosed
		case '2':
			if !c.Mute {
				_ = c.Write(t, "3") // a line that is dead is found by reading
			}
		case '4':
			return parse(t, p[1:]), nil
		case '6':
			require.Nil(t, c.socket, "a noop over a WebSocket")
		default:
			require.Fail(t, "an unexpected packet", p)
		}
	}
	return Packet{}, errors.New("only pings came")
}
