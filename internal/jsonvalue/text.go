package jsonvalue

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string from its opening quote on and returns it as it stands,
// with its quotes. A violation's message begins with subject: the fault of a
// key is told of the object it is in.
func (s *scanner) text(subject string) ([]byte, error) {
	start := s.pos
	s.pos++
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case plain(c):
			s.pos++
		case c == '"':
			s.pos++
			s.size += s.pos - start
			return s.data[start:s.pos], nil
		case c == '\\':
			if err := s.escape(subject); err != nil {
				return nil, err
			}
		case c < ' ':
			return nil, s.invalid("a control character in a string must be escaped")
		default:
			_, size := utf8.DecodeRune(s.data[s.pos:])
			if size == 1 {
				return nil, s.invalid("a string is not UTF-8")
			}
			s.pos += size
		}
	}
	return nil, s.invalid("want a closing quote")
}

// escape reads a backslash and what belongs to it. text counts these bytes
// like all others, so the size is lowered by what delivery saves.
func (s *scanner) escape(subject string) error {
	s.pos++
	switch s.peek() {
	case '"', '\\', 'b', 'f', 'n', 'r', 't':
		s.pos++
		return nil
	case '/':
		s.pos++
		s.size--
		return nil
	case 'u':
		return s.unicode(subject)
	default:
		return s.invalid("unknown escape in a string")
	}
}

// unicode reads the u of an escape, its digits and, after the first half of a
// surrogate pair, the second escape.
func (s *scanner) unicode(subject string) error {
	s.pos++
	r, ok := s.hex()
	if !ok {
		return s.invalid(`want four hexadecimal digits after \u`)
	}
	written := len(`\u0000`)
	if utf16.IsSurrogate(r) {
		if pair := s.lowHalf(r); pair != utf8.RuneError {
			r = pair
			written *= 2
		} else {
			s.refuse(subject + `holds half a surrogate pair (\ud800 to \udfff alone), which is no character`)
		}
	}
	if r == 0 {
		s.refuse(subject + `holds the character \u0000, which PostgreSQL cannot store`)
	}
	s.size -= written - printed(r)
	return nil
}

// lowHalf reads the escape that completes the surrogate high, and returns
// the pair's character. Anything else is left unread and gives RuneError.
func (s *scanner) lowHalf(high rune) rune {
	start := s.pos
	if bytes.HasPrefix(s.data[s.pos:], []byte(`\u`)) {
		s.pos += 2
		low, ok := s.hex()
		if r := utf16.DecodeRune(high, low); ok && r != utf8.RuneError {
			return r
		}
	}
	s.pos = start
	return utf8.RuneError
}

// hex reads four hexadecimal digits.
func (s *scanner) hex() (rune, bool) {
	if s.pos+4 > len(s.data) {
		return 0, false
	}
	n, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16)
	if err != nil {
		return 0, false
	}
	s.pos += 4
	return rune(n), true
}

// printed is how many bytes PostgreSQL prints for a character.
func printed(r rune) int {
	switch {
	case r == '"', r == '\\', r == '\b', r == '\f', r == '\n', r == '\r', r == '\t':
		return 2
	case r < ' ':
		return len(`\u0000`)
	default:
		return utf8.RuneLen(r)
	}
}

// plain reports whether c is a character of its own that needs no escape.
func plain(c byte) bool { return c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' }
