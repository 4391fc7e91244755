package catalog

import (
	"encoding/json"
	"errors"

	"go.yaml.in/yaml/v3"
)

// Closes says that events of a type end the life of their stream, if their data meet
// a condition.
type Closes struct{ When Condition }

// Closes reports whether an event of a type, with these data, closes its stream. A
// type that is not in the catalogue closes nothing.
func (c *Catalog) Closes(namespace, name string, data []byte) bool {
	t, err := c.Lookup(namespace, name)
	return err == nil && t.Closes != nil && t.Closes.When.met(data)
}

// MarshalJSON writes it as the file has it: true, or the condition.
func (c *Closes) MarshalJSON() ([]byte, error) {
	if len(c.When) == 0 {
		return []byte("true"), nil
	}
	return json.Marshal(map[string]Condition{"when": c.When})
}

// buildCloses reads whether events of a type close their stream, nil when they do not.
func buildCloses(n *yaml.Node) (*Closes, error) {
	if n.IsZero() {
		return nil, nil
	}
	var always bool
	if n.Decode(&always) == nil {
		if !always {
			return nil, nil
		}
		return &Closes{}, nil
	}
	var file struct {
		When    yaml.Node `yaml:"when"`
		Unknown unknown   `yaml:",inline"`
	}
	if err := n.Decode(&file); err != nil {
		return nil, errors.New("is true, or {when: {status: [delivered]}}")
	}
	if err := file.Unknown.refuse(); err != nil {
		return nil, err
	}
	if file.When.IsZero() {
		return nil, errors.New("is true, or {when: {status: [delivered]}}")
	}
	when, err := buildCondition(&file.When)
	return &Closes{When: when}, err
}
