package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest/certtest"
	"github.com/tailroom/tailroom/internal/session"
)

// newLine is a line whose peer takes nothing but what is read from the second
// result.
func newLine(t *testing.T, timeout time.Duration) (*Line, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = errors.Join(ours.Close(), theirs.Close()) })
	return &Line{Conn: ours, timeout: timeout}, theirs
}

func TestLine_IsSlowWhenNothingIsTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		l, peer := newLine(t, timeout)
		go func() { _, _ = io.CopyN(io.Discard, peer, 3) }()
		since := time.Now()
		require.ErrorIs(t, l.Send([]byte("three and more")), session.Slow)
		require.GreaterOrEqual(t, time.Since(since), 2*timeout, "the timeout counts from the last byte taken")
		require.LessOrEqual(t, time.Since(since), 4*timeout)
	})
}

func TestLine_IsNotSlowWhileBytesAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		l, peer := newLine(t, timeout)
		message := make([]byte, 50)
		go func() {
			for range 3 * len(message) {
				<-time.After(timeout * 9 / 10)
				_, _ = io.CopyN(io.Discard, peer, 1)
			}
		}()
		since := time.Now()
		for range 3 {
			require.NoError(t, l.Send(message))
		}
		require.Greater(t, time.Since(since), 100*timeout)
	})
}

// Who takes a byte now and then is not slow, and yet must not hold on for ever: when his
// session is over, he has one timeout left. If it is not over after all, all is as before.
func TestLine_EndsThoughBytesAreTaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		l, peer := newLine(t, timeout)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				<-time.After(timeout * 9 / 10)
				if _, err := io.CopyN(io.Discard, peer, 1); err != nil {
					return
				}
			}
		}()
		since := time.Now()
		l.EndBy(since.Add(time.Hour))
		require.NoError(t, l.Send(make([]byte, 50)))
		require.Greater(t, time.Since(since), 40*timeout)

		sent := make(chan error)
		go func() { sent <- l.Send(make([]byte, 100)) }()
		<-time.After(10 * timeout)
		l.EndBy(time.Now())
		<-time.After(timeout / 2)
		l.EndBy(since.Add(time.Hour))
		require.NoError(t, <-sent)

		go func() { sent <- l.Send(make([]byte, 100)) }()
		<-time.After(10 * timeout)
		since = time.Now()
		l.EndBy(since)
		require.ErrorIs(t, <-sent, session.Slow)
		require.Equal(t, timeout, time.Since(since))
		require.ErrorIs(t, l.Send([]byte("x")), session.Slow)
		require.NoError(t, peer.Close())
		<-done
	})
}

// A deadline that is left of an earlier write must not cut a later one short.
func TestLine_EveryWriteHasAWholeTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		l, peer := newLine(t, timeout)
		for pause := time.Duration(0); pause < 3*timeout; pause += timeout / 10 {
			go func() { _, _ = io.CopyN(io.Discard, peer, 1) }()
			require.NoError(t, l.Send([]byte("1")))
			<-time.After(pause)
			go func() {
				<-time.After(timeout - 1)
				_, _ = io.CopyN(io.Discard, peer, 1)
			}()
			require.NoError(t, l.Send([]byte("2")))
		}
	})
}

// Who reads must not wait for a peer who does not: a pong waits instead, and
// of several only the last one, as RFC 6455 allows.
func TestLine_PongsWaitForTheWriteUnderWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, peer := newLine(t, time.Minute)
		sent := make(chan error)
		go func() { sent <- l.Send([]byte("message")) }()
		synctest.Wait()
		l.Answer([]byte("first"))
		l.Answer([]byte("second"))
		got := make([]byte, len("message")+2+len("second"))
		_, err := io.ReadFull(peer, got)
		require.NoError(t, err)
		require.Equal(t, "message\x8a\x06second", string(got))
		require.NoError(t, <-sent)
	})
}

func TestLine_IsAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, peer := newLine(t, time.Minute)
		take := func(n int) {
			go func() { _, _ = peer.Write(make([]byte, n)) }()
			_, err := io.ReadFull(l, make([]byte, n))
			require.NoError(t, err)
		}
		send := func(n int) {
			go func() { _, _ = io.CopyN(io.Discard, peer, int64(n)) }()
			require.NoError(t, l.Send(make([]byte, n)))
		}
		take(1)
		require.True(t, l.Alive())
		require.False(t, l.Alive(), "nothing came since")
		take(1)
		require.True(t, l.Alive())

		// What it may not have read yet gives it time.
		send(3*bytesPerBeat + 1)
		for range 3 {
			require.True(t, l.Alive())
		}
		require.False(t, l.Alive())
		take(1)
		send(bytesPerBeat - 1)
		require.True(t, l.Alive())
		require.False(t, l.Alive())
	})
}

// newSecureLine is newLine over TLS: what the peer has not read stays with us.
func newSecureLine(t *testing.T, timeout time.Duration) (*Line, *tls.Conn) {
	t.Helper()
	authority := certtest.NewAuthority(t)
	pair, err := tls.X509KeyPair(authority.Sign(t, time.Now().Add(time.Hour), "localhost"))
	require.NoError(t, err)
	ours, theirs := net.Pipe()
	server := tls.Server(ours, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	client := tls.Client(theirs, &tls.Config{RootCAs: authority.Pool, ServerName: "localhost", MinVersion: tls.VersionTLS12})
	t.Cleanup(func() { _ = errors.Join(ours.Close(), theirs.Close()) })
	shaken := make(chan error)
	go func() { shaken <- client.Handshake() }()
	require.NoError(t, server.Handshake())
	require.NoError(t, <-shaken)
	return &Line{Conn: server, timeout: timeout, secure: true}, client
}

// Over TLS a client that takes 16 KiB in every timeout is not slow, however
// much is sent at once. One that takes nothing is, and to cut it waits for
// nobody.
func TestLine_OverTLS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = time.Second
		l, peer := newSecureLine(t, timeout)
		go func() { // what the server says after the handshake is read by the first of these
			for range 40 {
				<-time.After(timeout * 9 / 10)
				_, _ = io.CopyN(io.Discard, peer, secureSlice)
			}
		}()
		since := time.Now()
		require.NoError(t, l.Send(make([]byte, 40*secureSlice)))
		require.Greater(t, time.Since(since), 30*timeout)

		since = time.Now()
		require.ErrorIs(t, l.Send(make([]byte, 2*secureSlice)), session.Slow)
		require.LessOrEqual(t, time.Since(since), 4*timeout)
		since = time.Now()
		l.Cut()
		require.Zero(t, time.Since(since))
		_, err := peer.Read(make([]byte, 1))
		require.Error(t, err)
	})
}
