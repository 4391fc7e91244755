package socketio

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"sync"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
	"github.com/tailroom/tailroom/internal/session"
)

// The events that are not the catalogue's. A client that does not know them ignores them,
// and its library keeps the offset of all that end with one.
const (
	eventOffset    = "$o"
	eventLive      = "$live"
	eventReset     = "$reset"
	eventDegraded  = "$degraded"
	eventGoAway    = "$goaway"
	eventException = "exception" // which is NestJS's
)

// keepBuffer is the capacity above which a buffer is not kept for reuse.
const keepBuffer = 256 << 10

// packets is text of one packet after the other.
type packets struct {
	text []byte
	ends []int
	list [][]byte
}

var buffers = sync.Pool{New: func() any { return new(packets) }}

// next begins a packet behind those that are there.
func (p *packets) next(k kind, namespace string) { p.text = appendHeader(p.text, k, namespace, "") }

// end ends it.
func (p *packets) end() { p.ends = append(p.ends, len(p.text)) }

// offset is an event that says nothing but an offset.
func (p *packets) offset(namespace, name string, c event.Cursor) {
	p.next(kindEvent, namespace)
	p.text = event.AppendString(append(p.text, '['), name)
	p.text = append(appendOffset(append(p.text, `,"`...), c), `"]`...)
	p.end()
}

// news is an event with one argument.
func (p *packets) news(namespace, name string, v any) {
	p.next(kindEvent, namespace)
	p.text = appendJSON(p.text, []any{name, v})
	p.end()
}

// split are the packets, which share the memory.
func (p *packets) split() [][]byte {
	p.list = p.list[:0]
	begin := 0
	for _, end := range p.ends {
		p.list = append(p.list, p.text[begin:end:end])
		begin = end
	}
	return p.list
}

// Send writes a session's frame as packets, one behind the other.
func (s *socket) Send(f *session.Frame) error {
	p := buffers.Get().(*packets) //nolint:forcetypeassert // the pool has nothing else
	p.text, p.ends = p.text[:0], p.ends[:0]
	s.appendFrame(p, f)
	err := s.conn.engine.Send(p.split()...)
	if err == nil {
		s.sent(f)
		s.conn.server.metrics.sent(f, len(p.text))
	}
	if cap(p.text) <= keepBuffer {
		buffers.Put(p)
	}
	return err
}

// Heartbeat is the engine's: it pings by itself.
func (s *socket) Heartbeat() error { return nil }

func (s *socket) appendFrame(p *packets, f *session.Frame) {
	switch f.Kind {
	case session.Events:
		s.appendEvents(p, f.Entries, f.Cursor)
	case session.Live:
		p.offset(s.namespace, eventLive, f.Cursor)
	case session.Bookmark:
		p.offset(s.namespace, eventOffset, f.Cursor)
	case session.Reset:
		p.news(s.namespace, eventReset, map[string]any{
			"reason": f.Reset.Reason, "oldest": f.Reset.Oldest, "resume": f.Reset.Resume, "snapshot": session.SnapshotPath,
		})
		// The offset that the client has is of a past that there is not: it must not come back with it.
		p.offset(s.namespace, eventOffset, f.Reset.Resume)
	case session.Degraded:
		p.news(s.namespace, eventDegraded, map[string]any{"reason": f.Text})
	case session.Expiring:
		p.news(s.namespace, eventException, exception("token_expiring",
			"the token expires: be ready to connect again with another, which auth as a function gives",
			map[string]any{"expiresAt": f.Expires.UTC()}))
	case session.GoAway:
		p.news(s.namespace, eventGoAway, map[string]any{"reason": f.Text, "delayMs": f.Delay.Milliseconds(), "cursor": f.Cursor})
	case session.Snapshot:
		fallthrough // nobody asks for one
	default:
		panic("socketio: a frame of unknown kind " + strconv.Itoa(int(f.Kind)))
	}
}

// appendEvents appends the entries in order, and where the client is behind them: with each,
// or behind them all.
func (s *socket) appendEvents(p *packets, entries []*event.Entry, next event.Cursor) {
	p.ends = slices.Grow(p.ends, len(entries)+1)
	for _, e := range entries {
		p.next(kindEvent, s.namespace)
		p.text = event.AppendString(append(p.text, '['), e.Type)
		p.text = appendData(append(p.text, ','), e)
		if s.trailing {
			p.text = append(appendOffset(append(p.text, `,"`...), e.Cursor), '"')
		}
		p.text = append(p.text, ']')
		p.end()
	}
	if !s.trailing {
		p.offset(s.namespace, eventOffset, next)
	}
}

// appendData appends an event's data, which is all that travels of it. So where it matters
// under which correlation id the event stands, and the data do not say, that is put in: whoever
// answers a request repeats it, and who has asked knows the answer by it.
func appendData(b []byte, e *event.Entry) []byte {
	talks := !e.ReplyBy.IsZero() || e.CorrelationID != e.ID.String()
	if !talks || says(e.Data) {
		return append(b, e.Data...)
	}
	b = event.AppendString(append(b, `{"correlationId":`...), e.CorrelationID)
	if string(e.Data) != "{}" {
		b = append(b, ',')
	}
	return append(b, e.Data[1:]...)
}

// says reports whether data have a correlation id, of whatever kind.
func says(data []byte) bool {
	var its struct {
		CorrelationID json.RawMessage `json:"correlationId"`
	}
	return bytes.Contains(data, []byte("correlationId")) && json.Unmarshal(data, &its) == nil && its.CorrelationID != nil
}

// exception is what an event of that name says.
func exception(code problem.Code, message string, more map[string]any) map[string]any {
	body := map[string]any{"status": "error", "code": code, "message": message}
	for name, value := range more {
		if _, taken := body[name]; !taken {
			body[name] = value
		}
	}
	return body
}
