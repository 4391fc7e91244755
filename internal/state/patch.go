package state

import (
	"bytes"
	"cmp"
	"encoding/json"
)

// merge applies a JSON merge patch (RFC 7396) to an object: members of the patch
// replace the object's, objects are merged, null takes a member away. Both are
// compact objects as jsonb prints them, and so is the result, in which no number is
// rounded. It reports false when one of the two is no object.
//
// jsonb has an order of members, so one pass over both texts does it, however many
// members they have and however deep these are: a company's large states must not
// take the time of all others.
func merge(target, patch []byte) ([]byte, bool) {
	if !isObject(target) || !isObject(patch) {
		return target, false
	}
	return appendMerged(make([]byte, 0, len(target)+len(patch)), &text{rest: target}, &text{rest: patch}), true
}

func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// appendMerged reads an object of each text.
func appendMerged(b []byte, target, patch *text) []byte {
	b = append(b, '{')
	target.pass(1)
	patch.pass(1)
	present, change := target.key(), patch.key()
	for present != nil || change != nil {
		order := compareKeys(present, change)
		if order < 0 {
			b = append(appendKey(b, present), target.value()...)
			present = target.key()
			continue
		}
		base := target
		if order > 0 || !isObject(target.rest) {
			base = &text{rest: []byte("{}")}
		}
		switch {
		case isObject(patch.rest):
			b = appendMerged(appendKey(b, change), base, patch)
		case patch.rest[0] == 'n':
			patch.value()
		default:
			b = append(appendKey(b, change), patch.value()...)
		}
		if order == 0 {
			target.value() // what is left of it
			present = target.key()
		}
		change = patch.key()
	}
	return append(b, '}')
}

// appendKey begins a member of the object that b ends in.
func appendKey(b, key []byte) []byte {
	if b[len(b)-1] != '{' {
		b = append(b, ',')
	}
	return append(append(b, key...), ':')
}

// compareKeys is jsonb's order: short ones first, then bytewise. No key is last.
func compareKeys(a, b []byte) int {
	switch {
	case a == nil:
		return 1
	case b == nil:
		return -1
	}
	a, b = unquoted(a), unquoted(b)
	return cmp.Or(cmp.Compare(len(a), len(b)), bytes.Compare(a, b))
}

func unquoted(key []byte) []byte {
	if bytes.IndexByte(key, '\\') < 0 {
		return key[1 : len(key)-1]
	}
	var plain string
	if err := json.Unmarshal(key, &plain); err != nil {
		panic("state: jsonb has printed a key that is none: " + err.Error())
	}
	return []byte(plain)
}

// text is what is left to read of a compact object.
type text struct{ rest []byte }

func (t *text) pass(n int) (passed []byte) {
	passed, t.rest = t.rest[:n], t.rest[n:]
	return passed
}

// key passes the next key and its colon, and returns it as it is written; at the
// object's end it passes that and returns nil.
func (t *text) key() []byte {
	if t.rest[0] == ',' {
		t.pass(1)
	}
	if t.rest[0] == '}' {
		t.pass(1)
		return nil
	}
	key := t.pass(quoted(t.rest))
	t.pass(1)
	return key
}

// value passes a member's value, or what is left of it, and returns that.
func (t *text) value() []byte {
	for i, depth := 0, 0; ; {
		switch c := t.rest[i]; {
		case c == '"':
			i += quoted(t.rest[i:])
			continue
		case depth == 0 && (c == ',' || c == '}'):
			return t.pass(i)
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		i++
	}
}

// quoted is how long the string is that a text begins with, with its quotes.
func quoted(s []byte) int {
	for i := 1; ; i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
}
