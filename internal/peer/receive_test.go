package peer

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/pgtest"
)

// vouched is a voucher for a request of one node to another, and the way it goes.
type vouched struct {
	voucher

	key         []byte
	method, uri string
	header      func(value string) []string // what is made of it on the way
}

// Whatever is not vouched as it must be is refused: not answered, and not passed on.
func TestReceive_Refuses(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b, c := start(t, pool), start(t, pool), start(t, pool)
	uri := strings.TrimPrefix(a.address(a.sid(), "&now"), a.url)
	ofB := strings.TrimPrefix(a.address(b.sid(), "&now"), a.url)
	for name, test := range map[string]struct {
		change func(*vouched)
		want   refusal
	}{
		"another key":    {func(s *vouched) { s.key = []byte("another key") }, badSignature},
		"no key":         {func(s *vouched) { s.key = nil }, badSignature},
		"another path":   {func(s *vouched) { s.uri = strings.Replace(uri, "socket.io", "socket.xx", 1) }, badSignature},
		"another query":  {func(s *vouched) { s.uri = uri + "&x=1" }, badSignature},
		"another method": {func(s *vouched) { s.method = http.MethodPost }, badSignature},
		"old":            {func(s *vouched) { s.at = time.Now().Add(-leeway - time.Second) }, badClock},
		"of the future":  {func(s *vouched) { s.at = time.Now().Add(leeway + time.Second) }, badClock},
		"for another":    {func(s *vouched) { s.to = c.member.Incarnation() }, misdirected},
		"for nobody":     {func(s *vouched) { s.to = uuid.Nil }, misdirected},
		"from itself":    {func(s *vouched) { s.from = a.member.Incarnation() }, misdirected},
		"twice":          {func(s *vouched) { s.header = func(v string) []string { return []string{v, v} } }, badSignature},
		"cut":            {func(s *vouched) { s.header = func(v string) []string { return []string{v[:len(v)-1]} } }, badSignature},
		"empty":          {func(s *vouched) { s.header = func(string) []string { return []string{""} } }, badSignature},
		"nonsense":       {func(s *vouched) { s.header = func(string) []string { return []string{"taken"} } }, badSignature},
		"another client": {func(s *vouched) { s.header = changed(visitor.String(), "203.0.113.8") }, badSignature},
		"another sender": {func(s *vouched) { s.header = changed(b.member.Incarnation().String(), uuid.NewString()) }, badSignature},
		"signed, no voucher": {func(s *vouched) {
			s.header = func(string) []string { return []string{";" + encode(mac(keys[0], "GET", uri, ""))} }
		}, badSignature},
	} {
		got := a.ask(t, b, uri, test.change)
		require.Equal(t, http.StatusForbidden, got.StatusCode, name)
		require.Equal(t, string(test.want), got.Header.Get(header), name)
		require.Contains(t, got.body, refusals[test.want], name)
	}
	got := a.ask(t, b, ofB, func(s *vouched) { s.uri = ofB })
	require.Equal(t, string(misdirected), got.Header.Get(header), "it is passed on once only")
	require.Empty(t, a.asked)
	require.Zero(t, b.accepted.Load()+c.accepted.Load())
	for _, why := range []refusal{badSignature, badClock, misdirected} {
		require.Positive(t, a.received(string(why)))
	}
	require.Equal(t, "now", a.ask(t, b, uri, func(*vouched) {}).body, "the voucher that all of these were made of")
	require.Equal(t, visitor, a.Client(receive(t, a.asked)))
}

func changed(from, to string) func(string) []string {
	return func(v string) []string { return []string{strings.Replace(v, from, to, 1)} }
}

// ask asks a node what another one would ask.
func (n *node) ask(t *testing.T, from *node, uri string, change func(*vouched)) reply {
	t.Helper()
	s := vouched{newVoucher(from.member.Incarnation(), n.member.Incarnation()), keys[0], http.MethodGet, uri, func(v string) []string { return []string{v} }}
	s.client = visitor
	change(&s)
	var fields []string
	for _, value := range s.header(s.sign(s.key, s.method, s.uri)) {
		fields = append(fields, header, value)
	}
	return do(t, http.MethodGet, n.url+uri, "", fields...)
}

