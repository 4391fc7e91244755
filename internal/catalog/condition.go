package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"
)

// Condition lists the values that each of these fields of an event's data may have:
// text, numbers or booleans. One without fields is met by all data.
type Condition map[string][]any

// met reports whether data meet the condition.
func (c Condition) met(data []byte) bool {
	if len(c) == 0 {
		return true
	}
	var fields map[string]any
	if json.Unmarshal(data, &fields) != nil {
		return false
	}
	for name, allowed := range c {
		if !slices.Contains(allowed, fields[name]) {
			return false
		}
	}
	return true
}

// buildCondition reads a condition, nil when there is none.
func buildCondition(n *yaml.Node) (Condition, error) {
	if n.IsZero() {
		return nil, nil
	}
	c, err := parseCondition(n)
	if err != nil {
		return nil, fmt.Errorf("when: %w", err)
	}
	return c, nil
}

func parseCondition(n *yaml.Node) (Condition, error) {
	text, err := toJSON(n)
	if err != nil {
		return nil, err
	}
	var c Condition
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, errors.New("want a list of values for each field: {status: [accepted, rejected]}")
	}
	for field, values := range c {
		if len(values) == 0 {
			return nil, fmt.Errorf("%s: the list is empty, so nothing would meet it", field)
		}
		for _, value := range values {
			switch value.(type) {
			case string, float64, bool:
			default:
				return nil, fmt.Errorf("%s: a value is text, a number or a boolean", field)
			}
		}
	}
	return c, nil
}
