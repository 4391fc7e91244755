package state

import (
	"time"

	"github.com/tailroom/tailroom/internal/event"
)

const (
	// maxState is the size of a state, in bytes of compact JSON. What an event would
	// add beyond is left out, and the state says so: it is incomplete.
	maxState = 256 << 10
	// keyframeEvery is how many versions lie between two keyframes of a stream, and
	// so how many events are read at most to say what it was at some cursor. Of a
	// large state it is largeEvery: keyframes are to cost 1 KiB for an event at most.
	keyframeEvery = 64
	largeEvery    = 256
	largeState    = 64 << 10
)

// Closes reports whether an event of a type, with these data, closes its stream.
type Closes func(namespace, name string, data []byte) bool

// fact is what a state takes from an event.
type fact struct {
	name       string
	version    int64
	position   int64
	recordedAt time.Time
	rooms      []string
	data       []byte // compact
}

// fold adds an event to the state of its stream, whose zero value with a key is
// that of a stream that has not begun. An event that is in it already changes
// nothing. The result depends on the events alone, in whatever portions they come.
func (closes Closes) fold(s *event.State, f fact) {
	if f.version <= s.Version {
		return
	}
	if s.Version == 0 {
		s.Data, s.Open = []byte("{}"), true
	}
	merged, ok := merge(s.Data, f.data)
	if ok && len(merged) <= maxState {
		s.Data = merged
	} else {
		s.Incomplete = true
	}
	s.Version, s.Position, s.UpdatedAt, s.Rooms = f.version, f.position, f.recordedAt, f.rooms
	s.Heard = hear(s.Heard, f.rooms)
	s.Open = s.Open && !closes(s.Namespace, f.name, f.data)
}

func isKeyframe(s *event.State) bool {
	if len(s.Data) > largeState {
		return s.Version%largeEvery == 0
	}
	return s.Version%keyframeEvery == 0
}
