package access

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"

	"github.com/tailroom/tailroom/internal/event"
)

const (
	maxLabel = 255            // characters of sub and jti, as OpenID Connect has it
	maxDate  = 253402300799.0 // the end of the year 9999, in seconds of Unix time
)

// claims are a token's claims, valid in form. What is absent is zero.
type claims struct {
	subject   string
	tokenID   string
	role      string // as the platform calls it
	issuer    string
	audience  []string
	company   string   // a room id or everyCompany
	branches  []string // nil without a branch claim, empty with one that names none
	issuedAt  time.Time
	notBefore time.Time
	expires   time.Time
}

// readClaims checks the forms of a token's claims. Claims that are null count
// as absent.
func readClaims(raw jwt.MapClaims) (claims, error) {
	r := reader{raw: raw}
	r.require("sub", "exp", "companyId")
	c := claims{
		subject:   r.label("sub"),
		tokenID:   r.label("jti"),
		role:      r.text("userRole"),
		issuer:    r.text("iss"),
		audience:  r.texts("aud"),
		company:   r.company("companyId"),
		branches:  r.ids("branchId", "branchIds"),
		issuedAt:  r.date("iat"),
		notBefore: r.date("nbf"),
		expires:   r.date("exp"),
	}
	return c, r.err
}

// reader reads claims and keeps the first error.
type reader struct {
	raw jwt.MapClaims
	err error
}

func (r *reader) fail(name, what string) {
	if r.err == nil {
		r.err = refuse("the claim " + name + " " + what)
	}
}

func (r *reader) require(names ...string) {
	for _, name := range names {
		if r.raw[name] == nil {
			r.fail(name, "is missing")
		}
	}
}

func (r *reader) text(name string) string {
	s, ok := r.raw[name].(string)
	if !ok && r.raw[name] != nil {
		r.fail(name, "is not a string")
	}
	return s
}

// texts reads a list of strings, or one string.
func (r *reader) texts(name string) []string {
	var list []string
	for _, v := range listed(r.raw[name]) {
		s, ok := v.(string)
		if !ok {
			r.fail(name, "is not a string or a list of strings")
		}
		list = append(list, s)
	}
	return list
}

// label reads what the log and the operators' lists will show.
func (r *reader) label(name string) string {
	v := r.raw[name]
	if v == nil {
		return ""
	}
	s, ok := stringOrInteger(v)
	if !ok || s == "" || utf8.RuneCountInString(s) > maxLabel || strings.ContainsFunc(s, unicode.IsControl) {
		r.fail(name, "is not 1 to 255 printable characters")
	}
	return s
}

func (r *reader) company(name string) string {
	s, ok := stringOrInteger(r.raw[name])
	if !ok || (s != everyCompany && !event.ValidRoomID(s)) {
		r.fail(name, `is not "*", an integer, or 1 to 64 of A-Z a-z 0-9 _ -`)
	}
	return s
}

// ids reads the union of claims that are an id or a list of ids. It is nil
// only if none of them is there.
func (r *reader) ids(names ...string) []string {
	var list []string
	for _, name := range names {
		if r.raw[name] == nil {
			continue
		}
		if list == nil {
			list = []string{}
		}
		for _, v := range listed(r.raw[name]) {
			id, ok := stringOrInteger(v)
			if !ok || !event.ValidRoomID(id) {
				r.fail(name, "has what is neither an integer nor 1 to 64 of A-Z a-z 0-9 _ -")
			}
			if !slices.Contains(list, id) {
				list = append(list, id)
			}
		}
	}
	return list
}

// date reads a time in seconds. Milliseconds, a common mistake, would be a
// token for ever: they lie beyond maxDate.
func (r *reader) date(name string) time.Time {
	v := r.raw[name]
	if v == nil {
		return time.Time{}
	}
	n, _ := v.(json.Number)
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > maxDate {
		r.fail(name, "is not a time in seconds since 1970")
		return time.Time{}
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000)))
}

// listed returns a claim that may be a value or a list as a list.
func listed(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// stringOrInteger returns an id as text: platforms number theirs, or name them.
func stringOrInteger(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		n, err := v.Int64() // refuses 1.5 and 1e3
		return strconv.FormatInt(n, 10), err == nil
	}
	return "", false
}
