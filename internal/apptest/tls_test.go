package apptest_test

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/pgtest"
)

// secured is an instance with a certificate, and two clients that trust it.
type secured struct {
	*apptest.Instance // spoken to with HTTP/2

	one       *apptest.Instance // the same, with HTTP/1.1
	authority *certtest.Authority
	dir       string
}

func startSecured(t *testing.T, environ ...string) secured {
	t.Helper()
	s := secured{authority: certtest.NewAuthority(t), dir: t.TempDir()}
	s.write(t, s.authority)
	s.Instance = apptest.Start(t, pgtest.Database(t), append([]string{
		"TLS_CERT_FILE=" + filepath.Join(s.dir, "cert.pem"), "TLS_KEY_FILE=" + filepath.Join(s.dir, "key.pem"),
	}, environ...)...)
	require.True(t, strings.HasPrefix(s.URL, "https://127.0.0.1:"), s.URL)
	one := *s.Instance
	s.one = &one
	s.Client, s.one.Client = trusting(s.authority, true), trusting(s.authority, false)
	return s
}

// write puts a new certificate in place.
func (s secured) write(t *testing.T, authority *certtest.Authority) {
	t.Helper()
	cert, key := authority.Sign(t, time.Now().Add(time.Hour), "127.0.0.1")
	apptest.Key("TLS_KEY_FILE", key)
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cert.pem"), cert, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "key.pem"), key, 0o600))
}

// trusting is a client of an authority's servers, for one version of HTTP.
func trusting(authority *certtest.Authority, two bool) *http.Client {
	var protocols http.Protocols
	protocols.SetHTTP1(!two)
	protocols.SetHTTP2(two)
	return &http.Client{Transport: apptest.Watch(&http.Transport{
		DisableKeepAlives: true, Protocols: &protocols, TLSClientConfig: &tls.Config{RootCAs: authority.Pool, MinVersion: tls.VersionTLS12},
		HTTP2: &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}, // so that who does not read is soon known
	})}
}

func address(t *testing.T, i *apptest.Instance) string {
	t.Helper()
	u, err := url.Parse(i.URL)
	require.NoError(t, err)
	return u.Host
}

// One port speaks TLS 1.2 or newer, HTTP/1.1 and HTTP/2, and WebSocket.
func TestTLS(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	for _, i := range []*apptest.Instance{s.Instance, s.one} {
		answer := i.Get(t, "/v1/catalog", web)
		require.Equal(t, http.StatusOK, answer.Status)
		require.Equal(t, "max-age=31536000", answer.Header.Get("Strict-Transport-Security"))
	}
	stream := s.Stream(t, web, "")
	require.Equal(t, 2, stream.Proto)
	require.Equal(t, 1, s.one.Stream(t, web, "").Proto)
	socket, _ := s.one.Hello(t, web, "", `[{"namespace":"/availability"}]`)
	socket.Until(t, "live")
	const large = 200 << 10 // more than TLS takes at once
	s.Publish(t, service, `{"namespace":"/availability","type":"newAlert","data":{"message":"`+strings.Repeat("x", large)+`"}}`)
	require.Greater(t, len(socket.Collect(t, 1)[0].Data), large)
	for block := (apptest.Block{}); block.Event != "newAlert"; {
		var err error
		block, err = stream.Next(t)
		require.NoError(t, err)
	}
	require.Greater(t, s.Metric(t, "tailroom_tls_certificate_expiry_timestamp_seconds"), float64(time.Now().Unix()))

	for version, accepted := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		conn, err := tls.Dial("tcp", address(t, s.Instance), &tls.Config{
			RootCAs: s.authority.Pool, MinVersion: version, MaxVersion: version,
		})
		require.Equal(t, accepted, err == nil, tls.VersionName(version))
		if err == nil {
			require.NoError(t, conn.Close())
		}
	}
	// Whoever speaks plainly is told so, and who does not trust it stays away.
	response, err := apptest.Client.Get("http" + strings.TrimPrefix(s.URL, "https") + "/healthz")
	require.NoError(t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, response.StatusCode)
	require.Contains(t, string(body), "HTTPS")
	_, err = apptest.Client.Get(s.URL + "/healthz")
	require.ErrorContains(t, err, "unknown authority")
}

