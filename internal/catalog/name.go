package catalog

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/tailroom/tailroom/internal/event"
)

// reservedNames are event names that clients' libraries keep for themselves:
// EventSource the first three, Socket.IO the others.
var reservedNames = []string{
	"open", "message", "error",
	"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener",
}

var typeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._-]{0,99}$`)

// checkNamespace returns what is wrong with the name of a namespace.
func checkNamespace(name string) error {
	switch {
	case !event.ValidNamespace(name):
		return errors.New("a namespace is a slash and 1 to 63 of a-z 0-9 -")
	case name == event.System:
		return errors.New("is reserved for the server's own events")
	}
	return nil
}

// checkTypeName returns what is wrong with the name of an event type.
func checkTypeName(name string) error {
	switch {
	case !typeName.MatchString(name):
		return errors.New("a type's name is 1 to 100 of A-Z a-z 0-9 : . _ - and begins with a letter or digit")
	case slices.Contains(reservedNames, name):
		return errors.New("is a name that clients' libraries reserve: " + strings.Join(reservedNames, ", "))
	case strings.HasPrefix(name, "tailroom."):
		return errors.New("names that begin with tailroom. are reserved for the server")
	}
	return nil
}
