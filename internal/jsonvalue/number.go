package jsonvalue

import (
	"fmt"
	"strconv"
)

// Limits of numbers. jsonb keeps every digit and prints no exponents, so a
// number counts with the digits it has when written out. The longest that
// doubles need, 5e-324, takes 326 characters.
const (
	maxNumber   = 350 // characters of a number written out
	maxInteger  = 309 // digits before the point of the largest double, 1.8e308
	maxExponent = 1e6 // where counting stops: beyond every limit
)

// literal is what decides how long a number is when written out.
type literal struct {
	negative          bool
	integer, fraction int // digits before and after the point
	zeros             int // how many digits are zeros before any other
	exponent          int
}

// number reads a number. It must be within a double's range, and at most
// maxNumber characters long when written out.
func (s *scanner) number() error {
	start := s.pos
	n, err := s.parseNumber()
	if err != nil {
		return err
	}
	integer, written := n.writtenOut()
	switch {
	case integer > maxInteger,
		integer == maxInteger && written <= maxNumber && overflows(s.data[start:s.pos]):
		s.refuse("is a number beyond the range of an IEEE double, about ±1.8e308")
	case written > maxNumber:
		s.refuse(fmt.Sprintf("is a number of more than %d characters when written out", maxNumber))
	}
	s.size += written
	return nil
}

func (s *scanner) parseNumber() (n literal, err error) {
	if s.peek() == '-' {
		n.negative = true
		s.pos++
	}
	significant := false
	digits := func() (count int) {
		for ; isDigit(s.peek()); s.pos++ {
			significant = significant || s.peek() != '0'
			if !significant {
				n.zeros++
			}
			count++
		}
		return count
	}
	if s.peek() == '0' { // no digit may follow a leading zero
		s.pos++
		n.integer, n.zeros = 1, 1
	} else if n.integer = digits(); n.integer == 0 {
		return n, s.invalid("want a value")
	}
	if s.peek() == '.' {
		s.pos++
		if n.fraction = digits(); n.fraction == 0 {
			return n, s.invalid("want a digit after the point")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.pos++
		n.exponent, err = s.exponent()
	}
	return n, err
}

func (s *scanner) exponent() (int, error) {
	sign := 1
	switch s.peek() {
	case '-':
		sign = -1
		s.pos++
	case '+':
		s.pos++
	}
	if !isDigit(s.peek()) {
		return 0, s.invalid("want a digit in the exponent")
	}
	exponent := 0
	for ; isDigit(s.peek()); s.pos++ {
		exponent = min(exponent*10+int(s.peek()-'0'), maxExponent)
	}
	return sign * exponent, nil
}

// writtenOut returns how many digits the number has before the point, and how
// many characters in all, when it is written without an exponent. A zero is
// taken for a number of its exponent's size, an upper bound.
func (n literal) writtenOut() (integer, characters int) {
	integer = max(1, n.integer+n.exponent-n.zeros)
	characters = integer
	if n.negative {
		characters++
	}
	if fraction := n.fraction - n.exponent; fraction > 0 {
		characters += 1 + fraction
	}
	return integer, characters
}

func overflows(number []byte) bool {
	_, err := strconv.ParseFloat(string(number), 64)
	return err != nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
