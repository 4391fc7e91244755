package session

import "sync"

// mailbox is how other goroutines reach a session's: they leave a letter, or
// nothing, and signal. One channel for every reason to wake keeps a sleeping
// session cheap, and the session looks for itself what there is.
type mailbox struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	letters []func() error
	closed  bool
}

func newMailbox() mailbox { return mailbox{wake: make(chan struct{}, 1)} }

// signal wakes the session; it never blocks.
func (m *mailbox) signal() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// post leaves a letter, unless the mailbox is closed.
func (m *mailbox) post(letter func() error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.letters = append(m.letters, letter)
	m.signal()
	return true
}

// take empties the mailbox.
func (m *mailbox) take() []func() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	letters := m.letters
	m.letters = nil
	return letters
}

func (m *mailbox) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
}
