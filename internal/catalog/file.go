package catalog

import (
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/tailroom/tailroom/internal/access"
)

// The YAML form. Mappings whose order counts are nodes, read with mapping;
// what a mapping holds beside its known fields is refused.
type (
	fileYAML struct {
		Namespaces yaml.Node `yaml:"namespaces"`
		Unknown    unknown   `yaml:",inline"`
	}
	namespaceYAML struct {
		Description string    `yaml:"description"`
		Events      yaml.Node `yaml:"events"`
		Unknown     unknown   `yaml:",inline"`
	}
	typeYAML struct {
		SchemaVersion int           `yaml:"schemaVersion"`
		Description   string        `yaml:"description"`
		Publish       []access.Role `yaml:"publish"`
		Rooms         []string      `yaml:"rooms"`
		Stream        string        `yaml:"stream"`
		Reply         *replyYAML    `yaml:"reply"`
		Closes        yaml.Node     `yaml:"closes"`
		Schema        yaml.Node     `yaml:"schema"`
		Example       yaml.Node     `yaml:"example"`
		Unknown       unknown       `yaml:",inline"`
	}
	replyYAML struct {
		Type    string    `yaml:"type"`
		When    yaml.Node `yaml:"when"`
		Timeout string    `yaml:"timeout"`
		Ack     bool      `yaml:"ack"`
		Unknown unknown   `yaml:",inline"`
	}
)

// unknown are the fields of a mapping that its struct does not have.
type unknown map[string]yaml.Node

// refuse returns an error that names the first unknown field, if any.
func (u unknown) refuse() error {
	if len(u) == 0 {
		return nil
	}
	var names []string
	for name := range u {
		names = append(names, name)
	}
	first := slices.Min(names)
	return fmt.Errorf("line %d: there is no field %q", u[first].Line, first)
}
