package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const (
	subprotocol = "tailroom.v1"
	// helloTimeout bounds everything from the dial to the welcome.
	helloTimeout = 20 * time.Second
	// maxReceived is more than a server's largest message can have, in bytes.
	maxReceived = 64 << 20
)

// errBehind ends a connection whose events had no room.
var errBehind = errors.New("the handler has caught up")

// errAgain ends a connection that does not give the state after a reset.
var errAgain = errors.New("the state comes with another connection")

// dialer makes one connection after the other.
type dialer struct {
	*Client

	tries int    // in a row that did not get to be live
	url   int    // of URLs
	fresh string // a token that was asked for already
}

// stayConnected connects until ctx ends or coming back is no use. Connections
// live in line.
func (c *Client) stayConnected(ctx, line context.Context) error {
	d := &dialer{Client: c}
	for {
		c.report(nil, Status{Phase: Connecting})
		k, err := d.connect(ctx)
		if err == nil {
			var live bool
			if live, err = k.serve(line); live {
				d.tries = 0
			}
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, errBehind) || errors.Is(err, errAgain) {
			continue
		}
		wait, err := d.judge(ctx, err, k != nil)
		if wait < 0 {
			return err
		}
		c.cfg.Logger.WarnContext(ctx, "the connection ended", "component", "client", "error", err, "retry_in", wait)
		c.report(nil, Status{Phase: Offline, Err: err, Retry: time.Now().Add(wait)})
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// judge says how long to wait before the next try: less than 0 if it would be no
// use. A connection that was welcome and ends for a message that was too large was
// not refused: the message was. Codes that are not the server's are a proxy's.
func (d *dialer) judge(ctx context.Context, err error, welcome bool) (time.Duration, error) {
	wait := pause(d.tries)
	d.tries++
	d.url = (d.url + 1) % len(d.cfg.URLs)
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return wait, plain(err)
	}
	wait = max(wait, e.RetryAfter)
	switch {
	case e.aboutToken():
		token, failed := d.cfg.Token(ctx)
		if failed != nil {
			return wait, errors.Join(e, fmt.Errorf("getting another token: %w", failed))
		}
		if token == d.shown("") {
			return -1, e
		}
		d.fresh = token
		return wait, e
	case e.Close == 0 && !e.passing(), e.Close == tooLarge && !welcome, e.Close >= 4100 && e.Close <= 4199:
		return -1, e
	default:
		return wait, e
	}
}

// shown is the token last shown, after noting one.
func (c *Client) shown(token string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.token = cmp.Or(token, c.token)
	return c.token
}

const tooLarge = 1009

// connect dials, says hello, and is welcomed.
func (d *dialer) connect(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, helloTimeout, fmt.Errorf("no welcome from the server within %s", helloTimeout))
	defer cancel()
	k, err := d.hello(ctx)
	if err != nil && context.Cause(ctx) != nil {
		return nil, context.Cause(ctx)
	}
	return k, err
}

func (d *dialer) hello(ctx context.Context) (_ *conn, err error) {
	base, err := parseURL(d.cfg.URLs[d.url])
	if err != nil {
		return nil, err
	}
	token := d.fresh
	if d.fresh = ""; token == "" {
		if token, err = d.cfg.Token(ctx); err != nil {
			return nil, fmt.Errorf("getting a token: %w", err)
		}
	}
	d.shown(token)
	if err := d.follow(ctx, token); err != nil {
		return nil, err
	}
	k := newConn(d.Client)
	ws, response, err := websocket.Dial(ctx, base.JoinPath("/v1/ws").String(), &websocket.DialOptions{ //nolint:bodyclose // it does
		HTTPClient: d.cfg.httpClient(), Subprotocols: []string{subprotocol}, CompressionMode: websocket.CompressionNoContextTakeover,
		OnPingReceived: func(context.Context, []byte) bool { k.heard(); return true },
	})
	if err != nil {
		if response != nil && response.StatusCode >= 300 {
			return nil, answerError(response)
		}
		return nil, err
	}
	ws.SetReadLimit(maxReceived)
	k.ws = ws
	defer func() {
		if err != nil {
			_ = ws.CloseNow()
		}
	}()
	if err := wsjson.Write(ctx, ws, d.greeting(token)); err != nil {
		return nil, err
	}
	if k.welcome, err = k.welcomed(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// follow asks for the catalogue, if every namespace of it is to be followed.
func (d *dialer) follow(ctx context.Context, token string) error {
	every := func(f followed) bool { return f.Namespace == "" }
	d.mu.Lock()
	list := d.following
	d.mu.Unlock()
	if !slices.ContainsFunc(list, every) {
		return nil
	}
	var catalogue struct {
		Namespaces []struct {
			Name string `json:"name"`
		} `json:"namespaces"`
	}
	ask := request{method: http.MethodGet, path: "/v1/catalog"}
	if err := d.cfg.try(ctx, d.cfg.URLs[d.url], token, ask, nil, &catalogue); err != nil {
		return err
	}
	var named []followed
	for _, f := range list {
		if !every(f) {
			named = append(named, f)
			continue
		}
		for _, n := range catalogue.Namespaces {
			f.Namespace = n.Name
			named = append(named, f)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.following = named
	return nil
}

// greeting is the hello.
func (d *dialer) greeting(token string) map[string]any {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := make([]Subscription, len(d.following))
	cursor := d.received
	if cursor == "" {
		cursor = d.cfg.From
	}
	for i, f := range d.following {
		list[i] = f.Subscription
		if !f.stale {
			list[i].Snapshot = ""
		}
	}
	hello := map[string]any{
		"type": "hello", "token": token, "subscribe": list,
		"client": map[string]string{"name": d.cfg.Name, "version": d.cfg.Version},
	}
	for name, value := range map[string]string{"companyId": d.cfg.CompanyID, "cursor": cursor, "consumer": d.cfg.Consumer} {
		if value != "" {
			hello[name] = value
		}
	}
	return hello
}
