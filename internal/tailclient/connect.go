package tailclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const (
	subprotocol = "tailroom.v1"
	// helloTimeout bounds everything from the dial to the welcome.
	helloTimeout = 15 * time.Second
	// maxMessage is more than a server's largest event can make.
	maxMessage = 64 << 20
)

// errEnough says that the caller wants no more.
var errEnough = errors.New("the caller left")

// connect runs one connection to its end and returns why it ended.
func (f *follower) connect(ctx context.Context, yield func(Message, error) bool) error {
	hello, cancel := context.WithTimeoutCause(ctx, helloTimeout,
		fmt.Errorf("no welcome from the server within %s", helloTimeout))
	defer cancel()
	ws, line, err := f.open(hello)
	if err != nil {
		return cmp.Or(context.Cause(hello), err)
	}
	defer func() { _ = ws.CloseNow() }()

	said := "" // what the server complained of: it then closes
	for reading := hello; ; {
		var m incoming
		if err := wsjson.Read(reading, ws, &m); err != nil {
			return explain(err, said, context.Cause(reading))
		}
		switch m.Type { //nolint:exhaustive // the caller's are passed on as they are
		case "error":
			said = m.Code + ": " + m.Text
			continue
		case Welcome:
			line.patience.Store(int64(2*time.Millisecond) * m.HeartbeatMs)
			reading = ctx
		case Live:
			f.failed = 0
		case Reset:
			m.Cursor = m.Resume
		}
		if !yield(m.Message, nil) {
			return errEnough
		}
		if m.Cursor != "" {
			f.cursor = m.Cursor
		}
	}
}

// open dials and says hello.
func (f *follower) open(ctx context.Context) (*websocket.Conn, *line, error) {
	base, err := url.Parse(f.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, nil, never(fmt.Sprintf("%q is not the address of a server, such as http://127.0.0.1:3001", f.URL))
	}
	if f.token, err = f.Token(ctx); err != nil {
		return nil, nil, never(err.Error())
	}
	if len(f.Namespaces) == 0 {
		if f.Namespaces, err = namespaces(ctx, base, f.token); err != nil {
			return nil, nil, err
		}
	}
	client, dialled := newClient()
	ws, response, err := websocket.Dial(ctx, base.JoinPath("/v1/ws").String(), &websocket.DialOptions{ //nolint:bodyclose // it does
		HTTPClient: client, Subprotocols: []string{subprotocol}, CompressionMode: websocket.CompressionNoContextTakeover,
	})
	if err != nil {
		return nil, nil, refusal(response, err)
	}
	ws.SetReadLimit(maxMessage)
	if err := wsjson.Write(ctx, ws, f.hello()); err != nil {
		_ = ws.CloseNow()
		return nil, nil, err
	}
	return ws, dialled.Load(), nil
}

// hello is the first message of a connection.
func (f *follower) hello() map[string]any {
	type subscription struct {
		Namespace string   `json:"namespace"`
		Rooms     []string `json:"rooms,omitempty"`
	}
	list := make([]subscription, len(f.Namespaces))
	for i, namespace := range f.Namespaces {
		list[i] = subscription{Namespace: namespace, Rooms: f.Rooms}
	}
	hello := map[string]any{
		"type": "hello", "token": f.token, "subscribe": list,
		"client": map[string]string{"name": f.Name, "version": f.Version},
	}
	if f.CompanyID != "" {
		hello["companyId"] = f.CompanyID
	}
	if f.cursor != "" {
		hello["cursor"] = f.cursor
	}
	return hello
}
