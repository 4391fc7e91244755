package access

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/problem"
)

// ID is a company's or a branch's id as clients write it in JSON: a string, or
// an integer, since platforms number theirs or name them.
type ID string

// UnmarshalJSON reads a string or an integer; null changes nothing.
func (id *ID) UnmarshalJSON(text []byte) error {
	var v any
	decoder := json.NewDecoder(strings.NewReader(string(text)))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil || v == nil {
		return err
	}
	s, ok := stringOrInteger(v)
	if !ok {
		return &json.UnmarshalTypeError{Value: kindOf(v), Type: reflect.TypeFor[ID]()}
	}
	*id = ID(s)
	return nil
}

// kindOf is the kind of JSON that v came from.
func kindOf(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case json.Number:
		return "fraction"
	case []any:
		return "array"
	}
	return "object"
}

// Narrow returns the grant for one branch that the client named, in any of the
// forms 7, branch_7 and branch:7: the company's room and that branch's. A branch
// that the grant does not cover is an error. An empty name changes nothing.
//
// It only takes away: what a client says of itself beside its token never
// gives it more than the token does.
func (g Grant) Narrow(branch ID) (Grant, error) {
	id := string(branch)
	// A branch may itself be called branch_7.
	if room, err := event.ParseRoom(id); err == nil && !slices.Contains(g.Branches, id) {
		if named, ok := strings.CutPrefix(room, event.BranchRoom("")); ok {
			id = named
		}
	}
	return g.narrowed(id)
}

// narrowed is Narrow for the id itself.
func (g Grant) narrowed(branch string) (Grant, error) {
	if branch == "" {
		return g, nil
	}
	if !event.ValidRoomID(branch) {
		return Grant{}, problem.New(problem.InvalidParameter,
			"branchId is 1 to 64 of A-Z a-z 0-9 _ -, also with branch_ in front").With("path", "branchId")
	}
	if _, err := g.Room(event.BranchRoom(branch)); err != nil {
		return Grant{}, err
	}
	g.AllBranches, g.Branches, g.Narrowed = false, []string{branch}, branch
	return g, nil
}

// Renewed returns next as the grant of a connection that had g: for the same
// company, and narrowed to the same branch. Another subject or company is an
// error of code forbidden.
func (g Grant) Renewed(next Grant) (Grant, error) {
	if next.PlatformWide {
		var err error
		if next, err = next.Name(g.Tenant); err != nil {
			return Grant{}, err
		}
	}
	if next.Subject != g.Subject || next.Tenant != g.Tenant {
		return Grant{}, problem.New(problem.Forbidden, "a renewed token must have the same subject and company")
	}
	return next.narrowed(g.Narrowed)
}
