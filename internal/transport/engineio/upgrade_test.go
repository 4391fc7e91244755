package engineio

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"
)

func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	waiting := c.polls(t)
	k := c.probes(t)
	// The noop that ends the GET can be there before the answer to the probe, and the client
	// then polls again, and again.
	says(t, answered(t, waiting), "6")
	for range 3 {
		says(t, c.get(t), "6")
	}
	// Until it is upgraded, all goes by polling.
	says(t, c.post(t, "4polled"), "ok")
	says(t, c.get(t), "4polled")
	require.NoError(t, c.conn.Send([]byte("a"), []byte("b")))
	require.Equal(t, "polling", c.conn.Transport())
	k.send(t, "5")
	require.Equal(t, "4a", k.next(t))
	require.Equal(t, "4b", k.next(t))
	c.isUpgraded(t)
	require.Equal(t, "websocket", c.conn.Transport())
	// What was polled over is not any more, and hurts nothing.
	for _, got := range []response{c.get(t), c.post(t, "4x")} {
		require.Equal(t, 400, got.status)
		require.Equal(t, `{"code":3,"message":"Bad request"}`, got.body)
	}
	k.send(t, "4hello")
	require.Equal(t, "4hello", k.next(t))
	c.hears(t, "message polled", "upgraded", "message hello")
	require.Equal(t, 1, s.metric(t, "upgrades_total", "done"))
	require.Equal(t, 1, s.metric(t, "connections", "websocket"))
	require.Equal(t, 0, s.metric(t, "connections", "polling"))
	require.NoError(t, k.Close(websocket.StatusNormalClosure, ""))
	c.hears(t, "closed transport close")
	require.Equal(t, 0, s.metric(t, "connections", "websocket"))
}

// However often a client probes, the GETs that wait end at their pace.
func TestUpgrade_ManyProbes(t *testing.T) {
	t.Parallel()
	c := serve(t).poller(t)
	k := c.probes(t)
	for range 300 {
		k.send(t, "2probe")
		require.Equal(t, "3probe", k.next(t))
	}
	says(t, c.get(t), "6")
	begin := time.Now()
	for range 5 {
		says(t, c.get(t), "6")
	}
	require.Greater(t, time.Since(begin), 3*noopPeriod)
}

// A GET that waits while the client upgrades gets nothing of what is sent then.
func TestUpgrade_GetThatWaits(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for range 30 {
		c := s.poller(t)
		k := c.probes(t)
		waiting := make(chan response, 1)
		go func() { waiting <- c.get(t) }()
		k.send(t, "5")
		k.send(t, "4hello")
		require.Equal(t, "4hello", k.next(t))
		if got := answered(t, waiting); got.status != 400 {
			says(t, got, "6") // it came before
		}
	}
}

// A second WebSocket for a connection is accepted, because its client may have nobody who
// hears of an error, and closed.
func TestUpgrade_Twice(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	k := c.probes(t)
	url := s.url + "&transport=websocket&sid=" + c.sid
	second := dial(t, url)
	second.send(t, "2probe")
	require.EqualValues(t, websocket.StatusNormalClosure, websocket.CloseStatus(second.closes(t)))
	k.send(t, "5")
	c.isUpgraded(t)
	third := dial(t, url)
	third.send(t, "2probe")
	require.EqualValues(t, websocket.StatusNormalClosure, websocket.CloseStatus(third.closes(t)))
	k.send(t, "4hello")
	require.Equal(t, "4hello", k.next(t))
	c.hears(t, "upgraded", "message hello")
}

