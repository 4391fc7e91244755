package ws_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/pgtest"
	"github.com/tailroom/tailroom/internal/transport/transporttest"
)

const deflate = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

// Events over 10 KB travel compressed, one in a message, to who can take it;
// all others do not, and all arrive in order and equal.
func TestCompression(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	data := []string{
		`{"a":1}`, `{"b":2}`, `{"large":"` + strings.Repeat("compressible ", 1000) + `"}`, `{"c":3}`,
		`{"huge":"` + strings.Repeat("é😀\\u0001 ", 10_000) + `"}`, `{"huge too":"` + strings.Repeat("0123456789", 2_000) + `"}`,
	}
	events := make([]string, len(data))
	for n := range data {
		events[n] = `{"namespace":"/availability","type":"bulkAvailabilityUpdate","rooms":["branch:b1"],"data":` + data[n] + `}`
	}
	i.Publish(t, service, "["+strings.Join(events, ",")+"]")
	logged := i.Lines(t, "/v1/events", token)
	i.Reach(t, int64(len(logged)))

	for _, extension := range []string{deflate, "permessage-deflate", ""} {
		r := dialRaw(t, i, "Sec-WebSocket-Extensions", extension)
		r.text(t, `{"type":"hello","token":"`+token+`","cursor":"earliest","subscribe":[{"namespace":"/availability"}]}`)
		require.Equal(t, "welcome", r.message(t).Type)
		var got []string
		for len(got) < len(logged) {
			f := r.frame(t)
			m := f.message(t)
			require.Equal(t, "events", m.Type)
			for _, raw := range m.Events {
				got = append(got, string(raw))
				require.Equal(t, extension != "" && len(raw) > 10<<10, f.compressed, "an event of %d bytes", len(raw))
			}
			if f.compressed {
				require.Len(t, m.Events, 1)
				require.Less(t, len(f.payload), len(m.Raw)/4)
			}
			require.Contains(t, got[len(got)-1], `{"cursor":"`+m.Cursor+`"`)
		}
		require.Equal(t, logged, got)
	}
}

func TestPings_OfTheClient(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	r := helloRaw(t, i, apptest.Token(t, access.Web, "c1"), "/orders")
	require.Equal(t, "live", r.message(t).Type)
	for _, payload := range []string{"", "a", "\x00\xff", strings.Repeat("p", 125)} {
		r.send(t, fin|opPing, []byte(payload))
		f := r.frame(t)
		require.EqualValues(t, opPong, f.opcode)
		require.Equal(t, payload, string(f.payload))
	}
	// Between the parts of a message, too.
	r.send(t, opText, []byte(`{"type":"pi`))
	r.send(t, opContinuation, nil)
	r.send(t, fin|opPing, []byte("between"))
	require.Equal(t, "between", string(r.frame(t).payload))
	r.send(t, fin|opContinuation, []byte(`ng","ref":"r"}`))
	require.Equal(t, `"r"`, string(r.message(t).Ref))
	// The client's close is answered by the same.
	r.send(t, fin|opClose, []byte("\x03\xe8bye"))
	f := r.frame(t)
	require.EqualValues(t, opClose, f.opcode)
	require.Equal(t, "\x03\xe8", string(f.payload[:2]))
	_, err := r.read(t)
	require.Error(t, err)
}

// beat reads up to the server's next ping.
func (r *rawConn) beat(t testing.TB) {
	t.Helper()
	for {
		f := r.frame(t)
		require.NotEqualValues(t, opClose, f.opcode, "%q", f.payload)
		if f.opcode == opPing {
			return
		}
	}
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	const every = 1500 * time.Millisecond
	i := apptest.Cluster(t, 1, "TAILROOM_HEARTBEAT="+every.String())[0]
	token := apptest.Token(t, access.Web, "c1")
	silent := helloRaw(t, i, token, "/orders")
	// Whatever comes shows that the client is there, and so does a part of a
	// message: a slow upload holds the pongs up.
	upload := maskedFrame(fin|opText, []byte(`{"type":"ping","ref":"much longer than a heartbeat"}`))
	answers := map[*rawConn]func(r *rawConn, beat int){
		helloRaw(t, i, token, "/orders"): func(r *rawConn, _ int) { r.send(t, fin|opPong, nil) },
		helloRaw(t, i, token, "/orders"): func(r *rawConn, _ int) { r.send(t, fin|opPing, []byte("x")) },
		helloRaw(t, i, token, "/orders"): func(r *rawConn, _ int) { r.text(t, `{"type":"ping"}`) },
		helloRaw(t, i, token, "/orders"): func(r *rawConn, _ int) { r.text(t, `?`) },
		helloRaw(t, i, token, "/orders"): func(r *rawConn, beat int) { r.write(t, upload[beat*10:(beat+1)*10]) },
	}
	var clients sync.WaitGroup
	for r, answer := range answers {
		clients.Go(func() {
			for beat := range 4 {
				r.beat(t)
				answer(r, beat)
			}
			r.beat(t)
		})
	}
	clients.Wait()

	silent.beat(t)
	code, reason := silent.closed(t)
	require.EqualValues(t, 4001, code)
	require.Equal(t, "heartbeat_missed", reason)
	late := helloRaw(t, i, token, "/orders")
	late.beat(t)
	since := time.Now()
	late.closed(t)
	require.Greater(t, time.Since(since), every/2, "it had no time to answer")
}