// An event stream over HTTP/2 lives on while nothing but heartbeats comes, for
// longer than a write may take.
func TestTLS_StreamsOutliveTheirDeadlines(t *testing.T) {
	t.Parallel()
	// A handshake has to be over within the time as well.
	s := startSecured(t, "TAILROOM_HEARTBEAT=3s", "TAILROOM_WRITE_TIMEOUT=2s")
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	for _, stream := range []*apptest.Stream{s.Stream(t, web, ""), s.one.Stream(t, web, "")} {
		for beats := 0; beats < 3; {
			block, err := stream.Next(t)
			require.NoError(t, err)
			if block.Raw == ":\n\n" {
				beats++
			}
		}
		s.Publish(t, service, `{"namespace":"/availability","type":"newAlert","data":{"message":"news"}}`)
		for block := (apptest.Block{}); block.Event != "newAlert"; {
			var err error
			block, err = stream.Next(t)
			require.NoError(t, err)
		}
	}
}

// Who does not read is cut for being slow, whatever it connects with.
func TestTLS_SlowReaders(t *testing.T) {
	t.Parallel()
	s := startSecured(t, "TAILROOM_WRITE_TIMEOUT=3s", "TAILROOM_MAX_EVENT_BYTES=1MiB") // in which a handshake has to be over, too
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	s.Stream(t, web, "")
	s.one.Stream(t, web, "")
	socket, _ := s.one.Hello(t, web, "", `[{"namespace":"/availability"}]`)
	socket.Until(t, "live")
	large := `{"namespace":"/availability","type":"newAlert","data":{"message":"` + noise(700<<10) + `"}}`
	for range 8 { // which the buffers on the way may hold
		s.Publish(t, service, large)
	}
	apptest.Eventually(t, func() bool {
		s.Publish(t, service, large)
		return s.Metric(t, `tailroom_sessions_closed_total{reason="slow"}`) == 3
	}, apptest.Patience, 250*time.Millisecond)
}

// Over HTTP/2 a client can have many requests under way that it takes no answer to: by
// its window, which the server keeps to, or by not reading at all.
func TestTLS_AnswersNobodyTakes(t *testing.T) {
	t.Parallel()
	const requests = 50
	s := startSecured(t, "TAILROOM_WRITE_TIMEOUT=2s")
	dial := func(window uint32) *tls.Conn {
		conn, err := tls.Dial("tcp", address(t, s.Instance), &tls.Config{
			RootCAs: s.authority.Pool, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"},
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		require.NoError(t, conn.SetDeadline(time.Now().Add(apptest.Patience)))
		preface := binary.BigEndian.AppendUint32([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+
			"\x00\x00\x06\x04\x00\x00\x00\x00\x00"+"\x00\x04"), window) // SETTINGS of INITIAL_WINDOW_SIZE
		if window > 0 {
			preface = binary.BigEndian.AppendUint32(append(preface, "\x00\x00\x04\x08\x00\x00\x00\x00\x00"...), window) // WINDOW_UPDATE
		}
		_, err = conn.Write(preface)
		require.NoError(t, err)
		return conn
	}
	ask := func(conn *tls.Conn, stream uint32, path string) {
		header := "\x82\x87\x04" + string(rune(len(path))) + path + "\x01\x01x"          // GET, https, path, authority
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(header))<<8|1), 5) // HEADERS, with the end of both
		_, err := conn.Write(append(binary.BigEndian.AppendUint32(frame, stream), header...))
		require.NoError(t, err)
	}
	for _, path := range []string{"/healthz", "/nowhere", "/metrics"} {
		conn := dial(0)
		for n := range requests {
			ask(conn, uint32(2*n+1), path)
		}
		for ended := 0; ended < requests; {
			var head [9]byte
			_, err := io.ReadFull(conn, head[:])
			require.NoError(t, err, "%s: %d requests were ended", path, ended)
			_, err = io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:])>>8))
			require.NoError(t, err)
			if head[3] == 3 { // RST_STREAM
				ended++
			}
		}
		require.NoError(t, conn.Close())
	}
	// Here the window is wide open, and the connection is not read.
	conn := dial(1 << 30)
	for n := range 250 {
		ask(conn, uint32(2*n+1), "/metrics")
	}
	s.AwaitMetric(t, "tailroom_open_connections", 1)
}

