package state

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"

	"github.com/tailroom/tailroom/internal/event"
)

// merge applies a JSON merge patch (RFC 7396) to an object: members of the patch
// replace the object's, objects are merged, null takes a member away. Both are
// compact objects as jsonb prints them, and so is the result: its keys stand in
// jsonb's order, and no number is rounded. It reports false when one of the two is
// no object.
func merge(target, patch []byte) ([]byte, bool) {
	var changes map[string]json.RawMessage
	if !isObject(patch) || json.Unmarshal(patch, &changes) != nil {
		return target, false
	}
	if len(changes) == 0 {
		return target, isObject(target)
	}
	var members map[string]json.RawMessage
	if !isObject(target) || json.Unmarshal(target, &members) != nil {
		return target, false
	}
	apply(members, changes)
	return appendObject(make([]byte, 0, len(target)+len(patch)), members), true
}

// apply is merge on members.
func apply(members, changes map[string]json.RawMessage) {
	for name, value := range changes {
		switch {
		case isNull(value):
			delete(members, name)
		case isObject(value):
			present := members[name]
			if !isObject(present) {
				present = []byte("{}")
			}
			merged, _ := merge(present, value) // both are objects
			members[name] = merged
		default:
			members[name] = value
		}
	}
}

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

func isNull(value []byte) bool { return bytes.Equal(value, []byte("null")) }

// appendObject writes members as jsonb does: short keys first, then bytewise.
func appendObject(b []byte, members map[string]json.RawMessage) []byte {
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b)) })
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = event.AppendString(b, name)
		b = append(b, ':')
		b = append(b, members[name]...)
	}
	return append(b, '}')
}