// full is how many batches no buffer between server and client holds.
const full = 6

// fill publishes batches of about half a MB, in events that are not compressed,
// and returns how many. Those who are named read them as they come.
func fill(t testing.TB, i *apptest.Instance, token string, batches int, readers ...*client) int {
	t.Helper()
	const each = 50
	text := strings.Repeat("what no buffer holds ", 430)
	for n := range batches {
		events := make([]string, each)
		for k := range events {
			events[k] = fmt.Sprintf(`{"namespace":"/orders","type":"newOrder","data":{"orderId":"%d","branchId":"b1","note":%q}}`, n*each+k, text)
		}
		i.Publish(t, token, "["+strings.Join(events, ",")+"]")
		for _, r := range readers {
			r.reach(t, int64(n+1)*each)
		}
	}
	return batches * each
}

// A client that is busy, and so does not see our pings behind what it has not
// read yet, is alive: missed heartbeats do not end it.
func TestHeartbeat_BehindABacklog(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_HEARTBEAT=1500ms")[0]
	token := apptest.Token(t, access.Web, "c1", "b1")
	n := fill(t, i, apptest.Token(t, access.Service, "c1"), full)
	busy := dialRaw(t, i)
	busy.text(t, `{"type":"hello","token":"`+token+`","cursor":"earliest","subscribe":[{"namespace":"/orders"}]}`)
	require.Equal(t, "welcome", busy.message(t).Type)
	watch := helloRaw(t, i, token, "/availability")
	for range 3 { // intervals go by
		watch.beat(t)
		watch.send(t, fin|opPong, nil)
	}
	for next := int64(1); next <= int64(n); {
		f := busy.frame(t)
		if f.opcode == opPing {
			busy.send(t, fin|opPong, nil)
			continue
		}
		next = f.follows(t, next)
	}
	busy.beat(t)
}

// A client that never reads is cut when it has taken no byte for the write
// timeout. Nobody else waits for it.
func TestSlow_ClientThatNeverReads(t *testing.T) {
	t.Parallel()
	const timeout = 1500 * time.Millisecond // in which the other one reads
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT="+timeout.String())[0]
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	stuck := helloRaw(t, i, token, "/orders")
	quick := join(t, i, token, `[{"namespace":"/orders"}]`)
	since := time.Now()
	n := fill(t, i, service, full, quick)
	require.Len(t, quick.events, n)
	require.Eventually(t, func() bool {
		return i.Metric(t, `tailroom_sessions_closed_total{reason="slow"}`) == 1
	}, apptest.Patience, 20*time.Millisecond)
	require.GreaterOrEqual(t, time.Since(since), timeout)
	i.Publish(t, service, order("after", "b1"))
	quick.reach(t, int64(n+1))
	// What it got is whole frames, in order, up to where it was cut.
	next := int64(1)
	for {
		f, err := stuck.read(t)
		if err != nil {
			break
		}
		next = f.follows(t, next)
	}
	require.Less(t, next, int64(n))
}

// follows checks that a message's events, if it has any, begin at a position,
// and returns where the next ones are to begin.
func (f frame) follows(t testing.TB, next int64) int64 {
	t.Helper()
	for _, raw := range f.message(t).Events {
		require.Equal(t, fmt.Sprintf("1-%d", next), transporttest.CursorOf(t, raw))
		next++
	}
	return next
}

