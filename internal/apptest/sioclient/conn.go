package sioclient

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/apptest"
)

// The transports.
const (
	WebSocket = "websocket"
	Polling   = "polling"
)

// separator is between the packets of a payload.
const separator = "\x1e"

var (
	// ErrClosed is how a connection by polling ends: with a close packet.
	ErrClosed = errors.New("the server has closed the connection")
	// ErrPacket is wrapped where what the server says is no packet that may come then.
	ErrPacket = errors.New("an unexpected packet")
)

// RefusedError is an answer to a request by polling that carries nothing.
type RefusedError struct{ apptest.Answer }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the request was answered with %d: %s", e.Status, e.Body)
}

// Conn is one connection, whose errors are returned: what runs beside a test's own goroutine
// must not end the test. It is for one goroutine.
type Conn struct {
	SID          string   `json:"sid"` // of the engine
	Upgrades     []string `json:"upgrades"`
	PingInterval int64    `json:"pingInterval"` // ms
	PingTimeout  int64    `json:"pingTimeout"`  // ms
	MaxPayload   int64    `json:"maxPayload"`

	// Mute keeps pongs back.
	Mute bool

	instance func() *apptest.Instance // that the next request goes to
	headers  http.Header
	socket   *websocket.Conn // nil: it polls
	came     []string        // packets that were not asked for yet
}

// Open connects, and joins nothing yet. Each request goes to the instance that is named for it,
// with the headers, which come in pairs. Close it.
func Open(ctx context.Context, instance func() *apptest.Instance, transport string, headers ...string) (*Conn, error) {
	c := &Conn{instance: instance, headers: http.Header{}}
	for n := 0; n+1 < len(headers); n += 2 {
		c.headers.Set(headers[n], headers[n+1])
	}
	if transport == WebSocket {
		i := instance()
		var err error
		c.socket, _, err = websocket.Dial(ctx, "ws"+strings.TrimPrefix(i.URL, "http")+"/socket.io/?EIO=4&transport=websocket",
			&websocket.DialOptions{HTTPClient: cmp.Or(i.Client, apptest.Client), HTTPHeader: c.headers})
		if err != nil {
			return nil, err
		}
		c.socket.SetReadLimit(-1)
	}
	open, err := c.packet(ctx)
	if err == nil {
		if text, ok := strings.CutPrefix(open, "0"); !ok || json.Unmarshal([]byte(text), c) != nil {
			err = fmt.Errorf("%w: %q opens the connection", ErrPacket, open)
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close cuts the connection. One that polls is just left alone.
func (c *Conn) Close() {
	if c.socket != nil {
		_ = c.socket.CloseNow()
	}
}

// packet reads a packet of Engine.IO.
func (c *Conn) packet(ctx context.Context) (string, error) {
	if c.socket != nil {
		kind, data, err := c.socket.Read(ctx)
		if err == nil && kind != websocket.MessageText {
			err = fmt.Errorf("%w: the server sends nothing binary", ErrPacket)
		}
		apptest.Look("a packet", data)
		return string(data), err
	}
	if len(c.came) == 0 {
		answer, err := c.request(ctx, http.MethodGet, "")
		if err != nil {
			return "", err
		}
		c.came = strings.Split(string(answer.Body), separator)
	}
	p := c.came[0]
	c.came = c.came[1:]
	return p, nil
}

// request polls.
func (c *Conn) request(ctx context.Context, method, body string) (apptest.Answer, error) {
	headers := []string{"Content-Type", "text/plain;charset=UTF-8"}
	for name := range c.headers {
		headers = append(headers, name, c.headers.Get(name))
	}
	path := "/socket.io/?EIO=4&transport=polling&t=x"
	if c.SID != "" {
		path += "&sid=" + c.SID
	}
	answer, err := c.instance().Request(ctx, method, path, "", body, headers...)
	if err == nil && (answer.Status != http.StatusOK || method == http.MethodPost && string(answer.Body) != "ok") {
		err = &RefusedError{answer}
	}
	return answer, err
}

// Tell writes a packet of Engine.IO, which is text.
func (c *Conn) Tell(ctx context.Context, packet string) error {
	apptest.Shown(packet)
	if c.socket != nil {
		return c.socket.Write(ctx, websocket.MessageText, []byte(packet))
	}
	_, err := c.request(ctx, http.MethodPost, packet)
	return err
}

// Receive reads a packet of Socket.IO, or how the connection ended. Pings are answered.
func (c *Conn) Receive(ctx context.Context) (Packet, error) {
	for {
		p, err := c.packet(ctx)
		switch {
		case err != nil:
			return Packet{}, err
		case p == "1":
			return Packet{}, ErrClosed
		case p == "2":
			if !c.Mute {
				_ = c.Tell(ctx, "3") // a line that is dead is found by reading
			}
		case p == "6" && c.socket == nil:
		case strings.HasPrefix(p, "4"):
			return parse(p[1:])
		default:
			return Packet{}, fmt.Errorf("%w: %q", ErrPacket, p)
		}
	}
}

// The kinds of packets.
const (
	Connect = iota
	Disconnect
	Event
	Ack
	ConnectError
)

// Packet is a packet of Socket.IO.
type Packet struct {
	Kind      int
	Namespace string
	ID        string // of an acknowledgement
	Data      json.RawMessage
	Raw       string
}

var packetForm = regexp.MustCompile(`(?s)^([0-6])(?:(/[^,]*),)?([0-9]*)([\[{"].*)?$`)

func parse(text string) (Packet, error) {
	m := packetForm.FindStringSubmatch(text)
	if len(m) == 0 || m[4] != "" && !json.Valid([]byte(m[4])) {
		return Packet{}, fmt.Errorf("%w: %q", ErrPacket, text)
	}
	p := Packet{Kind: int(m[1][0] - '0'), Namespace: m[2], ID: m[3], Data: json.RawMessage(m[4]), Raw: text}
	if p.Namespace == "" {
		p.Namespace = "/"
	}
	return p, nil
}
