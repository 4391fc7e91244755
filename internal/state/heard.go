package state

import (
	"slices"
	"strings"
)

const (
	// maxHeard is how many rooms are remembered of a stream's events. One whose events
	// went to more is shown to company-wide grants alone.
	maxHeard = 100
	// nobody stands in their place then: no grant covers it, and no room is called so.
	nobody = "*"
	// unit is between the rooms of an event, record between those of several.
	unit, record = "\x1f", "\x1e"
)

// hear adds the rooms of an event to those of the events before. Only the narrowest
// are kept: who hears what was said in one room hears what was said there and in
// another.
func hear(heard, rooms []string) []string {
	rooms = slices.Compact(slices.Sorted(slices.Values(rooms)))
	event := strings.Join(rooms, unit)
	switch {
	case slices.Contains(heard, event) || slices.Contains(heard, nobody):
		return heard
	case len(rooms) == 0:
		return []string{nobody}
	}
	kept, count := []string{event}, len(rooms)
	for _, h := range heard {
		before := strings.Split(h, unit)
		if within(before, rooms) {
			return heard
		}
		if !within(rooms, before) {
			kept, count = append(kept, h), count+len(before)
		}
	}
	if count > maxHeard {
		return []string{nobody}
	}
	slices.Sort(kept)
	return kept
}

// within reports whether all of a are in b.
func within(a, b []string) bool {
	return !slices.ContainsFunc(a, func(room string) bool { return !slices.Contains(b, room) })
}

// hears reports whether who is in some rooms could read every event.
func hears(rooms, heard []string) bool {
	for _, h := range heard {
		if !slices.ContainsFunc(strings.Split(h, unit), func(room string) bool { return slices.Contains(rooms, room) }) {
			return false
		}
	}
	return true
}
