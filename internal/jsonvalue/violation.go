package jsonvalue

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tailroom/tailroom/internal/problem"
)

// Violation is one thing that is wrong inside data.
type Violation struct {
	Path    string `json:"path"` // a JSON pointer into data; "" is data itself
	Message string `json:"message"`
}

// maxText is the longest path or message a client is shown, in bytes:
// violations may quote keys and values, which can be of any size.
const maxText = 300

// Refuse returns the schema_violation that lists violations, of which there
// is at least one.
func Refuse(violations ...Violation) *problem.Error {
	shown := make([]Violation, len(violations))
	for i, v := range violations {
		shown[i] = Violation{Path: shorten(v.Path), Message: shorten(v.Message)}
	}
	detail := "data" + shown[0].Path + " " + shown[0].Message
	if more := len(shown) - 1; more > 0 {
		detail += fmt.Sprintf(" (and %d more)", more)
	}
	return problem.New(problem.SchemaViolation, detail).With("errors", shown)
}

// Pointer returns the JSON pointer (RFC 6901) of a place.
func Pointer(tokens ...string) string {
	var b strings.Builder
	for _, token := range tokens {
		b.WriteByte('/')
		b.WriteString(pointerEscapes.Replace(token))
	}
	return b.String()
}

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

// shorten cuts s to maxText bytes without splitting a character.
func shorten(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
