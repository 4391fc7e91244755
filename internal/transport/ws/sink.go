package ws

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/session"
	"github.com/tailroom/tailroom/internal/transport/wire"
)

const (
	// compressAbove is the size of an event, in bytes, from which it travels
	// compressed, in a message of its own that all sockets share.
	compressAbove = 10 << 10
	// keepBuffer is the capacity above which a buffer is not kept for reuse.
	keepBuffer = 256 << 10
)

var buffers sync.Pool // of *[]byte

func buffer() *[]byte {
	if b, ok := buffers.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, 4<<10)
	return &b
}

// Send writes a session's frame as one or more messages in one write.
func (c *conn) Send(f *session.Frame) error {
	buf := buffer()
	b := c.appendFrame((*buf)[:0], f)
	err := c.line.Send(b)
	if cap(b) <= keepBuffer {
		*buf = b
		buffers.Put(buf)
	}
	if err == nil {
		c.handler.metrics.sent(f, len(b))
	}
	return err
}

// Heartbeat pings, and ends the session when nothing at all has come since the
// ping before.
func (c *conn) Heartbeat() error {
	if !c.line.Alive() {
		return session.HeartbeatMissed
	}
	return c.line.Send(wire.AppendHeader(nil, wire.Ping, false, 0))
}

// EndBy leaves one write timeout from then on.
func (c *conn) EndBy(t time.Time) { c.line.EndBy(t) }

func (c *conn) appendFrame(b []byte, f *session.Frame) []byte {
	switch f.Kind {
	case session.Events:
		return c.appendEvents(b, f.Entries, f.Cursor)
	case session.Live:
		return wire.AppendText(b, func(b []byte) []byte { return appendCursor(append(b, `{"type":"live"`...), f.Cursor) })
	case session.Bookmark:
		return wire.AppendText(b, func(b []byte) []byte { return appendCursor(append(b, `{"type":"cursor"`...), f.Cursor) })
	case session.Reset:
		return appendJSON(b, map[string]any{
			"type": "reset", "reason": f.Reset.Reason, "oldest": f.Reset.Oldest, "resume": f.Reset.Resume,
			"snapshot": session.SnapshotPath,
		})
	case session.Degraded:
		return appendJSON(b, map[string]any{"type": "degraded", "reason": f.Text})
	case session.Expiring:
		return appendJSON(b, map[string]any{"type": "expiring", "expiresAt": f.Expires.UTC()})
	case session.GoAway:
		c.leaving.Store(true)
		return appendJSON(b, map[string]any{
			"type": "goaway", "reason": f.Text, "delayMs": f.Delay.Milliseconds(), "cursor": f.Cursor,
		})
	case session.Snapshot:
		return wire.AppendText(b, func(b []byte) []byte { return appendSnapshot(b, f) })
	default:
		panic("ws: a frame of unknown kind " + strconv.Itoa(int(f.Kind)))
	}
}

// appendEvents appends messages that carry the entries in order. The last one
// carries the cursor behind them all.
func (c *conn) appendEvents(b []byte, entries []*event.Entry, next event.Cursor) []byte {
	for len(entries) > 0 {
		if c.deflate && len(entries[0].JSON()) > compressAbove {
			b = append(b, entries[0].Deflated(deflatedMessage)...)
			entries = entries[1:]
			continue
		}
		n := 1
		for n < len(entries) && !(c.deflate && len(entries[n].JSON()) > compressAbove) {
			n++
		}
		cursor := next
		if n < len(entries) {
			cursor = entries[n-1].Cursor
		}
		b = wire.AppendText(b, func(b []byte) []byte { return appendMessage(b, entries[:n], cursor) })
		entries = entries[n:]
	}
	return b
}

func appendMessage(b []byte, entries []*event.Entry, cursor event.Cursor) []byte {
	b = append(b, `{"type":"events","events":[`...)
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, e.JSON()...)
	}
	return appendCursor(append(b, ']'), cursor)
}

func appendSnapshot(b []byte, f *session.Frame) []byte {
	b = append(b, `{"type":"snapshot","namespace":`...)
	b = event.AppendString(b, f.Namespace)
	b = append(b, `,"states":[`...)
	for i := range f.States {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.States[i].AppendJSON(b)
	}
	b = append(b, `],"more":`...)
	return appendCursor(strconv.AppendBool(b, f.More), f.Cursor)
}

func deflatedMessage(e *event.Entry) []byte {
	return wire.DeflatedText(appendMessage(nil, []*event.Entry{e}, e.Cursor))
}

// appendCursor ends an object with a cursor.
func appendCursor(b []byte, c event.Cursor) []byte {
	b = append(b, `,"cursor":"`...)
	b = c.Append(b)
	return append(b, `"}`...)
}

func appendJSON(b []byte, v any) []byte {
	return wire.AppendText(b, func(b []byte) []byte {
		var m bytes.Buffer
		encoder := json.NewEncoder(&m)
		encoder.SetEscapeHTML(false) // the bytes of an event stay what they are
		if err := encoder.Encode(v); err != nil {
			panic("ws: unencodable message: " + err.Error()) // maps of strings, numbers, cursors and events
		}
		return append(b, bytes.TrimSuffix(m.Bytes(), []byte("\n"))...)
	})
}
