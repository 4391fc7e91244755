package crash_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/check"
	"github.com/tailroom/tailroom/internal/event"
)

const (
	// impatience is after how much silence a follower goes elsewhere: more than
	// two heartbeats.
	impatience = 3 * time.Second
	// marker is in the data of the last event for every follower.
	marker = `"orderId":"the-last"`
)

// follower reads, and remembers all of it, over as many connections and instances
// as it takes.
type follower struct {
	name      string
	token     string
	namespace string
	rooms     []string // nil: all that are granted
	matches   func(*event.Entry) bool
	stream    bool          // over event streams; else over WebSockets
	page      *page         // over Socket.IO, if there is one
	patient   bool          // he stays until the connection breaks by itself
	away      time.Duration // for how long he stays away at most
	random    *rand.Rand
	http      *http.Client
	instances []*instance
	live      bool // he was told so, on this connection

	mu       sync.Mutex
	cursor   string // where to go on; at first "now" or a cursor
	from, to int64
	begun    bool
	sent     []check.Delivery
	ended    bool
	said     []string // of late
}

// run reads until the marker has come.
func (f *follower) run(ctx context.Context, instances []*instance) error {
	f.http, f.instances = newClient(impatience), instances
	if f.patient {
		f.http = newClient(patience)
	}
	for ctx.Err() == nil && !f.done() {
		i := pick(f.random, instances)
		follow := f.overSocket
		switch {
		case f.page != nil:
			follow = f.overSocketIO
		case f.stream:
			follow = f.overStream
		}
		err := follow(ctx, i)
		f.note(fmt.Sprintf("%s: %v", i.url, err))
		if errors.Is(err, errWrong) {
			return fmt.Errorf("%s: %w", f, err)
		}
		wait(ctx, between(f.random, 0, f.away))
	}
	return ctx.Err()
}

// stay is how many messages he stays for, at least, after he is told that he has
// caught up.
func (f *follower) stay() int {
	f.live = false
	if f.patient {
		return 1 << 30
	}
	return f.random.IntN(100)
}

func (f *follower) done() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

func (f *follower) note(said string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.said = append(f.said[max(0, len(f.said)-9):], time.Now().Format("05.000 ")+said)
}

// String is for the message of a test that fails.
func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("%s, at %s, with %d events; of late:\n\t%s\n", f.name, f.cursor, len(f.sent), strings.Join(f.said, "\n\t"))
}

// has is an error unless he has come to a position.
func (f *follower) has(position int64) error {
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	if to < position {
		return fmt.Errorf("he is at %d, not at %d: %s", to, position, f)
	}
	return nil
}

// reading is what he has been sent so far.
func (f *follower) reading() reading {
	f.mu.Lock()
	defer f.mu.Unlock()
	return reading{name: f.name, matches: f.matches, from: f.from, to: f.to, sent: slices.Clone(f.sent), bare: f.page != nil}
}

// overSocket follows over a WebSocket until that ends, or he has had enough.
func (f *follower) overSocket(ctx context.Context, i *instance) error {
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(i.url, "http")+"/v1/ws", &websocket.DialOptions{
		HTTPClient: f.http, Subprotocols: []string{"tailroom.v1"}, CompressionMode: websocket.CompressionNoContextTakeover,
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	conn.SetReadLimit(-1)
	subscription := map[string]any{"namespace": f.namespace}
	if f.rooms != nil {
		subscription["rooms"] = f.rooms
	}
	hello, err := json.Marshal(map[string]any{
		"type": "hello", "token": f.token, "cursor": f.cursor, "subscribe": []any{subscription},
	})
	if err != nil {
		return err
	}
	if err := conn.Write(ctx, websocket.MessageText, hello); err != nil {
		return err
	}
	for left := f.stay(); (left > 0 || !f.live) && !f.done(); left-- {
		_, data, err := conn.Read(ctx)
		if code := int(websocket.CloseStatus(err)); code >= 0 && !comeBack(code) {
			return fmt.Errorf("%w: closed: %w", errWrong, err)
		}
		if err != nil {
			return err
		}
		apptest.Look("a message", data)
		if err := f.message(data); err != nil {
			return err
		}
	}
	return nil
}

// comeBack reports whether a connection may be closed so. "Internal" is as good
// as a reason, but nothing of ours is meant to end with it.
func comeBack(code int) bool {
	return code == 1001 || code == 1012 || code == 1013 || code >= 4000 && code <= 4099
}

func (f *follower) message(data []byte) error {
	var m apptest.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch m.Type {
	case "welcome":
		return f.begin(m.Cursor)
	case "events":
		for _, raw := range m.Events {
			if err := f.deliver(raw); err != nil {
				return err
			}
		}
		return f.move(m.Cursor)
	case "cursor", "live":
		f.live = f.live || m.Type == "live"
		return f.move(m.Cursor)
	case "degraded", "goaway":
		return nil
	case "error":
		if m.Code == "unavailable" || m.Code == "overloaded" || m.Code == "draining" {
			return errors.New(m.Code)
		}
	}
	return fmt.Errorf("%w: %s", errWrong, data)
}

// begin is told where a connection starts. The caller holds f.mu, as of those
// that follow.
func (f *follower) begin(cursor string) error {
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return err
	}
	if !f.begun {
		f.begun, f.from, f.to, f.cursor = true, c.Position, c.Position, cursor
		return nil
	}
	if cursor != f.cursor {
		return fmt.Errorf("%w: asked for %s, welcomed at %s", errWrong, f.cursor, cursor)
	}
	return nil
}

// move is told how far everything has been delivered.
func (f *follower) move(cursor string) error {
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return err
	}
	if c.Position < f.to {
		return fmt.Errorf("%w: the cursor goes back from %d to %s", errWrong, f.to, cursor)
	}
	f.to, f.cursor = c.Position, cursor
	return nil
}

func (f *follower) deliver(raw []byte) error {
	var e apptest.Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return err
	}
	f.sent = append(f.sent, check.Delivery{Position: e.Position, JSON: raw})
	f.ended = f.ended || strings.Contains(string(raw), marker)
	return nil
}

// overStream follows over server-sent events, which begin with no welcome.
func (f *follower) overStream(ctx context.Context, i *instance) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"namespace": {f.namespace}, "room": f.rooms}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url+"/v1/stream?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	r.Header.Set("Last-Event-ID", f.cursor)
	response, err := f.http.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return errors.New(response.Status)
	default:
		said, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%w: %s: %s", errWrong, response.Status, said)
	}
	f.begun = true // where the test has put him
	in := bufio.NewReader(response.Body)
	for left := f.stay(); (left > 0 || !f.live) && !f.done(); left-- {
		b, err := readBlock(in)
		if err != nil {
			return err
		}
		if err := f.block(b); err != nil {
			return err
		}
	}
	return nil
}

// block is one block of an event stream, which counts when it is whole.
type block struct{ id, event, data string }

func readBlock(in *bufio.Reader) (b block, err error) {
	for {
		line, err := in.ReadString('\n')
		if err != nil || line == "\n" {
			return b, err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "id":
			b.id = value
		case "event":
			b.event = value
		case "data":
			b.data = value
		}
	}
}

func (f *follower) block(b block) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case b.event == "tailroom.reset":
		return fmt.Errorf("%w: %s", errWrong, b.data)
	case b.event == "tailroom.live":
		f.live = true
	case b.data != "" && !strings.HasPrefix(b.event, "tailroom."):
		if err := f.deliver([]byte(b.data)); err != nil {
			return err
		}
	}
	if b.id == "" {
		return nil
	}
	return f.move(b.id)
}
