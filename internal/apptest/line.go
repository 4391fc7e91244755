package apptest

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// Line is what stands before the instances: it connects to one of them, or to
// none, cuts what is connected, and can go half-open: then nothing passes and
// nothing is closed. Its methods may be called at any time.
type Line struct {
	listener net.Listener

	mu      sync.Mutex
	target  string
	open    []net.Conn
	passing chan struct{} // closed while bytes may pass
}

// NewLine makes a line to a URL. It ends with the test.
func NewLine(t testing.TB, target string) *Line {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &Line{listener: listener, passing: make(chan struct{})}
	close(l.passing)
	l.Turn(target)
	var calls sync.WaitGroup
	calls.Go(func() {
		for {
			caller, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Go(func() { l.connect(caller) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		l.Turn("")
		calls.Wait()
	})
	return l
}

// URL is where the line begins.
func (l *Line) URL() string { return "http://" + l.listener.Addr().String() }

// Turn cuts every connection and sends the next ones to another URL; "" is nobody.
func (l *Line) Turn(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = strings.TrimPrefix(target, "http://")
	for _, c := range l.open {
		_ = c.Close()
	}
	l.open = nil
	select {
	case <-l.passing:
	default:
		close(l.passing)
	}
}

// Hang makes the line half-open, for those that are connected and those that come,
// until it is turned.
func (l *Line) Hang() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passing = make(chan struct{})
}

func (l *Line) passage() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.passing
}

func (l *Line) connect(caller net.Conn) {
	defer caller.Close()
	called := l.call(caller)
	if called == nil {
		return
	}
	defer called.Close()
	var back sync.WaitGroup
	back.Go(func() {
		l.pass(caller, called)
		_ = caller.Close()
	})
	l.pass(called, caller)
	_ = called.Close()
	back.Wait()
}

func (l *Line) pass(to io.Writer, from io.Reader) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		<-l.passage()
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

func (l *Line) call(caller net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.target == "" {
		return nil
	}
	called, err := new(net.Dialer).DialContext(context.Background(), "tcp", l.target)
	if err != nil {
		return nil
	}
	l.open = append(l.open, caller, called)
	return called
}
