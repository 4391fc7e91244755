package crash_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/apptest/sioclient"
	"github.com/tailroom/tailroom/internal/event"
)

// page is what a follower has who speaks Socket.IO. Of an event he gets the type and the
// data alone, and he comes back as the library does: with the pid of the last CONNECT and
// the last offset.
type page struct {
	transport string
	anew      bool // he is a desktop app, and now and then started anew: he brings neither
	trailing  bool // each event of his namespace has its offset

	pid, offset string
	known       bool             // the server has known him
	low         int64            // the position of the offset
	at          int              // how many of all came before it; unknown at first, after a new start
	all         []check.Delivery // each event that came, once
	places      map[string]int   // of each in all

	in   bool // this connection has joined
	next int  // the place of the next that is to come; may be unknown
}

// unknown is a place that the next event shows.
const unknown = -1

// overSocketIO follows over Socket.IO until that ends, or he has had enough. By polling he
// asks any of the instances.
func (f *follower) overSocketIO(ctx context.Context, i *instance) error {
	err := f.asPage(ctx, i)
	refused, isRefused := errors.AsType[*sioclient.RefusedError](err)
	code := int(websocket.CloseStatus(err))
	switch {
	case errors.Is(err, sioclient.ErrPacket),
		isRefused && refused.Status != http.StatusServiceUnavailable && refused.Field("message") != "Session ID unknown",
		code >= 0 && !comeBack(code) && code != replaced:
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	return err
}

// replaced closes a connection whose pid another one has brought: one that was given up, and
// got through to an instance late.
const replaced = 4104

func (f *follower) asPage(ctx context.Context, i *instance) error {
	ask := func() *apptest.Instance {
		to := i
		i = pick(f.random, f.instances)
		return &apptest.Instance{URL: to.url, Client: f.http}
	}
	conn, err := sioclient.Open(ctx, ask, f.page.transport)
	if err != nil {
		return err
	}
	defer conn.Close()
	connect, err := json.Marshal(f.auth())
	if err != nil {
		return err
	}
	if err := conn.Tell(ctx, "40"+f.namespace+","+string(connect)); err != nil {
		return err
	}
	for left := 1 + f.stay(); left > 0 && !f.done(); {
		packet, err := conn.Receive(ctx)
		if err != nil {
			return err
		}
		if err := f.packet(packet); err != nil {
			return err
		}
		if f.live { // or else a desktop app with much to get again would never hear a ping
			left--
		}
	}
	return nil
}

// auth is what he brings.
func (f *follower) auth() map[string]any {
	p := f.page
	auth := map[string]any{"token": f.token}
	if f.rooms != nil {
		auth["rooms"] = f.rooms
	}
	if !p.known {
		auth["cursor"] = f.cursor
	} else if p.anew && f.random.IntN(3) == 0 {
		p.forget()
	}
	p.in, p.next = false, p.at
	if p.pid != "" {
		auth["pid"] = p.pid
	}
	if p.offset != "" {
		auth["offset"] = p.offset
	}
	return auth
}

// forget is what becomes of a program that is started anew.
func (p *page) forget() { p.pid, p.offset, p.low, p.at = "", "", 0, unknown }

func (f *follower) packet(packet sioclient.Packet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.page
	switch {
	case packet.Namespace != f.namespace:
	case packet.Kind == sioclient.Connect && !p.in:
		var welcome sioclient.Welcome
		if err := json.Unmarshal(packet.Data, &welcome); err != nil {
			return err
		}
		if p.pid != "" && welcome.PID != p.pid {
			return fmt.Errorf("%w: he brought %s, and is not recovered: %s", errWrong, p.pid, packet.Raw)
		}
		p.pid, p.known, p.in = welcome.PID, true, true
		return nil
	case packet.Kind == sioclient.Event && p.in:
		return f.news(packet)
	case packet.Kind == sioclient.Disconnect && p.in && p.anew:
		return errors.New("a newer one has replaced him") // which was given up, and came late
	}
	return fmt.Errorf("%w: %s", errWrong, packet.Raw)
}

// news is an event with its arguments. The library keeps the last, if it is a text, when the
// event is handled.
func (f *follower) news(packet sioclient.Packet) error {
	var list []json.RawMessage
	var name, offset string
	if err := json.Unmarshal(packet.Data, &list); err != nil || len(list) < 2 || json.Unmarshal(list[0], &name) != nil {
		return fmt.Errorf("%w: %s", errWrong, packet.Raw)
	}
	hasOffset := json.Unmarshal(list[len(list)-1], &offset) == nil
	switch {
	case name == "$degraded", name == "$goaway":
	case name == "$o", name == "$live":
		f.live = f.live || name == "$live"
	case !strings.HasPrefix(name, "$") && name != "exception" && hasOffset == f.page.trailing:
		if err := f.page.deliver(bare(name, list[1]), len(f.sent)); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%w: %s", errWrong, packet.Raw)
	}
	if !hasOffset {
		return nil
	}
	f.page.offset = offset
	return f.kept(strings.TrimPrefix(offset, "p"))
}

// bare is an event of which its type and data are known: unique, for the data name it.
func bare(kind string, data []byte) []byte { return append([]byte(kind+" "), data...) }

// deliver takes an event that comes for the first time, or again in its place. After a new
// start that place may be anywhere among those that had an offset.
func (p *page) deliver(e []byte, kept int) error {
	place, again := p.places[string(e)]
	if !again {
		place = len(p.all)
	}
	if p.next == unknown && place <= kept {
		p.next = place
	}
	if place != p.next {
		return fmt.Errorf("%w: skipped, now or before: number %d came where number %d was due: %s", errWrong, place, p.next, e)
	}
	if p.next++; !again {
		p.places[string(e)] = place
		p.all = append(p.all, check.Delivery{JSON: e})
	}
	return nil
}

// kept is told that everything up to a cursor has come. What came behind the last one may
// come again.
func (f *follower) kept(cursor string) error {
	p := f.page
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return fmt.Errorf("%w: %w", errWrong, err)
	}
	if c.Position < p.low {
		return fmt.Errorf("%w: the offset goes back from %d to %s", errWrong, p.low, cursor)
	}
	p.low = c.Position
	if p.next == unknown && c.Position >= f.to {
		p.next = len(f.sent)
	}
	p.at = p.next
	if c.Position < f.to && p.next <= len(f.sent) {
		return nil // he was started anew, and has come so far before
	}
	if p.next < len(f.sent) {
		return fmt.Errorf("%w: skipped: %d events came up to %s, and %d the last time", errWrong, p.next, cursor, len(f.sent))
	}
	f.sent = p.all[:p.next]
	f.ended = f.ended || len(f.sent) > 0 && strings.Contains(string(f.sent[len(f.sent)-1].JSON), `"the-last"`)
	return f.move(cursor)
}

// located are deliveries that came bare, with the positions of their events.
func (r *reading) located(log []*event.Entry) ([]check.Delivery, error) {
	positions := map[string]int64{}
	for _, e := range log {
		if r.matches(e) {
			positions[string(bare(e.Type, e.Data))] = e.Cursor.Position
		}
	}
	var list []check.Delivery
	for _, d := range r.sent {
		position, known := positions[string(d.JSON)]
		if !known {
			return nil, fmt.Errorf("%s was delivered, which does not match or is not in the log", d.JSON)
		}
		list = append(list, check.Delivery{Position: position})
	}
	return list, nil
}