// An upgrade that fails leaves the connection as it was, and another may be tried.
func TestUpgrade_Fails(t *testing.T) {
	t.Parallel()
	s := serve(t)
	c := s.poller(t)
	failures := map[string]func(k clientSocket){
		"a message":     func(k clientSocket) { k.send(t, "4x") },
		"another probe": func(k clientSocket) { k.send(t, "2x") },
		"a close":       func(k clientSocket) { k.send(t, "1") },
		"nonsense":      func(k clientSocket) { k.send(t, "?") },
		"binary":        func(k clientSocket) { _ = k.Write(t.Context(), websocket.MessageBinary, []byte("5")) },
		"leaving":       func(k clientSocket) { _ = k.Close(websocket.StatusNormalClosure, "") },
		"silence":       func(clientSocket) {}, // for ten seconds
	}
	for name, fail := range failures {
		k := c.probes(t)
		fail(k)
		require.Error(t, k.closes(t), name)
		require.Eventually(t, func() bool {
			c.conn.mu.Lock()
			defer c.conn.mu.Unlock()
			return !c.conn.upgrading
		}, patience, time.Millisecond)
		says(t, c.post(t, "4"+name), "ok")
		says(t, c.get(t), "4"+name)
		// Nobody ends a GET any more.
		waiting := c.polls(t)
		<-time.After(2 * noopPeriod)
		require.NoError(t, c.conn.Send([]byte("x")))
		says(t, answered(t, waiting), "4x")
		c.hears(t, "message "+name)
	}
	require.Equal(t, 400, ask(t, http.MethodGet, s.url+"&transport=websocket&sid="+c.sid, "", "Connection", "x", "Upgrade", "websocket").status)
	k := c.probes(t)
	k.send(t, "5")
	c.isUpgraded(t)
	require.Equal(t, len(failures)+1, s.metric(t, "upgrades_total", "failed"))
}

// What is sent at the moment of the switch does not overtake what waited for it.
func TestUpgrade_Switch(t *testing.T) {
	t.Parallel()
	s := serve(t)
	const senders, messages = 4, 200
	for range 50 {
		c := s.poller(t)
		k := c.probes(t)
		var sending sync.WaitGroup
		for sender := range senders {
			sending.Go(func() {
				for m := range messages {
					_ = c.conn.Send([]byte(fmt.Sprintf("%d:%d", sender, m)))
				}
			})
		}
		k.send(t, "5")
		var next [senders]int
		for range senders * messages {
			var sender, m int
			_, err := fmt.Sscanf(k.next(t), "4%d:%d", &sender, &m)
			require.NoError(t, err)
			require.Equal(t, next[sender], m)
			next[sender]++
		}
		sending.Wait()
	}
}

// However a client polls and upgrades while it is sent something by several, each message
// comes once, and each sender's in order.
func TestUpgrade_UnderLoad(t *testing.T) {
	t.Parallel()
	s := serve(t)
	pad := strings.Repeat("x", 500)
	var all sync.WaitGroup
	for range 4 {
		c := s.poller(t)
		for sender := range loadSenders {
			all.Go(func() {
				for m, more := 0, 50; more > 0; m++ { // and some more when it is upgraded
					end := ""
					if c.conn.Transport() == "websocket" {
						if more--; more == 0 {
							end = "end"
						}
					}
					if err := c.conn.Send([]byte(fmt.Sprintf("%d:%d:%s:%s", sender, m, end, pad))); err != nil {
						t.Errorf("sender %d: %v", sender, err)
						return
					}
				}
			})
		}
		all.Go(func() { c.upgradesUnderLoad(t) })
	}
	all.Wait()
}

const loadSenders = 4

func (c *client) upgradesUnderLoad(t *testing.T) {
	t.Helper()
	var next [loadSenders]int
	ended := 0
	take := func(text string) {
		var sender, m int
		if _, err := fmt.Sscanf(text, "4%d:%d:", &sender, &m); err != nil || next[sender] != m {
			t.Errorf("message %d of sender %d is %.20s", next[sender], sender, text)
		}
		next[sender]++
		if strings.Contains(text, ":end:") {
			ended++
		}
	}
	takeAll := func(r response) {
		for text := range strings.SplitSeq(r.body, "\x1e") {
			if r.status == 200 && text != "6" {
				take(text)
			}
		}
	}
	takeAll(c.get(t))
	k := dial(t, c.server.url+"&transport=websocket&sid="+c.sid)
	k.send(t, "2probe")
	probed := make(chan string, 1)
	go func() { probed <- k.next(t) }()
	for answer := ""; answer == ""; {
		takeAll(c.get(t))
		select {
		case answer = <-probed:
		default:
		}
	}
	// One more GET than a client should have: what it takes, it takes from before.
	late := make(chan response, 1)
	go func() { late <- c.get(t) }()
	k.send(t, "5")
	takeAll(<-late)
	for ended < loadSenders && !t.Failed() {
		take(k.next(t)) // and no noop
	}
}