// A client that takes a little now and then is never slow; an operator gets rid of it all
// the same.
func TestSlow_ClientThatIsDisconnected(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1, "TAILROOM_WRITE_TIMEOUT=6s", "TAILROOM_MAX_EVENT_BYTES=8MiB", "TAILROOM_MAX_MESSAGE_BYTES=16MiB")[0]
	r := helloRaw(t, i, apptest.Token(t, access.Web, "c1", "b1"), "/orders")
	i.Publish(t, apptest.Token(t, access.Service, "c1"), fmt.Sprintf(
		`{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1","note":%q}}`, strings.Repeat("x", 7<<20)))
	_, err := io.CopyN(io.Discard, r.Conn, 1<<20) // it is being written
	require.NoError(t, err)
	apptest.Trickle(t, r.Conn, 62<<10)
	const sessions = `tailroom_connections{role="web",transport="websocket"}`
	require.EqualValues(t, 1, i.Metric(t, sessions), "it was slow")
	answer := i.Do(t, http.MethodPost, "/v1/disconnections", apptest.Token(t, access.Admin, "c1"), `{"subject":"test-web"}`)
	require.Equal(t, http.StatusCreated, answer.Status)
	i.AwaitMetric(t, sessions, 0)
	i.AwaitMetric(t, `tailroom_sessions_closed_total{reason="slow"}`, 1)
}

// After the server's close nothing more is said or done.
func TestClose_IsTheEnd(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	expires := time.Now().Add(5 * time.Second).Truncate(time.Second)
	r := helloRaw(t, i, apptest.TokenUntil(t, expires, access.Web, "c1", "b1"), "/orders")
	for {
		f := r.frame(t)
		if f.opcode == opClose {
			require.Equal(t, "\x0f\xa2token_expired", string(f.payload))
			break
		}
	}
	// A client that does not answer the close, and goes on with its old token.
	r.text(t, `{"type":"publish","ref":1,"events":[`+order("1", "b1")+`]}`)
	r.text(t, `{"type":"ping","ref":2}`)
	r.send(t, fin|opClose, []byte("\x0f\xa2"))
	_, err := r.read(t)
	require.Error(t, err)
	var timeout net.Error
	require.False(t, errors.As(err, &timeout) && timeout.Timeout(), "the connection stays open")
	require.Empty(t, i.Lines(t, "/v1/events", apptest.Token(t, access.Web, "c1")))
}

// Stopping does not wait for clients that take nothing and answer nothing.
func TestDrain_ClientsThatHang(t *testing.T) {
	t.Parallel()
	dsn := pgtest.Database(t)
	i := apptest.Start(t, dsn, "TAILROOM_DRAIN_TIMEOUT=2s")
	service, token := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1", "b1")
	helloRaw(t, i, token, "/availability") // does not answer the close
	dialRaw(t, i)                          // does not say hello
	stuck := helloRaw(t, i, token, "/orders")
	require.Equal(t, "live", stuck.message(t).Type)
	fill(t, i, service, full)
	polite := join(t, i, token, `[{"namespace":"/orders"}]`)
	since := time.Now()
	stopped := make(chan time.Time)
	go func() {
		i.Stop()
		stopped <- time.Now()
	}()
	require.Equal(t, websocket.CloseError{Code: 1001, Reason: "draining"}, polite.Closed(t))
	require.Less(t, (<-stopped).Sub(since), 4*time.Second, "it waited for the close of who does not answer")
}

// What one connection leaves undone others do not feel: a publish under way
// when its connection is lost is in the log whole, or not at all.
func TestPublish_ConnectionLost(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	c := join(t, i, apptest.Token(t, access.Service, "c1"), `[]`)
	for n := range 20 {
		c.Send(t, fmt.Sprintf(`{"type":"publish","ref":%d,"events":[%s,%s]}`, n, order("a", "b1"), order("b", "b1")))
	}
	require.NoError(t, c.Conn.CloseNow())
	last := i.Publish(t, apptest.Token(t, access.Service, "c1"), order("last", "b1"))[0].Position
	require.EqualValues(t, 1, last%2, "half a group is in the log")
	for n, line := range i.Lines(t, "/v1/events", apptest.Token(t, access.Web, "c1"))[:last-1] {
		var e apptest.Event
		require.NoError(t, json.Unmarshal([]byte(line), &e))
		require.Equal(t, []string{"order:a", "order:b"}[n%2], *e.Stream)
	}
}
