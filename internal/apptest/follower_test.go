package apptest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// What runs beside a test returns errors: only the test's own goroutine may
// fail it.

// errWrong is wrapped by what a server must never say.
var errWrong = errors.New("against the protocol")

// follower is a reader that remembers everything, over as many connections and
// instances as it takes. Its connections are WebSockets or event streams.
type follower struct {
	token     string
	namespace string
	rooms     []string // nil: all that are granted
	cursor    string   // where to go on; at first "now", "earliest" or a cursor
	matches   func(*event.Entry) bool

	record
	begun bool
	ends  int // markers seen

	// forgiving is a follower of a log that loses its end: when he is told, he
	// gives up what did not survive and goes on where he is told to.
	forgiving bool
	owed      bool // he was welcomed elsewhere than he asked for, and not told why yet

	mu   sync.Mutex
	told []string // types of the messages beside events and bookmarks
	// resumes are where he was told to go on, and reached is where he is.
	resumes []string
	reached event.Cursor
	heard   chan struct{}
}

// last is the marker that ends a test, as its data says.
const last = `"orderId":"the-last"`

// tell remembers what was said.
func (f *follower) tell(kind string) {
	f.mu.Lock()
	f.told = append(f.told, kind)
	f.mu.Unlock()
	if f.heard != nil {
		select {
		case f.heard <- struct{}{}:
		default:
		}
	}
}

// says are the types of messages so far.
func (f *follower) says() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

// begin is told where a connection starts.
func (f *follower) begin(cursor string) error {
	c, err := event.ParseCursor(cursor)
	if err != nil {
		return err
	}
	switch {
	case !f.begun:
		f.begun, f.from = true, c.Position
	case cursor != f.cursor && f.forgiving:
		f.owed = true
		return nil
	case cursor != f.cursor:
		return fmt.Errorf("%w: asked for %s, welcomed at %s", errWrong, f.cursor, cursor)
	}
	return f.move(cursor)
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
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reached = c
	return nil
}

// reset is told that the log has lost its end.
func (f *follower) reset(reason, resume string) error {
	c, err := event.ParseCursor(resume)
	if err != nil {
		return err
	}
	if !f.forgiving || reason != event.Diverged || c.Position > f.to {
		return fmt.Errorf("%w: %s at %s, go on from %s", errWrong, reason, f.cursor, resume)
	}
	f.owed = false
	f.deliveries = slices.DeleteFunc(f.deliveries, func(d check.Delivery) bool { return d.Position > c.Position })
	f.from, f.to, f.cursor = min(f.from, c.Position), c.Position, resume
	f.mu.Lock()
	f.resumes, f.reached = append(f.resumes, resume), c
	f.mu.Unlock()
	f.tell("reset")
	return nil
}

// has reports whether he has come to a place, in its epoch.
func (f *follower) has(c event.Cursor) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reached.Epoch >= c.Epoch && f.reached.Position >= c.Position
}

// String is for the message of a test that fails.
func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("at %s, told %v, to go on from %v", f.reached, f.told, f.resumes)
}

// toldResumes are the places where he was told to go on, so far.
func (f *follower) toldResumes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.resumes)
}

func (f *follower) deliver(raw []byte) error {
	p, err := position(raw)
	if err != nil {
		return err
	}
	f.deliveries = append(f.deliveries, check.Delivery{Position: p, JSON: raw})
	if strings.Contains(string(raw), last) {
		f.ends++
	}
	return nil
}

