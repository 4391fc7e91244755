// Package load is a WebSocket client that costs next to nothing, so that a
// benchmark measures the server: it reads frames, counts the events in them,
// and looks at nothing else.
package load

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"
)

// Counter counts what sockets receive. Many share one.
type Counter struct {
	Events, Messages, Bytes atomic.Int64
}

// Socket is one connection that has said hello.
type Socket struct {
	conn net.Conn
	in   *bufio.Reader
}

// marker is in the envelope of every event once.
var marker = []byte(`{"cursor":"`)

// Dial connects to the instance at url and says hello with a subscription,
// given as the JSON of the list. It returns when the welcome has come.
func Dial(ctx context.Context, url, token, cursor, subscribe string) (*Socket, error) {
	return dial(ctx, url, fmt.Sprintf(`{"type":"hello","token":%q,"cursor":%q,"subscribe":%s}`, token, cursor, subscribe))
}

// DialConsumer is Dial for a consumer, which brings no cursor.
func DialConsumer(ctx context.Context, url, token, consumer, subscribe string) (*Socket, error) {
	return dial(ctx, url, fmt.Sprintf(`{"type":"hello","token":%q,"consumer":%q,"subscribe":%s}`, token, consumer, subscribe))
}

// upgrade connects to a path of the instance as a WebSocket, with further lines of the header.
func upgrade(ctx context.Context, url, path, header string) (*Socket, error) {
	address := strings.TrimPrefix(url, "http://")
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	s := &Socket{conn: conn, in: bufio.NewReaderSize(conn, 4<<10)}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n" + header + "\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if err := s.upgraded(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func dial(ctx context.Context, url, hello string) (*Socket, error) {
	s, err := upgrade(ctx, url, "/v1/ws", "Sec-WebSocket-Protocol: tailroom.v1\r\n")
	if err != nil {
		return nil, err
	}
	if _, err := s.conn.Write(frame([]byte(hello))); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	welcome, err := s.next(nil)
	if err == nil && !bytes.HasPrefix(welcome, []byte(`{`)) || err == nil && !bytes.Contains(welcome, []byte(`"welcome"`)) {
		err = fmt.Errorf("no welcome: %s", welcome)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// upgraded reads the answer to the upgrade.
func (s *Socket) upgraded() error {
	status, err := s.in.ReadString('\n')
	if err != nil || !strings.Contains(status, " 101 ") {
		return errors.Join(fmt.Errorf("the server answered %q", status), err)
	}
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil || len(line) <= len("\r\n") {
			return err
		}
	}
}

// frame is a text frame masked with zeros, which is a mask like any other.
func frame(payload []byte) []byte {
	b := []byte{0x81, 0x80 | 126}
	b = binary.BigEndian.AppendUint16(b, uint16(len(payload)))
	b = append(b, 0, 0, 0, 0)
	return append(b, payload...)
}

// next reads a message into buf or a larger slice.
func (s *Socket) next(buf []byte) ([]byte, error) {
	for {
		var h [2]byte
		if _, err := io.ReadFull(s.in, h[:]); err != nil {
			return nil, err
		}
		length := int(h[1] & 0x7f)
		switch length {
		case 126:
			var b [2]byte
			if _, err := io.ReadFull(s.in, b[:]); err != nil {
				return nil, err
			}
			length = int(binary.BigEndian.Uint16(b[:]))
		case 127:
			var b [8]byte
			if _, err := io.ReadFull(s.in, b[:]); err != nil {
				return nil, err
			}
			length = int(binary.BigEndian.Uint64(b[:]))
		}
		if cap(buf) < length {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if _, err := io.ReadFull(s.in, buf); err != nil {
			return nil, err
		}
		switch h[0] & 0x0f {
		case 1:
			return buf, nil
		case 9: // ping
			if _, err := s.conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0}); err != nil {
				return nil, err
			}
		case 8:
			return nil, fmt.Errorf("closed by the server: %q", buf)
		}
	}
}

// Count reads until the connection ends and counts what comes. seen, when not
// nil, is called with every message that carries events.
func (s *Socket) Count(c *Counter, seen func(message []byte, events int)) error {
	var buf []byte
	for {
		message, err := s.next(buf)
		if err != nil {
			return err
		}
		buf = message
		events := bytes.Count(message, marker)
		c.Messages.Add(1)
		c.Bytes.Add(int64(len(message)))
		if events == 0 {
			continue
		}
		c.Events.Add(int64(events))
		if seen != nil {
			seen(message, events)
		}
	}
}

// Close cuts the connection.
func (s *Socket) Close() error { return s.conn.Close() }

// SetDeadline bounds reads and writes.
func (s *Socket) SetDeadline(t time.Time) error { return s.conn.SetDeadline(t) }
