package catalog

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/jsonvalue"
)

// Template makes a room or a stream of an event's company and data:
// {companyId} and {data.field} or {data.field.field} are replaced, the rest
// stands as it is.
type Template struct {
	text  string
	parts []part
}

// part is text, or a field of data, or the company.
type part struct {
	text    string
	field   []string // into data
	company bool
}

// parseTemplate reads a template. Whether it can give rooms or streams is
// checked by roomTemplate and streamTemplate.
func parseTemplate(text string) (Template, error) {
	t := Template{text: text}
	for rest := text; rest != ""; {
		before, after, open := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return t, fmt.Errorf("%q has a } without its {", text)
		}
		if before != "" {
			t.parts = append(t.parts, part{text: before})
		}
		if !open {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		field, isField := strings.CutPrefix(name, "data.")
		fields := strings.Split(field, ".")
		switch {
		case !closed:
			return t, fmt.Errorf("%q has a { without its }", text)
		case name == "companyId":
			t.parts = append(t.parts, part{company: true})
		case isField && !slices.Contains(fields, "") && !strings.Contains(field, "{"):
			t.parts = append(t.parts, part{field: fields})
		default:
			return t, fmt.Errorf("%q: {%s} is neither {companyId} nor {data.field}", text, name)
		}
		rest = after
	}
	return t, nil
}

// roomTemplate reads a template that can give rooms.
func roomTemplate(text string) (Template, error) {
	t, err := parseTemplate(text)
	if err != nil {
		return t, err
	}
	sample := t.sample()
	if !isRoom(sample) {
		return t, fmt.Errorf("%q can give no room: %w", text, event.ErrRoom)
	}
	if _, ok := event.RoomCompany(sample); ok && text != "company:{companyId}" {
		return t, fmt.Errorf("%q: the only company an event can go to is its own, company:{companyId}", text)
	}
	return t, nil
}

// streamTemplate reads a template that can give streams.
func streamTemplate(text string) (Template, error) {
	t, err := parseTemplate(text)
	if err == nil && !event.ValidStream(t.sample()) {
		err = fmt.Errorf("%q can give no stream: a stream is {category}:{id}, at most %d characters", text, event.MaxStream)
	}
	return t, err
}

// String returns the template as it was written.
func (t Template) String() string { return t.text }

// MarshalText makes a Template a JSON string.
func (t Template) MarshalText() ([]byte, error) { return []byte(t.text), nil }

// expand replaces the placeholders. A field of data that is missing, or is
// neither text nor an integer, is a violation.
func (t Template) expand(company string, v Value) (string, *jsonvalue.Violation) {
	var b strings.Builder
	for _, p := range t.parts {
		switch {
		case p.company:
			b.WriteString(company)
		case p.field == nil:
			b.WriteString(p.text)
		default:
			text, complaint := v.text(p.field)
			if complaint != "" {
				return "", &jsonvalue.Violation{
					Path:    jsonvalue.Pointer(p.field...),
					Message: complaint + ", because the event is addressed by " + t.text,
				}
			}
			b.WriteString(text)
		}
	}
	return b.String(), nil
}

// sample expands the template with the shortest id for every placeholder.
func (t Template) sample() string {
	var b strings.Builder
	for _, p := range t.parts {
		if b.WriteString(p.text); p.text == "" {
			b.WriteByte('0')
		}
	}
	return b.String()
}

// pointer is the place in data that the template first takes, "" when none.
func (t Template) pointer() string {
	i := slices.IndexFunc(t.parts, func(p part) bool { return p.field != nil })
	if i < 0 {
		return ""
	}
	return jsonvalue.Pointer(t.parts[i].field...)
}

// text returns the text or integer at a field, or what is wrong with it.
func (v Value) text(field []string) (text, complaint string) {
	var value any = v.fields
	for _, name := range field {
		object, _ := value.(map[string]any)
		if value = object[name]; value == nil {
			return "", "is required"
		}
	}
	switch value := value.(type) {
	case string:
		return value, ""
	case json.Number:
		if digits, ok := integer(value); ok {
			return digits, ""
		}
	}
	return "", "must be a string or an integer"
}

// integer returns the digits of a number that is one, however it is written:
// 1e3 and 1000.0 are the id 1000. It rounds nothing.
func integer(number json.Number) (digits string, ok bool) {
	if !strings.ContainsAny(number.String(), ".eE") && number != "-0" {
		return number.String(), true
	}
	r, ok := new(big.Rat).SetString(number.String())
	if !ok || !r.IsInt() || r.Num().CmpAbs(big.NewInt(event.MaxPosition)) > 0 {
		return "", false
	}
	return r.Num().String(), true
}