// A voucher is good for one request.
func TestReceive_Replay(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	uri := strings.TrimPrefix(a.address(a.sid(), "&now"), a.url)
	s := newVoucher(b.member.Incarnation(), a.member.Incarnation())
	value := s.sign(keys[0], http.MethodGet, uri)
	require.Equal(t, "now", do(t, http.MethodGet, a.url+uri, "", header, value).body)
	got := do(t, http.MethodGet, a.url+uri, "", header, value)
	require.Equal(t, http.StatusForbidden, got.StatusCode)
	require.Equal(t, string(repeated), got.Header.Get(header))
	require.Len(t, a.asked, 1)
	require.False(t, a.Client(<-a.asked).IsValid(), "a voucher without a client has none")
}

// A client cannot write the header: with one, its request goes nowhere. And it cannot
// make an instance leave its own away.
func TestReceive_OfClients(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	got := do(t, http.MethodGet, b.address(a.sid(), "&now"), "", header, "taken")
	require.Equal(t, http.StatusForbidden, got.StatusCode)
	require.Zero(t, a.accepted.Load())
	got = do(t, http.MethodGet, b.address(a.sid(), "&now"), "", "Connection", header, "X-Forwarded-For", "198.51.100.1", "Forwarded", "for=198.51.100.1")
	require.Equal(t, "now", got.body)
	asked := receive(t, a.asked)
	require.Equal(t, visitor, a.Client(asked))
	require.Empty(t, asked.Header.Values("X-Forwarded-For"))
	require.Empty(t, asked.Header.Values("Forwarded"))
}

// An instance that advertises another's address, or whatever else is no instance, is
// nobody to its peers: clients are told to begin anew, and nothing goes round.
func TestForward_WrongAddress(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	b, c := start(t, pool), start(t, pool)
	for name, address := range map[string]string{
		"another's": c.url, "the asker's own": b.url, "nobody's": "http://127.0.0.1:1", "no host's": "http://host.invalid:3001",
	} {
		a := bare(t, pool)
		a.show(t, address)
		requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), "&now"), "", "Origin", "https://shop.example"))
		require.Empty(t, b.asked, name)
		require.Empty(t, c.asked, name)
	}
	require.Equal(t, 2, b.sent(string(sentRefused)))
	require.Equal(t, 2, b.sent(string(sentFailed)))
	require.Equal(t, 1, c.received(string(misdirected)))
	require.Equal(t, 1, b.received(string(misdirected)))

	stranger := &http.Server{ReadHeaderTimeout: patience, Handler: http.NotFoundHandler()}
	listener := b.listen(t)
	go func() { _ = stranger.Serve(listener) }()
	defer func() { _ = stranger.Close() }()
	a := bare(t, pool)
	a.show(t, "http://"+listener.Addr().String())
	requireUnknown(t, do(t, http.MethodGet, b.address(a.sid(), "&now"), ""))
	require.Equal(t, 3, b.sent(string(sentFailed)))
}

// While CLUSTER_SECRET is rotated, instances before and in the rotation understand each
// other, and so do those in and after it.
func TestReceive_Rotation(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	older, newer := []byte("the key of before"), []byte("the key of now")
	with := func(keys ...[]byte) func(*Config) { return func(c *Config) { c.Keys = keys } }
	before, ready := start(t, pool, with(older)), start(t, pool, with(older, newer))
	in, after := start(t, pool, with(newer, older)), start(t, pool, with(newer))
	for _, pair := range [][2]*node{{before, ready}, {ready, in}, {in, after}} {
		require.Equal(t, "now", do(t, http.MethodGet, pair[0].address(pair[1].sid(), "&now"), "").body)
		require.Equal(t, "now", do(t, http.MethodGet, pair[1].address(pair[0].sid(), "&now"), "").body)
	}
	requireUnknown(t, do(t, http.MethodGet, before.address(after.sid(), "&now"), ""))
	require.Equal(t, 1, after.received(string(badSignature)))
	require.Equal(t, 1, before.sent(sentRefused))
}

// Who resumes a session tells all others, soon, and says how long ago it was: also those
// that have only just come.
func TestTakeover(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b, c := start(t, pool), start(t, pool), start(t, pool)
	a.Announce("a-public-id-of-20-ch")
	for _, n := range []*node{b, c} {
		got := receive(t, n.taken)
		require.Equal(t, "a-public-id-of-20-ch", got.SID)
		require.Less(t, got.AgeMs, patience.Milliseconds())
		require.Equal(t, 1, n.received(taken))
	}
	require.Empty(t, a.taken)
	// Many at once go together.
	want := map[string]bool{}
	for range 2500 {
		sid := uuid.NewString()
		want[sid] = true
		a.Announce(sid)
	}
	for range 2500 {
		delete(want, receive(t, b.taken).SID)
	}
	require.Empty(t, want)
	require.LessOrEqual(t, b.received(taken), 6)
	require.Eventually(t, func() bool { return a.figure("tailroom_peer_takeovers_total", "told") == 2*2501 }, patience, time.Millisecond)
}

