package catalog

import (
	_ "embed"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/tailroom/tailroom/internal/problem"
)

// Catalog is a set of event types by namespace.
type Catalog struct {
	namespaces []*Namespace
	names      []string
	json       []byte
}

// Namespace is a set of event types that is subscribed to as a whole.
type Namespace struct {
	Name        string  `json:"name"`
	Description string  `json:"description"`
	Types       []*Type `json:"events"` // in the order of the file
	typeNames   []string
}

//go:embed default.yaml
var defaultYAML []byte

// Default returns the platform's own catalogue.
var Default = sync.OnceValue(func() *Catalog {
	c, err := Parse(defaultYAML)
	if err != nil {
		panic("catalog: default.yaml: " + err.Error()) // its test would have failed
	}
	return c
})

// Load reads the catalogue from a file.
func Load(path string) (*Catalog, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("catalogue: %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("catalogue %s: %w", path, err)
	}
	return c, nil
}

// Namespaces returns the names in the order of the file. The slice is shared.
func (c *Catalog) Namespaces() []string { return c.names }

// All returns every namespace with its types, in the order of the file.
func (c *Catalog) All() []*Namespace { return c.namespaces }

// Lookup finds an event type. The errors are unknown_namespace and
// unknown_type, with the names there are.
func (c *Catalog) Lookup(namespace, name string) (*Type, error) {
	if err := c.Known(namespace); err != nil {
		return nil, err
	}
	n := c.namespaces[slices.Index(c.names, namespace)]
	i := slices.Index(n.typeNames, name)
	if i < 0 {
		return nil, problem.New(problem.UnknownType,
			fmt.Sprintf("%s has no event type %.100q; it has %s", namespace, name, strings.Join(n.typeNames, ", "))).
			With("allowed", n.typeNames)
	}
	return n.Types[i], nil
}

// Requests are the names of a namespace's types that have a reply.
func (c *Catalog) Requests(namespace string) []string {
	names := []string{}
	for _, n := range c.namespaces {
		for _, t := range n.Types {
			if n.Name == namespace && t.Reply != nil {
				names = append(names, t.Name)
			}
		}
	}
	return names
}

// Known returns unknown_namespace, with the names there are, for a namespace
// that is not in the catalogue.
func (c *Catalog) Known(namespace string) error {
	if slices.Contains(c.names, namespace) {
		return nil
	}
	detail := fmt.Sprintf("there is no namespace %.64q; there are %s", namespace, strings.Join(c.names, ", "))
	if namespace == "" {
		detail = "a namespace is missing; there are " + strings.Join(c.names, ", ")
	}
	return problem.New(problem.UnknownNamespace, detail).With("allowed", c.names)
}

// JSON is the body of GET /v1/catalog. The slice is shared.
func (c *Catalog) JSON() []byte { return c.json }
