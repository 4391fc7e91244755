package event

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of names, from the public protocol.
const (
	MaxStream        = 200 // characters
	MaxCorrelationID = 128 // characters
	MaxConsumer      = 100 // characters
	maxNamespace     = 63  // characters after the slash
	maxRoomID        = 64
)

// RoomForms is what error texts say of rooms.
const RoomForms = "company:{id} or branch:{id}, where {id} is 1 to 64 of A-Z a-z 0-9 _ -"

// ErrRoom is returned for a room of another form than RoomForms.
var ErrRoom = errors.New("a room is " + RoomForms)

// The kinds of room there are.
const (
	companyPrefix = "company:"
	branchPrefix  = "branch:"
)

// ValidNamespace reports whether s has the form of a namespace: a slash and
// 1 to 63 of a-z 0-9 -.
func ValidNamespace(s string) bool {
	if len(s) < 2 || len(s) > maxNamespace+1 || s[0] != '/' {
		return false
	}
	for i := 1; i < len(s); i++ {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// ParseRoom returns the colon form of a room. The old printing clients'
// underscore form (branch_7) is accepted and rewritten.
func ParseRoom(s string) (string, error) {
	for _, prefix := range [...]string{companyPrefix, branchPrefix} {
		kind := prefix[:len(prefix)-1]
		id, ok := strings.CutPrefix(s, kind)
		if !ok || id == "" || (id[0] != ':' && id[0] != '_') || !ValidRoomID(id[1:]) {
			continue
		}
		return prefix + id[1:], nil
	}
	return "", ErrRoom
}

// CompanyRoom is the room of a whole company; id must be a ValidRoomID.
func CompanyRoom(id string) string { return companyPrefix + id }

// BranchRoom is the room of a branch; id must be a ValidRoomID.
func BranchRoom(id string) string { return branchPrefix + id }

// RoomCompany returns the company a company room is of.
func RoomCompany(room string) (id string, ok bool) { return strings.CutPrefix(room, companyPrefix) }

// ValidRoomID reports whether s can be the id of a company or a branch.
func ValidRoomID(s string) bool {
	if s == "" || len(s) > maxRoomID {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// ValidStream reports whether s names a stream: {category}:{id}, at most 200
// characters, none of them a control character.
func ValidStream(s string) bool {
	category, id, found := strings.Cut(s, ":")
	return found && category != "" && id != "" && printable(s, MaxStream)
}

// ValidCorrelationID reports whether s is 1 to 128 printable characters.
func ValidCorrelationID(s string) bool { return s != "" && printable(s, MaxCorrelationID) }

// printable reports whether s is valid UTF-8 without control characters and
// at most limit characters long.
func printable(s string, limit int) bool {
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > limit {
		return false
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return false
		}
	}
	return true
}

// ValidConsumer reports whether s can be the name of a consumer: 1 to 100 letters,
// digits and . _ : @ / | + - characters.
func ValidConsumer(s string) bool {
	if s == "" || len(s) > MaxConsumer {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !strings.ContainsRune("._:@/|+-", rune(c)) && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}
