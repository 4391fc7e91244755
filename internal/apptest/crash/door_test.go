package crash_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/problem"
)

// door is a way to publish. It tries some groups once, with one instance, and
// returns an answer for each.
type door interface {
	try(ctx context.Context, i *instance, groups []*group) []answer
}

// nothing is the answer for groups of which nothing was heard.
func nothing(groups []*group, err error) []answer {
	list := make([]answer, len(groups))
	for i := range list {
		list[i].err = err
	}
	return list
}

// result is an answer of the server's in any form.
type result struct {
	Status int               `json:"status"`
	Ref    int               `json:"ref"`
	Type   string            `json:"type"`
	OK     bool              `json:"ok"`
	Code   problem.Code      `json:"code"`
	Events []apptest.Receipt `json:"events"`
}

func post(ctx context.Context, i *instance, token, kind, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, i.url+"/v1/events", strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", kind)
	return client.Do(r)
}

// requests publishes one group at a time, each with a request of its own.
type requests struct{ token string }

func (d *requests) try(ctx context.Context, i *instance, groups []*group) []answer {
	var list []answer
	for _, g := range groups {
		list = append(list, d.one(ctx, i, g))
	}
	return list
}

func (d *requests) one(ctx context.Context, i *instance, g *group) answer {
	response, err := post(ctx, i, d.token, "application/json", g.body())
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = response.Body.Close() }()
	var r result
	if err := json.NewDecoder(response.Body).Decode(&r); err != nil {
		return answer{err: err}
	}
	if response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") == "" {
		return answer{err: fmt.Errorf("%w: a 503 without Retry-After", errWrong)}
	}
	return answer{receipts: r.Events, code: r.Code}
}

// lines publishes as NDJSON, each group a line.
type lines struct{ token string }

func (d *lines) try(ctx context.Context, i *instance, groups []*group) []answer {
	var body strings.Builder
	for _, g := range groups {
		body.WriteString(g.body() + "\n")
	}
	response, err := post(ctx, i, d.token, "application/x-ndjson", body.String())
	if err != nil {
		return nothing(groups, err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(response.Body)
		return nothing(groups, fmt.Errorf("%w: %s: %s", errWrong, response.Status, said))
	}
	list := nothing(groups, errors.New("the answer broke off"))
	scanner := bufio.NewScanner(response.Body)
	for n := 0; n < len(groups) && scanner.Scan(); n++ {
		var r result
		if err := json.Unmarshal(scanner.Bytes(), &r); err != nil {
			break // the last line, and not all of it
		}
		list[n] = answer{receipts: r.Events, code: r.Code}
	}
	return list
}

// socket publishes over a WebSocket, and does not wait for one answer before it
// sends the next group.
type socket struct {
	token string
	on    *instance
	conn  *websocket.Conn
	ref   int
}

func (d *socket) try(ctx context.Context, i *instance, groups []*group) []answer {
	list := nothing(groups, errors.New("the socket broke"))
	if err := d.talk(ctx, i, groups, list); err != nil {
		d.hangUp()
		for n := range list {
			if list[n].err != nil {
				list[n].err = err
			}
		}
	}
	return list
}

func (d *socket) talk(ctx context.Context, i *instance, groups []*group, list []answer) error {
	if d.conn == nil || d.on != i && len(groups) > 2 { // and now and then elsewhere
		d.hangUp()
		if err := d.dial(ctx, i); err != nil {
			return err
		}
	}
	first := d.ref
	for _, g := range groups {
		message, err := json.Marshal(map[string]any{"type": "publish", "ref": d.ref, "events": g.events})
		if err != nil {
			return err
		}
		if err := d.conn.Write(ctx, websocket.MessageText, message); err != nil {
			return err
		}
		d.ref++
	}
	for answered := 0; answered < len(groups); {
		r, err := d.read(ctx)
		if err != nil {
			return err
		}
		switch r.Type {
		case "reply":
			if r.Ref < first || r.Ref >= d.ref {
				return fmt.Errorf("%w: a reply to %d", errWrong, r.Ref)
			}
			list[r.Ref-first] = answer{receipts: r.Events, code: r.Code}
			answered++
		case "error":
			return fmt.Errorf("%w: %s", errWrong, r.Code)
		}
	}
	return nil
}

func (d *socket) read(ctx context.Context) (r result, err error) {
	_, data, err := d.conn.Read(ctx)
	if err == nil {
		apptest.Look("a message", data)
		err = json.Unmarshal(data, &r)
	}
	return r, err
}

func (d *socket) dial(ctx context.Context, i *instance) error {
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(i.url, "http")+"/v1/ws", &websocket.DialOptions{
		HTTPClient: client, Subprotocols: []string{"tailroom.v1"},
	})
	if err != nil {
		return err
	}
	d.conn, d.on = conn, i
	hello, err := json.Marshal(map[string]any{
		"type": "hello", "token": d.token, "subscribe": []any{map[string]any{"namespace": "/availability"}},
	})
	if err != nil {
		return err
	}
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return err
	}
	r, err := d.read(ctx)
	if err == nil && r.Type != "welcome" {
		err = fmt.Errorf("no welcome, but %s", r.Code)
	}
	return err
}

func (d *socket) hangUp() {
	if d.conn != nil {
		_ = d.conn.CloseNow()
		d.conn = nil
	}
}
