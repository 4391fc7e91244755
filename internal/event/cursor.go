package event

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MaxPosition is the largest position: 2^53, so that positions survive
// clients whose numbers are IEEE doubles.
const MaxPosition = int64(1) << 53

// ErrCursor is wrapped by every error of a malformed cursor.
var ErrCursor = errors.New("malformed cursor")

// Cursor is a place in the log: "I have everything up to here". The zero
// Cursor is before the first event of the first epoch.
type Cursor struct {
	Epoch    int64 // which life of the log the position belongs to, from 1
	Position int64 // 0 is before the first event
}

// String returns the wire form, "{epoch}-{position}".
func (c Cursor) String() string {
	return string(c.Append(make([]byte, 0, 24)))
}

// Append appends the wire form to b.
func (c Cursor) Append(b []byte) []byte {
	b = strconv.AppendInt(b, c.Epoch, 10)
	b = append(b, '-')
	return strconv.AppendInt(b, c.Position, 10)
}

// Compare orders cursors by epoch, then by position, as a reader meets them.
func (c Cursor) Compare(o Cursor) int {
	return cmp.Or(cmp.Compare(c.Epoch, o.Epoch), cmp.Compare(c.Position, o.Position))
}

// MarshalText makes a Cursor a JSON string.
func (c Cursor) MarshalText() ([]byte, error) { return c.Append(nil), nil }

// ParseCursor reads the wire form. Only what String prints is accepted: no
// signs, no leading zeros, epoch from 1, position from 0 to MaxPosition.
func ParseCursor(s string) (Cursor, error) {
	epoch, position, found := strings.Cut(s, "-")
	e, okE := parseDecimal(epoch)
	p, okP := parseDecimal(position)
	if !found || !okE || !okP || e < 1 || e > MaxPosition || p > MaxPosition {
		return Cursor{}, fmt.Errorf(`%w: want "{epoch}-{position}", such as "1-1042", or "earliest" or "now"`, ErrCursor)
	}
	return Cursor{Epoch: e, Position: p}, nil
}

func parseDecimal(s string) (int64, bool) {
	if s == "" || len(s) > 16 || (s[0] == '0' && len(s) > 1) {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// Origin says what a Start is relative to.
type Origin int

// The origins a reader can name.
const (
	Now      Origin = iota // after everything that is committed
	Earliest               // before the oldest event that is kept
	At                     // after Start.Cursor
)

// Start is where a reader asks to begin. The zero Start is Now.
type Start struct {
	Origin Origin
	Cursor Cursor // with At
}

// ParseStart reads "now", "earliest" or a cursor; "" is now.
func ParseStart(s string) (Start, error) {
	switch s {
	case "", "now":
		return Start{Origin: Now}, nil
	case "earliest":
		return Start{Origin: Earliest}, nil
	}
	c, err := ParseCursor(s)
	if err != nil {
		return Start{}, err
	}
	return Start{Origin: At, Cursor: c}, nil
}