// socket follows over a WebSocket until enough says so after a message. It
// returns nil also when the server ended the connection.
func (f *follower) socket(ctx context.Context, i *apptest.Instance, enough func() bool) error {
	address := "ws" + strings.TrimPrefix(i.URL, "http") + "/v1/ws"
	conn, _, err := websocket.Dial(ctx, address, &websocket.DialOptions{
		HTTPClient: apptest.Client, Subprotocols: []string{"tailroom.v1"}, CompressionMode: websocket.CompressionNoContextTakeover,
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
	for {
		_, data, err := conn.Read(ctx)
		if websocket.CloseStatus(err) >= 0 {
			f.tell("closed")
			return nil
		}
		if err != nil {
			return err
		}
		apptest.Look("a message", data)
		if err := f.message(data); err != nil {
			return err
		}
		if enough() {
			return nil
		}
	}
}

func (f *follower) message(data []byte) error {
	var m apptest.Message
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	if f.owed && m.Type != "reset" {
		return fmt.Errorf("%w: welcomed elsewhere than at %s, and not told why: %s", errWrong, f.cursor, data)
	}
	switch m.Type {
	case "reset":
		return f.reset(m.Reason, m.Resume)
	case "welcome":
		f.tell(m.Type)
		return f.begin(m.Cursor)
	case "events":
		for _, raw := range m.Events {
			if err := f.deliver(raw); err != nil {
				return err
			}
		}
		return f.move(m.Cursor)
	case "cursor":
		return f.move(m.Cursor)
	case "live":
		f.tell(m.Type)
		return f.move(m.Cursor)
	case "degraded", "goaway":
		f.tell(m.Type)
		return nil
	default:
		return fmt.Errorf("%w: %s", errWrong, data)
	}
}

// stream follows over server-sent events, which begin with no welcome: the
// follower's cursor must be a cursor, or "earliest".
func (f *follower) stream(ctx context.Context, i *apptest.Instance, enough func() bool) error {
	query := url.Values{"namespace": {f.namespace}, "room": f.rooms}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, i.URL+"/v1/stream?"+query.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+f.token)
	r.Header.Set("Last-Event-ID", f.cursor)
	response, err := apptest.Client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: %s", errWrong, response.Status)
	}
	f.begun = true // from stays where the test has put it
	var id, kind string
	for lines := bufio.NewReader(response.Body); ; {
		line, err := lines.ReadString('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			f.tell("closed")
			return nil
		}
		if err != nil {
			return err
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n":
			if id != "" {
				if err := f.move(id); err != nil {
					return err
				}
			}
			id, kind = "", ""
			if enough() {
				return nil
			}
		case field == "id":
			id = value
		case field == "event":
			if kind = value; strings.HasPrefix(kind, "tailroom.") && kind != "tailroom.reset" {
				f.tell(strings.TrimPrefix(kind, "tailroom."))
			}
		case field == "data" && kind == "tailroom.reset":
			var m apptest.Message
			if err := json.Unmarshal([]byte(value), &m); err != nil {
				return err
			}
			if err := f.reset(m.Reason, m.Resume); err != nil {
				return err
			}
		case field == "data" && !strings.HasPrefix(kind, "tailroom."):
			if err := f.deliver([]byte(value)); err != nil {
				return err
			}
		}
	}
}

// wait lets a moment pass, or ends with ctx.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// publisher publishes and remembers what it was promised. It may be used by
// several at once.
type publisher struct {
	token string

	mu sync.Mutex
	promises
	retried int // answers 503
}

// post publishes a body once.
func (p *publisher) post(ctx context.Context, i *apptest.Instance, body string) (int, []apptest.Receipt, error) {
	answer, err := i.Request(ctx, http.MethodPost, "/v1/events", p.token, body, "Content-Type", "application/json")
	if err != nil {
		return 0, nil, err
	}
	var published struct {
		Events []apptest.Receipt `json:"events"`
	}
	switch answer.Status {
	case http.StatusCreated, http.StatusOK:
		err = json.Unmarshal(answer.Body, &published)
	case http.StatusServiceUnavailable, http.StatusConflict:
		if answer.Status == http.StatusServiceUnavailable && answer.Header.Get("Retry-After") == "" {
			err = fmt.Errorf("%w: a 503 without Retry-After: %s", errWrong, answer.Body)
		}
	default:
		err = fmt.Errorf("%w: %s: %s", errWrong, http.StatusText(answer.Status), answer.Body)
	}
	return answer.Status, published.Events, err
}

// publish publishes a body whose events have these ids, with one instance
// after the other, until it is accepted or conflicts with another publish.
func (p *publisher) publish(ctx context.Context, instances []*apptest.Instance, body string, ids []string) (accepted bool, err error) {
	for n := 0; ; n++ {
		status, receipts, err := p.post(ctx, instances[n%len(instances)], body)
		if err != nil {
			return false, err
		}
		if status == http.StatusServiceUnavailable {
			p.mu.Lock()
			p.retried++
			p.mu.Unlock()
			wait(ctx, 20*time.Millisecond)
			continue
		}
		return status != http.StatusConflict, p.remember(status, receipts, ids)
	}
}

func (p *publisher) remember(status int, receipts []apptest.Receipt, ids []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if status == http.StatusConflict {
		p.refused = append(p.refused, ids...)
		return nil
	}
	if len(receipts) != len(ids) {
		return fmt.Errorf("%w: %d receipts for %d events", errWrong, len(receipts), len(ids))
	}
	if p.accepted == nil {
		p.accepted = map[string][]apptest.Receipt{}
	}
	for n, r := range receipts {
		if r.ID != ids[n] {
			return fmt.Errorf("%w: a receipt of %s for %s", errWrong, r.ID, ids[n])
		}
		p.accepted[r.ID] = append(p.accepted[r.ID], r)
	}
	return nil
}
