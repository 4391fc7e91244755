package catalog

import (
	"encoding/json"
	"fmt"

	"github.com/tailroom/tailroom/internal/access"
)

// row is a type as SQL knows it: a row of tailroom.event_types.
type row struct {
	Namespace     string          `json:"namespace"`
	Type          string          `json:"type"`
	SchemaVersion int             `json:"schema_version"`
	Description   string          `json:"description"`
	Publish       []access.Role   `json:"publish"`
	Rooms         []Template      `json:"rooms"`
	Stream        *Template       `json:"stream"`
	Schema        json.RawMessage `json:"schema"`
	Reply         *Reply          `json:"reply"`
}

// Mirror is the catalogue for SQL: a JSON array with an object for each type, of
// the columns of tailroom.event_types.
func (c *Catalog) Mirror() ([]byte, error) {
	rows := []row{}
	for _, n := range c.namespaces {
		for _, t := range n.Types {
			rows = append(rows, row{
				Namespace: n.Name, Type: t.Name, SchemaVersion: t.SchemaVersion, Description: t.Description,
				Publish: t.Publish, Rooms: t.Rooms, Stream: t.Stream, Schema: t.Schema, Reply: t.Reply,
			})
		}
	}
	mirror, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("the catalogue for SQL: %w", err)
	}
	return mirror, nil
}
