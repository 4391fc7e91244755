package jsonvalue

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tailroom/tailroom/internal/problem"
)

// MaxDepth is how deep objects and arrays may nest; data itself is the first.
const MaxDepth = 64

// Check returns nil when data is a JSON object that jsonb and every client
// can hold and whose text is at most limit bytes. What is measured is the
// text that is going to be delivered: without white space, escapes resolved
// and numbers written out. (It can turn out a little shorter: jsonb keeps the
// last of equal keys and no sign of a zero.)
//
// Otherwise it returns a *problem.Error. When there is more than one fault,
// bad syntax goes before a violation, of which the first is reported, and a
// violation before the size. What is nested deeper than MaxDepth is not read.
func Check(data []byte, limit int) error {
	s := scanner{data: data}
	if err := s.document(); err != nil {
		return err
	}
	if s.refused != nil {
		return s.refused
	}
	if s.size > limit {
		return problem.New(problem.TooLarge,
			fmt.Sprintf("data takes %d bytes, at most %d are allowed", s.size, limit)).With("limit", limit)
	}
	return nil
}

// scanner walks the data once. Its methods return an error when there is no
// going on; a violation after which there is, is kept in refused.
type scanner struct {
	data    []byte
	pos     int            // of the next byte
	size    int            // of the text seen so far, as it will be delivered
	refused *problem.Error // the first violation
	depth   int            // how many objects and arrays the value is inside
	path    [MaxDepth]step // and where in each of them
}

// step leads from an object or an array to a value in it.
type step struct {
	key   []byte // as it stands in the data, with its quotes; nil in an array
	index int
}

func (s *scanner) document() error {
	s.space()
	if s.peek() != '{' {
		s.refuse("must be a JSON object")
	}
	if err := s.value(); err != nil {
		return err
	}
	if s.space(); s.pos < len(s.data) {
		return s.invalid("more follows after the value")
	}
	return nil
}

func (s *scanner) value() error {
	switch c := s.peek(); c {
	case '{', '[':
		return s.nested(c == '{')
	case '"':
		_, err := s.text("")
		return err
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

// nested reads an object or an array from its opening bracket on.
func (s *scanner) nested(object bool) error {
	if s.depth == MaxDepth {
		return s.violation(fmt.Sprintf("is nested deeper than %d levels", MaxDepth)).With("limit", MaxDepth)
	}
	closing := byte(']')
	if object {
		closing = '}'
	}
	s.take()
	s.space()
	if s.peek() == closing {
		s.take()
		return nil
	}
	for index := 0; ; index++ {
		if err := s.member(object, index); err != nil {
			return err
		}
		s.space()
		switch s.peek() {
		case ',':
			s.take()
			s.space()
		case closing:
			s.take()
			return nil
		default:
			return s.invalid("want , or " + string(closing))
		}
	}
}

// member reads a value and, in an object, the key before it.
func (s *scanner) member(object bool, index int) error {
	to := step{index: index}
	if object {
		if s.peek() != '"' {
			return s.invalid("want a key in quotes")
		}
		key, err := s.text("has a key that ")
		if err != nil {
			return err
		}
		to.key = key
		if s.space(); s.peek() != ':' {
			return s.invalid("want : after the key")
		}
		s.take()
		s.space()
	}
	s.path[s.depth] = to
	s.depth++
	err := s.value()
	s.depth--
	return err
}

func (s *scanner) literal(word string) error {
	if end := s.pos + len(word); end <= len(s.data) && string(s.data[s.pos:end]) == word {
		s.pos = end
		s.size += len(word)
		return nil
	}
	return s.invalid("want a value")
}

// space skips white space, which is not delivered.
func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, 0 at the end: no JSON has a 0 outside a string.
func (s *scanner) peek() byte {
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) take() {
	s.pos++
	s.size++
}

func (s *scanner) invalid(what string) error {
	if s.pos >= len(s.data) {
		return problem.New(problem.InvalidJSON, "data is not JSON: it ends too early: "+what)
	}
	return problem.New(problem.InvalidJSON, "data is not JSON: at byte "+strconv.Itoa(s.pos)+": "+what)
}

// refuse keeps a violation unless there is one already.
func (s *scanner) refuse(message string) {
	if s.refused == nil {
		s.refused = s.violation(message)
	}
}

// violation is an error about the value the scanner is at.
func (s *scanner) violation(message string) *problem.Error {
	tokens := make([]string, s.depth)
	for i, at := range s.path[:s.depth] {
		tokens[i] = strconv.Itoa(at.index)
		if at.key != nil {
			_ = json.Unmarshal(at.key, &tokens[i]) // a key that was scanned is a JSON string
		}
	}
	return Refuse(Violation{Path: Pointer(tokens...), Message: message})
}
