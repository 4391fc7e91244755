package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tailroom/tailroom/internal/session"
)

// bytesPerBeat is what a client must be able to read in a heartbeat interval:
// about 10 KB/s at the usual one.
const bytesPerBeat = 256 << 10

// secureSlice is how much TLS is given at once, the size of its records. Under
// a deadline that passes it cannot go on where it was, so that a client must
// take so much, not one byte, within the timeout.
const secureSlice = 16 << 10

// goodbye is how long a client may take to answer a close.
const goodbye = 5 * time.Second

// Line is the network connection under a WebSocket. Every Write is whole
// frames: the session's, or one control frame of the library's.
type Line struct {
	net.Conn
	early   io.Reader // what the client sent before the upgrade was done
	timeout time.Duration
	secure  bool // Conn is TLS

	mu       sync.Mutex
	finished bool

	lasting  sync.Mutex // guards the deadlines for writing
	deadline time.Time  // the one set on Conn
	last     time.Time  // which no other is beyond; zero: none

	patience time.Duration // for the message that is being read
	within   atomic.Bool   // a message is being read
	bounded  atomic.Bool   // and has a deadline
	reading  sync.Mutex    // guards the deadline for reading
	ending   bool          // which is that of the goodbye

	heard   atomic.Bool  // something came since Alive was last asked
	unheard atomic.Int64 // bytes written since something came
	missed  int64        // how often in a row Alive found nothing; its caller's

	pong atomic.Pointer[[]byte] // a frame that waits to be written
}

// Read gives out what came early, then reads from the connection.
func (l *Line) Read(p []byte) (int, error) {
	if l.early != nil {
		if n, err := l.early.Read(p); err == nil {
			return n, nil
		}
		l.early = nil
	}
	if l.within.Load() && !l.bounded.Swap(true) {
		l.readUntil(time.Now().Add(l.patience))
	}
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.heard.Store(true)
		l.unheard.Store(0)
	}
	return n, err
}

// ReadMessage reads the message that r is, of so many bytes at most: where it
// returns more, the message is longer than that. It fails with
// os.ErrDeadlineExceeded when the message does not come to its end in time.
func (l *Line) ReadMessage(r io.Reader, most int64) ([]byte, error) {
	// The deadline is set by the first read of the network: most messages came with their header.
	l.within.Store(true)
	data, err := io.ReadAll(io.LimitReader(r, most+1))
	l.within.Store(false)
	if l.bounded.Load() {
		l.bounded.Store(false)
		l.readUntil(time.Time{})
	}
	return data, err
}

// readUntil sets the deadline for reading, unless goodbye has been said.
func (l *Line) readUntil(t time.Time) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if !l.ending {
		_ = l.SetReadDeadline(t) // a connection that is closed fails the read as well
	}
}

// Alive is asked once in every heartbeat interval and reports whether the peer
// still shows itself, by any byte. It sees a ping only when it has read what
// was written before: for each bytesPerBeat of that it gets one interval more.
func (l *Line) Alive() bool {
	if l.heard.Swap(false) {
		l.missed = 0
		return true
	}
	l.missed++
	return l.missed <= l.unheard.Load()/bytesPerBeat
}

// Write writes a frame of the library's.
func (l *Line) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(p)
}

// Send writes whole frames of ours. It fails with session.Slow when the peer
// took not one byte for the whole timeout.
func (l *Line) Send(p []byte) error {
	l.mu.Lock()
	err := net.ErrClosed
	if !l.finished {
		_, err = l.write(p)
	}
	l.mu.Unlock()
	l.flushPong()
	return err
}

// Finish ends what Send writes: a close frame comes next. What the peer was
// sending is read for a while, in which he may answer it.
func (l *Line) Finish() {
	l.mu.Lock()
	l.finished = true
	l.mu.Unlock()
	l.reading.Lock()
	defer l.reading.Unlock()
	if !l.ending {
		l.ending = true
		_ = l.SetReadDeadline(time.Now().Add(goodbye)) // a connection that is closed fails the read as well
	}
}

// Over reports whether goodbye has been said.
func (l *Line) Over() bool {
	l.reading.Lock()
	defer l.reading.Unlock()
	return l.ending
}

// write keeps the deadline between one and two timeouts away while bytes flow,
// so that most writes set none. The caller holds mu.
func (l *Line) write(p []byte) (written int, err error) {
	for {
		if err := l.extend(time.Now()); err != nil {
			return written, err
		}
		part := p[written:]
		if l.secure {
			part = part[:min(len(part), secureSlice)]
		}
		n, err := l.Conn.Write(part)
		written += n
		l.unheard.Add(int64(n))
		switch {
		case err == nil && written == len(p):
			return written, nil
		case err == nil:
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return written, err
		case n == 0 || l.secure:
			return written, session.Slow
		}
		// Where a deadline has passed and bytes flow, the next one is as good.
	}
}

// extend sets a deadline unless the one that is set is far enough away.
func (l *Line) extend(now time.Time) error {
	l.lasting.Lock()
	defer l.lasting.Unlock()
	if l.deadline.Sub(now) >= l.timeout {
		return nil
	}
	return l.renew(now)
}

// EndBy lets no write last for longer than a timeout after a time, though bytes flow.
func (l *Line) EndBy(t time.Time) {
	l.lasting.Lock()
	defer l.lasting.Unlock()
	l.last = t.Add(l.timeout)
	_ = l.renew(time.Now()) // a connection that is closed fails the write as well
}

// renew is for who holds lasting.
func (l *Line) renew(now time.Time) error {
	l.deadline = now.Add(2 * l.timeout)
	if !l.last.IsZero() && l.last.Before(l.deadline) {
		l.deadline = l.last
	}
	return l.SetWriteDeadline(l.deadline)
}

// Cut closes the network connection: whoever reads or writes goes on with an
// error. TLS would first say goodbye, and wait for a peer who does not read.
func (l *Line) Cut() {
	if secure, ok := l.Conn.(*tls.Conn); ok {
		_ = secure.NetConn().Close()
		return
	}
	_ = l.Conn.Close()
}

// Answer writes a pong, or leaves it to the write that is under way: whoever
// reads must not wait for a peer who does not.
func (l *Line) Answer(payload []byte) {
	pong := append(AppendHeader(nil, Pong, false, len(payload)), payload...)
	l.pong.Store(&pong)
	l.flushPong()
}

// flushPong is called by whoever made a pong and, after every write, by
// whoever may have been in its way.
func (l *Line) flushPong() {
	for l.pong.Load() != nil && l.mu.TryLock() {
		if pong := l.pong.Swap(nil); pong != nil && !l.finished {
			_, _ = l.write(*pong) // the reader finds out by itself that a line is dead
		}
		l.mu.Unlock()
	}
}
