package socketio

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/session"
)

// A desktop app that is started anew brings neither pid nor offset, so the server keeps its
// cursor. What it has received it shows by answering a ping, which comes behind it: received,
// that is, and not processed.

// hashedSubject is how many bytes of its hash stand for a subject that cannot be part of a
// consumer's name.
const hashedSubject = 16

// consumerName is what a subject is called as the consumer of a namespace.
func consumerName(subject, namespace string) string {
	if name := subject + ":" + namespace; event.ValidConsumer(name) {
		return name
	}
	hash := sha256.Sum256([]byte(subject))
	return hex.EncodeToString(hash[:hashedSubject]) + ":" + namespace
}

// sent notes what the session has sent.
func (s *socket) sent(f *session.Frame) {
	switch f.Kind {
	case session.Events, session.Live, session.Bookmark:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.flushed = f.Cursor
	case session.Reset, session.Degraded, session.Expiring, session.GoAway, session.Snapshot:
	}
}

// covered is what the session has sent by now.
func (s *socket) covered() event.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushed
}

// Pinged notes what the ping covers.
func (c *conn) Pinged() {
	for _, s := range c.sockets() {
		if s.consumer != "" {
			s.pinged = s.covered()
		}
	}
}

// Ponged acknowledges that.
func (c *conn) Ponged() {
	for _, s := range c.sockets() {
		covered := s.pinged
		if s.pinged = (event.Cursor{}); covered == s.pinged {
			continue
		}
		// The session may be writing, and whoever reads must not wait for that.
		c.server.work.Go(func() {
			s.session.Do(func() error {
				_ = s.session.Ack(covered) // what the log has lost meanwhile is not acknowledged
				return nil
			})
		})
	}
}
