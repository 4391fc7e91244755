package catalog_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/catalog"
)

func TestCloses(t *testing.T) {
	t.Parallel()
	c := catalog.Default()
	for _, test := range []struct {
		namespace, name, data string
		want                  bool
	}{
		{"/orders", "orderCancelled", `{}`, true},
		{"/orders", "orderStatusUpdate", `{"status":"delivered"}`, true},
		{"/orders", "orderStatusUpdate", `{"status":"ready"}`, false},
		{"/orders", "orderStatusUpdate", `{"status":null}`, false},
		{"/orders", "orderStatusUpdate", `[]`, false},
		{"/orders", "newOrder", `{"status":"delivered"}`, false},
		{"/printing-ws", "orderCancelled", `{}`, false},
		{"/printing-ws", "printJobUpdate", `{"status":"printed"}`, true},
		{"/printing-ws", "printJobUpdate", `{"status":"cancelled"}`, true},
		{"/printing-ws", "printJobUpdate", `{"status":"expired"}`, true},
		{"/printing-ws", "printJobUpdate", `{"status":"failed"}`, false},
		{"/none", "orderCancelled", `{}`, false},
	} {
		require.Equal(t, test.want, c.Closes(test.namespace, test.name, []byte(test.data)), test)
	}
	var shown struct {
		Namespaces []struct {
			Events []struct {
				Type   string
				Closes json.RawMessage
			}
		}
	}
	require.NoError(t, json.Unmarshal(c.JSON(), &shown))
	closes := map[string]string{}
	for _, n := range shown.Namespaces {
		for _, e := range n.Events {
			if e.Closes != nil {
				closes[e.Type] = string(e.Closes)
			}
		}
	}
	require.Equal(t, map[string]string{
		"orderCancelled": "true", "orderStatusUpdate": `{"when":{"status":["delivered"]}}`,
		"printJobUpdate": `{"when":{"status":["printed","cancelled","expired"]}}`,
	}, closes)
}

func TestCloses_Parse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"closes: yes please":          "closes: is true, or {when: ",
		"closes: {}":                  "closes: is true, or {when: ",
		"closes: {if: {a: [1]}}":      `closes: line 5: there is no field "if"`,
		"closes: {when: {a: 1}}":      "closes: when: want a list of values",
		"closes: {when: {a: []}}":     "closes: when: a: the list is empty",
		"closes: {when: {a: [null]}}": "closes: when: a: a value is text, a number or a boolean",
	} {
		_, err := catalog.Parse([]byte(oneType(text)))
		require.ErrorContains(t, err, want, text)
	}
	for text, want := range map[string]bool{"closes: true": true, "closes: false": false, "": false, "closes: {when: {a: [1, x]}}": true} {
		c, err := catalog.Parse([]byte(oneType(text)))
		require.NoError(t, err, text)
		require.Equal(t, want, c.Closes("/a", "x", []byte(`{"a":1}`)), text)
	}
}
