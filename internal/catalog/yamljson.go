package catalog

import (
	"encoding/json"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/tailroom/tailroom/internal/event"
	"github.com/tailroom/tailroom/internal/jsonvalue"
)

// toJSON returns a YAML mapping as a JSON object that jsonb can hold. Its
// fields keep the author's order, which is the one people want to read, and
// dates stay the text they were written as.
func toJSON(n *yaml.Node) (json.RawMessage, error) {
	text, err := appendJSON(nil, n, 0)
	if err != nil {
		return nil, err
	}
	return text, jsonvalue.Check(text, maxJSON)
}

// maxJSON is the largest schema or example, in bytes.
const maxJSON = 1 << 20

func appendJSON(b []byte, n *yaml.Node, depth int) ([]byte, error) {
	if depth > jsonvalue.MaxDepth { // or an alias inside itself
		return nil, fmt.Errorf("line %d: nested deeper than %d levels", n.Line, jsonvalue.MaxDepth)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return appendJSON(b, n.Alias, depth+1)
	case yaml.MappingNode:
		return appendObject(b, n, depth)
	case yaml.SequenceNode:
		return appendArray(b, n, depth)
	default:
		return appendScalar(b, n)
	}
}

func appendObject(b []byte, n *yaml.Node, depth int) ([]byte, error) {
	members, err := mapping(n)
	if err != nil {
		return nil, err
	}
	b = append(b, '{')
	for i, m := range members {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(event.AppendString(b, m.key), ':')
		if b, err = appendJSON(b, m.value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

func appendArray(b []byte, n *yaml.Node, depth int) ([]byte, error) {
	b = append(b, '[')
	for i, item := range n.Content {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendJSON(b, item, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, ']'), nil
}

func appendScalar(b []byte, n *yaml.Node) ([]byte, error) {
	switch n.ShortTag() {
	case "!!str", "!!timestamp":
		return event.AppendString(b, n.Value), nil
	}
	var value any
	if err := n.Decode(&value); err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil { // .inf and .nan
		return nil, fmt.Errorf("line %d: %s is no JSON value", n.Line, n.Value)
	}
	return append(b, text...), nil
}

// member is a key of a mapping and its value.
type member struct {
	key   string
	value *yaml.Node
}

// mapping returns the members of a mapping in the author's order.
func mapping(n *yaml.Node) ([]member, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: want a mapping", n.Line)
	}
	var members []member
	for pair := range slices.Chunk(n.Content, 2) {
		key := pair[0]
		switch {
		case key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge":
			return nil, fmt.Errorf("line %d: a key must be plain text", key.Line)
		case slices.ContainsFunc(members, func(m member) bool { return m.key == key.Value }):
			return nil, fmt.Errorf("line %d: %q is there twice", key.Line, key.Value)
		}
		members = append(members, member{key.Value, pair[1]})
	}
	return members, nil
}