// A peer that does not answer holds nobody up.
func TestTakeover_SilentPeer(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b, silent := start(t, pool), start(t, pool), bare(t, pool)
	listener := silent.listen(t) // nobody accepts
	silent.show(t, "http://"+listener.Addr().String())
	for _, n := range []*node{b, silent} {
		require.NotNil(t, a.member.Peer(t.Context(), n.member.Incarnation()))
	}
	begin := time.Now()
	for _, sid := range []string{"one", "two", "three"} {
		a.Announce(sid)
		require.Equal(t, sid, receive(t, b.taken).SID)
	}
	require.Less(t, time.Since(begin), takeoverTimeout)
	require.Eventually(t, func() bool { return a.figure("tailroom_peer_takeovers_total", "failed") == 3 }, patience, time.Millisecond)
}

// Nobody else ends a session that way.
func TestTakeover_Forged(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Database(t))
	a, b := start(t, pool), start(t, pool)
	body, err := json.Marshal([]takeover{{SID: "a-public-id-of-20-ch"}})
	require.NoError(t, err)
	digest := sha256.Sum256(body)
	sign := func(key []byte, uri string, body []byte) string {
		s := newVoucher(b.member.Incarnation(), a.member.Incarnation())
		s.body = body
		return s.sign(key, http.MethodPost, uri)
	}
	good := sign(keys[0], takeoverPath, digest[:])
	for name, test := range map[string]struct {
		path, value string
		body        []byte
	}{
		"another key":            {takeoverPath, sign([]byte("x"), takeoverPath, digest[:]), body},
		"another body":           {takeoverPath, sign(keys[0], takeoverPath, digest[:]), bytes.Replace(body, []byte("public"), []byte("secret"), 1)},
		"a voucher for a client": {takeoverPath, sign(keys[0], takeoverPath, nil), body},
		"at another path":        {"/socket.io/", sign(keys[0], "/socket.io/", digest[:]), body},
		"no voucher":             {takeoverPath, "", body},
	} {
		require.Equal(t, http.StatusForbidden, do(t, http.MethodPost, a.url+test.path, string(test.body), header, test.value).StatusCode, name)
	}
	require.Empty(t, a.taken)
	require.Equal(t, http.StatusNoContent, do(t, http.MethodPost, a.url+takeoverPath, string(body), header, good).StatusCode)
	require.Equal(t, "a-public-id-of-20-ch", receive(t, a.taken).SID)
	require.Equal(t, http.StatusForbidden, do(t, http.MethodPost, a.url+takeoverPath, string(body), header, good).StatusCode)
	require.Empty(t, a.taken)
	require.Equal(t, "", do(t, http.MethodPost, a.url+takeoverPath, "").body, "without the header it is a client's, and Engine.IO's to answer")
	require.Len(t, a.asked, 1)
}

// A voucher is remembered for as long as it could be believed, and not for ever.
func TestSeen(t *testing.T) {
	t.Parallel()
	var s seen
	now := time.Now()
	once := func(i byte) [16]byte { return [16]byte{i} }
	for i := range byte(100) { // one in two seconds
		require.True(t, s.first(once(i), now.Add(time.Duration(i)*2*time.Second)))
	}
	now = now.Add(99 * 2 * time.Second)
	for i := range byte(31) {
		require.False(t, s.first(once(99-i), now))
	}
	require.LessOrEqual(t, len(s.now)+len(s.before), 62)
	require.True(t, s.first(once(0), now))
	require.True(t, s.first(once(99), now.Add(2*memory)))
}

// Whatever comes as a voucher: it is believed only as it was signed.
func FuzzVoucher(f *testing.F) {
	s := newVoucher(uuid.New(), uuid.New())
	f.Add(s.text())
	s.client, s.body = netip.MustParseAddr("2001:db8::1"), make([]byte, sha256.Size)
	f.Add(s.text())
	f.Add(";;;;;")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseVoucher(text)
		if err != nil {
			return
		}
		again, err := openVoucher(keys, http.MethodGet, "/x", []string{got.sign(keys[0], http.MethodGet, "/x")})
		require.NoError(t, err)
		require.Equal(t, got.text(), again.text())
		_, err = openVoucher(keys, http.MethodGet, "/x", []string{text})
		require.Error(t, err)
	})
}