// A new certificate is shown to who comes next, and nobody who is there
// notices. What cannot be used changes nothing.
func TestTLS_NewCertificate(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	service, web := apptest.Token(t, access.Service, "c1"), apptest.Token(t, access.Web, "c1")
	stream := s.Stream(t, web, "")
	socket, _ := s.one.Hello(t, web, "", `[{"namespace":"/orders"}]`)
	socket.Until(t, "live")

	require.NoError(t, os.WriteFile(filepath.Join(s.dir, "cert.pem"), []byte("half a certificate"), 0o600))
	awaitMetric(t, s.Instance, "tailroom_tls_reload_failures_total", 1)
	require.Equal(t, http.StatusOK, s.Get(t, "/healthz", "").Status, "the old one is in use")

	next := certtest.NewAuthority(t)
	s.write(t, next)
	trusts := *s.Instance
	trusts.Client = trusting(next, true)
	apptest.Eventually(t, func() bool {
		conn, err := tls.Dial("tcp", address(t, s.Instance), &tls.Config{RootCAs: next.Pool, MinVersion: tls.VersionTLS12})
		if err == nil {
			require.NoError(t, conn.Close())
		}
		return err == nil
	}, apptest.Patience, 50*time.Millisecond)
	trusts.AwaitMetric(t, "tailroom_tls_reloads_total", 1)
	_, err := s.Client.Get(s.URL + "/healthz")
	require.ErrorContains(t, err, "unknown authority")

	trusts.Publish(t, service, `{"namespace":"/orders","type":"newOrder","data":{"orderId":"1","branchId":"b1"}}`)
	socket.Collect(t, 1)
	for block := (apptest.Block{}); block.Event != "newOrder"; {
		block, err = stream.Next(t)
		require.NoError(t, err)
	}
}

// Everybody is told goodbye when the instance goes away.
func TestTLS_Drain(t *testing.T) {
	t.Parallel()
	s := startSecured(t, "TAILROOM_DRAIN_TIMEOUT=6s")
	web := apptest.Token(t, access.Web, "c1")
	stream := s.Stream(t, web, "")
	socket, _ := s.one.Hello(t, web, "", `[{"namespace":"/orders"}]`)
	socket.Until(t, "live")
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Stop()
	}()
	require.Equal(t, websocket.CloseError{Code: 1001, Reason: "draining"}, socket.Closed(t))
	goodbye := false
	for {
		block, err := stream.Next(t)
		if err != nil {
			require.ErrorIs(t, err, io.EOF)
			break
		}
		goodbye = goodbye || block.Event == "tailroom.goaway"
	}
	require.True(t, goodbye)
	<-stopped
	_, err := net.Dial("tcp", address(t, s.Instance))
	require.Error(t, err)
}

// Every answer tells browsers to be careful, whoever gives it.
func TestHeaders(t *testing.T) {
	t.Parallel()
	i := apptest.Cluster(t, 1)[0]
	web := apptest.Token(t, access.Web, "c1")
	check := func(name string, h http.Header) {
		t.Helper()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), name)
		require.Equal(t, "default-src 'none'; frame-ancestors 'none'", h.Get("Content-Security-Policy"), name)
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"), name)
		require.Empty(t, h.Values("Strict-Transport-Security"), "%s: there is no TLS", name)
	}
	for _, path := range []string{"/v1/events", "/v1/catalog", "/healthz", "/readyz", "/metrics", "/nowhere", "/v1/ws"} {
		check(path, i.Get(t, path, web).Header)
		check(path+" without a token", i.Get(t, path, "").Header)
	}
	check("a wrong method", i.Do(t, http.MethodDelete, "/v1/events", web, "").Header)
	check("a foreign page", i.Do(t, http.MethodGet, "/v1/events", web, "", "Origin", "https://evil.example").Header)
	check("a preflight", i.Do(t, http.MethodOptions, "/v1/events", "", "", "Origin", i.URL, "Access-Control-Request-Method", "POST").Header)
	check("a stream", i.Stream(t, web, "").Header)
}
