package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
)

// poison is data that PostgreSQL or other clients cannot hold: each of it must
// be refused before it is put together with anybody else's.
var poison = []struct{ data, code string }{
	{`{"x":"\u0000"}`, "schema_violation"},
	{`{"\u0000":1}`, "schema_violation"},
	{`{"x":{"y":["a\u0000b"]}}`, "schema_violation"},
	{`{"x":"\ud800"}`, "schema_violation"},
	{`{"x":"\udc00\ud800"}`, "schema_violation"},
	{`{"\udfff":1}`, "schema_violation"},
	{`{"x":1e131071}`, "schema_violation"},
	{`{"x":-1e131072}`, "schema_violation"},
	{`{"x":1e-99999}`, "schema_violation"},
	{`{"x":1e99999999999999999999}`, "schema_violation"},
	{`{"x":` + strings.Repeat("9", 200_000) + `}`, "schema_violation"},
	{`{"x":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, "schema_violation"},
	{`{"x":` + strings.Repeat(`{"x":`, 9000) + "1" + strings.Repeat("}", 9000) + `}`, "schema_violation"},
	{`{"x":` + strings.Repeat("[", 200_000), "invalid_json"},
	{"{\"x\":\"\xff\"}", "invalid_json"},
	{"{\"x\":\"\xc0\x80\"}", "invalid_json"},
	{"{\"x\":\"\xed\xa0\x80\"}", "invalid_json"},
	{"{\"\xf5\":1}", "invalid_json"},
	{`{"x":NaN}`, "invalid_json"},
	{`{"x":01}`, "invalid_json"},
	{`[]`, "schema_violation"},
	{`null`, "schema_violation"},
}

func hostile(data string) string {
	return `{"namespace":"/availability","type":"bulkAvailabilityUpdate","rooms":["branch:bad"],"data":` + data + `}`
}

// What one client does wrong another does not feel: his groups are accepted,
// promptly and in one piece, though the bad ones come at the same time by every
// door.
func TestHostile_AmongOthers(t *testing.T) {
	t.Parallel()
	const publishers, groups = 8, 15
	cluster := apptest.Cluster(t, 2)
	token := apptest.Token(t, access.Service, "c1")
	var bad, good sync.WaitGroup
	done := make(chan struct{})
	bad.Go(func() { // as single requests
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			p := poison[n%len(poison)]
			answer := cluster[n%2].Post(t, token, hostile(p.data))
			if answer.Code() != p.code {
				t.Errorf("%.60s: %d %.200s", p.data, answer.Status, answer.Body)
			}
		}
	})
	bad.Go(func() { // over a socket, all at once
		s, _ := cluster[0].Hello(t, token, "", `[]`)
		s.Until(t, "live")
		for n, p := range poison {
			if p.code == "invalid_json" {
				continue // ends the whole message
			}
			s.Send(t, fmt.Sprintf(`{"type":"publish","ref":%d,"events":[%s]}`, n, hostile(p.data)))
		}
		for n, p := range poison {
			if p.code == "invalid_json" {
				continue
			}
			if m := s.Next(t); m.OK || m.Code != p.code || string(m.Ref) != strconv.Itoa(n) {
				t.Errorf("%.60s: %s", p.data, m.Raw)
			}
		}
	})
	bad.Go(func() { // as lines between good ones
		var body strings.Builder
		for _, p := range poison {
			body.WriteString(hostile(p.data) + "\n" + hostile(`{"good":true}`) + "\n")
		}
		answer := cluster[1].PostLines(t, token, body.String())
		n := 0
		for line := range strings.Lines(string(answer.Body)) {
			want := `"status":201`
			if n%2 == 0 {
				want = `"code":"` + poison[n/2].code + `"`
			}
			if !strings.Contains(line, want) {
				t.Errorf("%.60s: %.200s", poison[n/2].data, line)
			}
			n++
		}
		if n != 2*len(poison) {
			t.Errorf("%d lines of %d were answered", n, 2*len(poison))
		}
	})
	var mu sync.Mutex
	var slowest time.Duration
	for p := range publishers {
		good.Go(func() {
			for n := range groups {
				since := time.Now()
				events := cluster[(p+n)%2].Publish(t, token, "["+status("")+","+status("")+","+status("")+"]")
				mu.Lock()
				slowest = max(slowest, time.Since(since))
				mu.Unlock()
				if events[1].Position != events[0].Position+1 || events[2].Position != events[0].Position+2 {
					t.Errorf("a group in pieces: %v", events)
				}
			}
		})
	}
	good.Wait()
	close(done)
	bad.Wait()
	require.Less(t, slowest, 4*time.Second)
	require.Len(t, cluster[0].Lines(t, "/v1/events?limit=1000&stream=order:1", token), publishers*groups*3)
	require.Len(t, cluster[0].Lines(t, "/v1/events?limit=1000&room=branch:bad", token), len(poison), "something bad is in the log")
	for _, i := range cluster {
		require.Zero(t, i.Metric(t, "tailroom_append_retries_total"))
	}
}

// Random data, as odd as JSON can be: what passes the checks PostgreSQL takes,
// and it comes back as it went in.
func TestHostile_RandomData(t *testing.T) {
	t.Parallel()
	const lines = 600
	seed := rand.Uint64()
	r := &random{rand.New(rand.NewPCG(seed, 0))}
	i := apptest.Cluster(t, 1, "TAILROOM_MAX_EVENT_BYTES=16MiB", "TAILROOM_MAX_MESSAGE_BYTES=32MiB", "TAILROOM_WINDOW_BYTES=64MiB")[0]
	token := apptest.Token(t, access.Service, "c1")
	var body bytes.Buffer
	sent := make([]string, lines)
	for n := range sent {
		sent[n] = "{" + r.members(4, n%7 == 0) + "}"
		fmt.Fprintf(&body, `{"namespace":"/availability","type":"bulkAvailabilityUpdate","stream":%s,"correlationId":%s,"data":%s}`+"\n",
			r.name("s:"), r.name("c"), sent[n])
	}
	answer := i.PostLines(t, token, body.String())
	require.Equal(t, http.StatusOK, answer.Status)
	accepted := map[int64]int{} // position to line
	n := 0
	for text := range strings.Lines(string(answer.Body)) {
		var line struct {
			Code, Detail string
			Message      string
			Events       []apptest.Receipt
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		require.Contains(t, []string{"", "schema_violation", "invalid_parameter"}, line.Code, "seed %d: %s: %.300s", seed, text, sent[n])
		require.NotContains(t, text, "PostgreSQL cannot store a value", "seed %d: it passed the checks: %.300s", seed, sent[n])
		if line.Code == "" {
			accepted[line.Events[0].Position] = n
		}
		n++
	}
	require.Equal(t, lines, n)
	require.Greater(t, len(accepted), lines/3, "hardly anything passed")
	require.Less(t, len(accepted), lines, "everything passed")
	events := i.Lines(t, "/v1/events?limit=1000", token)
	require.Len(t, events, len(accepted))
	for _, raw := range events {
		var e apptest.Event
		require.NoError(t, json.Unmarshal([]byte(raw), &e))
		require.True(t, utf8.ValidString(raw))
		want := sent[accepted[e.Position]]
		require.True(t, equal(decode(t, want), decode(t, string(e.Data))), "seed %d:\n%.500s\n%.500s", seed, want, e.Data)
	}
}

func decode(t testing.TB, text string) (v any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&v))
	return v
}

// equal compares decoded JSON; numbers by their value.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key, value := range a {
			other, ok := b[key]
			if !ok || !equal(value, other) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		x, okX := new(big.Rat).SetString(a.String())
		y, okY := new(big.Rat).SetString(b.String())
		return ok && okX && okY && x.Cmp(y) == 0
	}
	return a == b
}

// random makes JSON.
type random struct{ *rand.Rand }

func (r *random) one(list ...string) string { return list[r.IntN(len(list))] }

func (r *random) space() string {
	return r.one("", "", "", "", " ", "\t", " \r ", "  ")
}

func (r *random) members(depth int, wild bool) string {
	var b strings.Builder
	for n := range r.IntN(6) {
		if n > 0 {
			b.WriteByte(',')
		}
		key := r.text(wild)
		switch r.IntN(8) {
		case 0:
			key = `""`
		case 1:
			key = `"same"`
		case 2:
			key = r.one(`"a.b"`, `"\""`, `"\\"`, `"'; DROP TABLE x; --"`, `"$1"`, `"__proto__"`, `"{}"`, `"\u001f"`, `"`+strings.Repeat("k", 3000)+`"`)
		}
		b.WriteString(r.space() + key + r.space() + ":" + r.space() + r.value(depth, wild) + r.space())
	}
	return b.String()
}

func (r *random) value(depth int, wild bool) string {
	kind := r.IntN(10)
	if depth == 0 {
		kind %= 7
	}
	switch kind {
	case 0:
		return r.one("true", "false", "null")
	case 1, 2, 3:
		return r.number(wild)
	case 4, 5:
		return r.text(wild)
	case 6:
		n := 1 + r.IntN(58)
		if wild {
			n = 1 + r.IntN(80)
		}
		return strings.Repeat("[", n) + r.one("", "0", `{"a":[]}`) + strings.Repeat("]", n)
	case 7:
		return "{" + r.members(depth-1, wild) + "}"
	default:
		list := make([]string, r.IntN(8))
		for i := range list {
			list[i] = r.space() + r.value(depth-1, wild) + r.space()
		}
		return "[" + strings.Join(list, ",") + "]"
	}
}

// number makes a number, at the limits more often than not.
func (r *random) number(wild bool) string {
	digits := func(n int) string {
		b := []byte{byte('1' + r.IntN(9))}
		for range n {
			b = append(b, byte('0'+r.IntN(10)))
		}
		return string(b)
	}
	number := r.one("", "-") + r.one("0", digits(0), digits(r.IntN(20)), digits(r.IntN(300)))
	if r.IntN(2) == 0 {
		number += "." + strings.Repeat("0", r.IntN(4)) + digits(r.IntN(30)) + strings.Repeat("0", r.IntN(4))
	}
	if r.IntN(3) == 0 {
		exponent := r.IntN(30)
		if wild {
			exponent = r.IntN(400)
		}
		number = r.one("", "-") + digits(r.IntN(3)) + r.one("", ".5", ".00") + r.one("e", "E") + r.one("", "+", "-") + r.one("", "00") + strconv.Itoa(exponent)
	}
	return r.one(number, number, number, "0", "-0", "0.0", "-0.000", "1.7976931348623157e308", "5e-324", "9007199254740993", "1E400", "1e-400",
		"18446744073709551616", "0.1", "100", "1e2", "1.0")
}

// text makes a string: of any characters, plain or escaped.
func (r *random) text(wild bool) string {
	var b strings.Builder
	b.WriteByte('"')
	for range r.IntN(12) {
		c := rune(r.IntN(0x80))
		switch r.IntN(5) {
		case 0:
			c = rune(r.IntN(0x800))
		case 1:
			c = rune(r.IntN(0x10000))
		case 2:
			c = rune(r.IntN(0x110000))
		case 3:
			c = []rune{0x7f, 0x80, 0x85, 0xa0, 0xad, 0x200d, 0x2028, 0x2029, 0x202e, 0xfeff, 0xfffd, 0xfffe, 0xffff, 0x1f600, 0x10ffff}[r.IntN(15)]
		}
		if !wild && (c == 0 || c >= 0xd800 && c < 0xe000) {
			c = 'x'
		}
		switch {
		case c >= 0xd800 && c < 0xe000, c < ' ', c < 0x10000 && r.IntN(3) == 0:
			fmt.Fprintf(&b, r.one(`\u%04x`, `\u%04X`), c)
		case c == '"' || c == '\\':
			b.WriteString(r.one(`\"`, `\\`, `\/`, `\b`, `\f`, `\n`, `\r`, `\t`, `\ud83d\ude00`))
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// name is a stream or a correlation id, which now and then is to be refused.
func (r *random) name(prefix string) string {
	if r.IntN(10) == 0 {
		return `"` + prefix + r.text(true)[1:]
	}
	list := []rune("az09 /:._-'$%{}[]<>&@;,()é\u00a0\u200d\u2028\u202e\ufeff\ufffe\U0001f600\U0010ffff")
	name := prefix
	for range 1 + r.IntN(20) {
		name += string(list[r.IntN(len(list))])
	}
	return `"` + name + `"`
}
