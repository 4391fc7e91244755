package pgproxy

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	// notificationResponse is the type of the message that brings a NOTIFY.
	notificationResponse = 'A'

	headerSize = 5 // the type, and the length of all that follows the type
	burstSize  = 64 << 10
)

// link is one client's connection to the server.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	cutOnce        sync.Once
	ended          chan struct{}
}

// run forwards both ways and ends both when one ends.
func (l *link) run() {
	var toServer sync.WaitGroup
	toServer.Go(func() {
		defer l.cut()
		_, _ = io.Copy(gate{l, l.server, noDelay}, l.client)
	})
	_ = l.forwardMessages()
	l.cut()
	toServer.Wait()
}

func (l *link) cut() {
	l.cutOnce.Do(func() {
		close(l.ended)
		l.client.Close()
		l.server.Close()
	})
}

// forwardMessages passes on what the server sends, in the bursts it comes in, so
// that a delay is paid once for each and not for every message in it.
func (l *link) forwardMessages() error {
	in := bufio.NewReaderSize(l.server, burstSize)
	out := bufio.NewWriterSize(gate{l, l.client, l.proxy.currentDelay}, burstSize)
	for {
		if err := l.forwardMessage(in, out); err != nil {
			return err
		}
		if in.Buffered() > 0 {
			continue
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

func (l *link) forwardMessage(in *bufio.Reader, out io.Writer) error {
	header, err := in.Peek(headerSize)
	if err != nil {
		return err
	}
	length := int64(binary.BigEndian.Uint32(header[1:]))
	if length < headerSize-1 {
		return fmt.Errorf("message %q of %d bytes", header[0], length)
	}
	if header[0] == notificationResponse && l.proxy.swallows() {
		out = io.Discard
	}
	_, err = io.CopyN(out, in, 1+length)
	return err
}

// gate writes when bytes may pass.
type gate struct {
	link  *link
	to    io.Writer
	delay func() time.Duration
}

func (g gate) Write(b []byte) (int, error) {
	select {
	case <-time.After(g.delay()):
	case <-g.link.ended:
		return 0, net.ErrClosed
	}
	select {
	case <-g.link.proxy.passage():
	case <-g.link.ended:
		return 0, net.ErrClosed
	}
	return g.to.Write(b)
}

func noDelay() time.Duration { return 0 }
