package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/tailroom/tailroom/internal/access"
)

// Parse reads a catalogue. An error names the namespace and the type.
func Parse(text []byte) (*Catalog, error) {
	var file fileYAML
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	if err := file.Unknown.refuse(); err != nil {
		return nil, err
	}
	if file.Namespaces.IsZero() {
		return nil, errors.New("namespaces: are missing")
	}
	members, err := mapping(&file.Namespaces)
	if err != nil {
		return nil, fmt.Errorf("namespaces: %w", err)
	}
	c := &Catalog{namespaces: []*Namespace{}, names: []string{}}
	for _, m := range members {
		n, err := buildNamespace(m)
		if err != nil {
			return nil, fmt.Errorf("namespace %s: %w", m.key, err)
		}
		c.namespaces = append(c.namespaces, n)
		c.names = append(c.names, n.Name)
	}
	c.json, err = encode(c.namespaces)
	return c, err
}

func buildNamespace(m member) (*Namespace, error) {
	if err := checkNamespace(m.key); err != nil {
		return nil, err
	}
	var file namespaceYAML
	if err := decode(m.value, &file, &file.Unknown); err != nil {
		return nil, err
	}
	n := &Namespace{Name: m.key, Description: file.Description, Types: []*Type{}}
	if file.Events.IsZero() {
		return n, nil
	}
	members, err := mapping(&file.Events)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	for _, m := range members {
		t, err := buildType(n.Name, m)
		if err != nil {
			return nil, fmt.Errorf("type %s: %w", m.key, err)
		}
		n.Types = append(n.Types, t)
		n.typeNames = append(n.typeNames, t.Name)
	}
	for _, t := range n.Types {
		if t.Reply == nil {
			continue
		}
		i := slices.Index(n.typeNames, t.Reply.Type)
		if i < 0 {
			return nil, fmt.Errorf("type %s: reply: the namespace has no type %q", t.Name, t.Reply.Type)
		}
		n.Types[i].answers = append(n.Types[i].answers, t.Reply)
		var err error
		if t.awaits, err = t.Reply.awaited(); err != nil {
			return nil, fmt.Errorf("type %s: reply: %w", t.Name, err)
		}
	}
	return n, nil
}

func buildType(namespace string, m member) (*Type, error) {
	if err := checkTypeName(m.key); err != nil {
		return nil, err
	}
	file := typeYAML{SchemaVersion: 1}
	if err := decode(m.value, &file, &file.Unknown); err != nil {
		return nil, err
	}
	t := &Type{
		Namespace:     namespace,
		Name:          m.key,
		SchemaVersion: file.SchemaVersion,
		Description:   file.Description,
		Publish:       append([]access.Role{}, file.Publish...),
		Rooms:         []Template{},
	}
	if t.SchemaVersion < 1 {
		return nil, fmt.Errorf("schemaVersion: is %d, it counts from 1", t.SchemaVersion)
	}
	for _, role := range t.Publish {
		if publishers := access.Publishers(); !slices.Contains(publishers, role) {
			return nil, fmt.Errorf("publish: no role %q publishes; those that can are %v", role, publishers)
		}
	}
	if err := t.address(file.Rooms, file.Stream); err != nil {
		return nil, err
	}
	if err := t.contract(&file.Schema, &file.Example); err != nil {
		return nil, err
	}
	var err error
	if t.Reply, err = buildReply(t.Name, file.Reply); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	if t.Closes, err = buildCloses(&file.Closes); err != nil {
		return nil, fmt.Errorf("closes: %w", err)
	}
	return t, nil
}

// address reads the templates.
func (t *Type) address(rooms []string, stream string) error {
	for _, text := range rooms {
		template, err := roomTemplate(text)
		if err != nil {
			return fmt.Errorf("rooms: %w", err)
		}
		t.Rooms = append(t.Rooms, template)
	}
	if stream != "" {
		template, err := streamTemplate(stream)
		if err != nil {
			return fmt.Errorf("stream: %w", err)
		}
		t.Stream = &template
	}
	return nil
}

// contract reads the schema and the example and tries one on the other.
func (t *Type) contract(schema, example *yaml.Node) (err error) {
	t.Schema, t.Example = json.RawMessage(`{"type":"object"}`), json.RawMessage(`{}`)
	if !schema.IsZero() {
		if t.Schema, err = toJSON(schema); err != nil {
			return fmt.Errorf("schema: %w", err)
		}
	}
	if t.compiled, err = compileSchema(t.Schema); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if !example.IsZero() {
		if t.Example, err = toJSON(example); err != nil {
			return fmt.Errorf("example: %w", err)
		}
	}
	if err := t.try(t.Example); err != nil {
		if example.IsZero() {
			return fmt.Errorf("example: is needed, because {} is not valid: %w", err)
		}
		return fmt.Errorf("example: %w", err)
	}
	return nil
}

// try publishes data, so to speak.
func (t *Type) try(data []byte) error {
	v, err := t.Validate(data)
	if err != nil {
		return err
	}
	if len(t.Rooms) > 0 {
		if _, err := t.RoomsFor("c1", v); err != nil {
			return err
		}
	}
	_, err = t.StreamFor("c1", v)
	return err
}

// decode reads a mapping into a struct, whose unknown fields are u.
func decode(n *yaml.Node, into any, u *unknown) error {
	if err := n.Decode(into); err != nil {
		return err
	}
	return u.refuse()
}

// encode makes the body of GET /v1/catalog, with patterns left readable.
func encode(namespaces []*Namespace) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(map[string]any{"namespaces": namespaces})
	return bytes.TrimSpace(b.Bytes()), err
}
