package tailclient_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/apptest"
	"github.com/tailroom/tailroom/internal/tailclient"
)

func TestMain(m *testing.M) { apptest.Main(m) }

// switchboard is what stands before the instances: it connects to one of them,
// or to none, and can cut what is connected.
type switchboard struct {
	listener net.Listener

	mu     sync.Mutex
	target string
	open   []net.Conn
}

func newSwitchboard(t *testing.T) *switchboard {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &switchboard{listener: listener}
	var calls sync.WaitGroup
	calls.Go(func() {
		for {
			caller, err := listener.Accept()
			if err != nil {
				return
			}
			calls.Go(func() { s.connect(caller) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		s.turn("")
		calls.Wait()
	})
	return s
}

func (s *switchboard) url() string { return "http://" + s.listener.Addr().String() }

// turn cuts every connection and sends the next ones to another address; "" is
// nobody.
func (s *switchboard) turn(target string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = target
	for _, c := range s.open {
		_ = c.Close()
	}
	s.open = nil
}

func (s *switchboard) connect(caller net.Conn) {
	defer caller.Close()
	called := s.call(caller)
	if called == nil {
		return
	}
	defer called.Close()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(caller, called)
		_ = caller.Close()
	})
	_, _ = io.Copy(called, caller)
	_ = called.Close()
	back.Wait()
}

func (s *switchboard) call(caller net.Conn) net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.target == "" {
		return nil
	}
	called, err := new(net.Dialer).DialContext(context.Background(), "tcp", s.target)
	if err != nil {
		return nil
	}
	s.open = append(s.open, caller, called)
	return called
}

func token(text string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, nil }
}

// decode reads the events of a message.
func decode(t *testing.T, m tailclient.Message) []apptest.Event {
	t.Helper()
	events := make([]apptest.Event, len(m.Events))
	for i, raw := range m.Events {
		require.NoError(t, json.Unmarshal(raw, &events[i]))
	}
	return events
}
