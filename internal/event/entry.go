package event

import (
	"slices"
	"sync"
)

// Entry is an event as its readers share it: encoded once, whoever asks and
// however many. It is immutable; the bytes must not be changed.
type Entry struct {
	Event

	json []byte

	deflateOnce sync.Once
	deflated    []byte
}

// What an Entry costs beside its bytes: the struct and its strings, and for each
// room its place in the index, which may be the only one there.
const entryOverhead, roomOverhead = 640, 320

// NewEntry encodes e. The entry's Data shares the envelope's memory.
func NewEntry(e Event) *Entry {
	buf := make([]byte, 0, 420+len(e.Data)+len(e.Stream)+len(e.CorrelationID)+24*len(e.Rooms))
	buf, at := e.appendEnvelope(buf)
	e.Data = buf[at : len(buf)-1 : len(buf)-1]
	return &Entry{Event: e, json: slices.Clip(buf)} // who appends to it copies it
}

// JSON is the event's public envelope.
func (e *Entry) JSON() []byte { return e.json }

// Size is the memory the entry holds, in bytes, approximately.
func (e *Entry) Size() int { return len(e.json) + entryOverhead + len(e.Rooms)*roomOverhead }

// Deflated returns what build makes of the entry, made at the first call and
// shared from then on: the compressed form in which a transport sends it.
func (e *Entry) Deflated(build func(*Entry) []byte) []byte {
	e.deflateOnce.Do(func() { e.deflated = build(e) })
	return e.deflated
}
