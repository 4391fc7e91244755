package catalog_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/catalog"
)

// oneType is a catalogue with the type x in /a, whose fields these are.
func oneType(fields string) string {
	return "namespaces:\n  /a:\n    events:\n      y: {}\n      x: {" + fields + "}\n"
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const inX = "namespace /a: type x: "
	for text, want := range map[string]string{
		"":                                "namespaces: are missing",
		"namespaces: [/a]":                "namespaces: line 1: want a mapping",
		"namespaces: {":                   "yaml: ",
		"spaces: {}":                      `line 1: there is no field "spaces"`,
		"namespaces: {a: {}}":             "namespace a: a namespace is a slash",
		"namespaces: {/A: {}}":            "namespace /A: a namespace is a slash",
		"namespaces: {/system: {}}":       "namespace /system: is reserved",
		"namespaces: {/a: {}, /a: {}}":    `"/a" is there twice`,
		"namespaces: {/a: {event: {}}}":   `namespace /a: line 1: there is no field "event"`,
		"namespaces: {/a: {events: [x]}}": "namespace /a: events: line 1: want a mapping",
		"namespaces: {/a: {events: {x: {}, x: {}}}}":                         `namespace /a: events: line 1: "x" is there twice`,
		"namespaces: {/a: {events: {<<: {x: {}}}}}":                          "a key must be plain text",
		"namespaces: {/a: {events: {x: 5}}}":                                 inX + "yaml: ",
		"namespaces: {/a: {events: {open: {}}}}":                             "namespace /a: type open: is a name that clients' libraries reserve",
		"namespaces: {/a: {events: {disconnect: {}}}}":                       "namespace /a: type disconnect: is a name that clients' libraries reserve",
		"namespaces: {/a: {events: {tailroom.x: {}}}}":                       "namespace /a: type tailroom.x: names that begin with tailroom.",
		"namespaces: {/a: {events: {\":x\": {}}}}":                           "namespace /a: type :x: a type's name is",
		"namespaces: {/a: {events: {\"a b\": {}}}}":                          "namespace /a: type a b: a type's name is",
		"namespaces: {/a: {events: {\"\": {}}}}":                             "namespace /a: type : a type's name is",
		"namespaces: {/a: {events: {" + strings.Repeat("x", 101) + ": {}}}}": "a type's name is",

		oneType("shema: {}"):                                        inX + `line 5: there is no field "shema"`,
		oneType("schemaVersion: 0"):                                 inX + "schemaVersion: is 0",
		oneType("schemaVersion: one"):                               inX + "yaml: ",
		oneType("publish: [waiter]"):                                inX + `publish: no role "waiter" publishes`,
		oneType("publish: [analyst]"):                               inX + `publish: no role "analyst" publishes`,
		oneType(`rooms: ["table:{data.t}"]`):                        inX + `rooms: "table:{data.t}" can give no room: a room is`,
		oneType(`rooms: ["branch_{data.b}"]`):                       inX + `rooms: "branch_{data.b}" can give no room: a room is`,
		oneType(`rooms: ["branch:"]`):                               inX + "rooms:",
		oneType(`rooms: ["branch:a b"]`):                            inX + "rooms:",
		oneType(`rooms: ["company:c1"]`):                            inX + `rooms: "company:c1": the only company`,
		oneType(`rooms: ["company:{data.c}"]`):                      inX + `rooms: "company:{data.c}": the only company`,
		oneType(`rooms: ["branch:{data.b"]`):                        inX + `rooms: "branch:{data.b" has a { without its }`,
		oneType(`rooms: ["branch:data.b}"]`):                        inX + `rooms: "branch:data.b}" has a } without its {`,
		oneType(`rooms: ["branch:{branchId}"]`):                     inX + `rooms: "branch:{branchId}": {branchId} is neither`,
		oneType(`rooms: ["branch:{data.}"]`):                        inX + "rooms:",
		oneType(`rooms: ["branch:{data.a..b}"]`):                    inX + "rooms:",
		oneType(`rooms: ["branch:{data.{data.b}"]`):                 inX + "rooms:",
		oneType(`stream: "order"`):                                  inX + `stream: "order" can give no stream`,
		oneType(`stream: "{data.id}"`):                              inX + `stream: "{data.id}" can give no stream`,
		oneType(`stream: "order:{id}"`):                             inX + `stream: "order:{id}": {id} is neither`,
		oneType(`stream: "order:` + strings.Repeat("x", 200) + `"`): inX + "stream:",

		oneType("schema: true"):                                  inX + "schema: schema_violation: data must be a JSON object",
		oneType("schema: {type: objekt}"):                        inX + "schema: /type fits none of the forms it may have: must be ",
		oneType("schema: {properties: {a: 5}}"):                  inX + "schema: /properties/a must be ",
		oneType("schema: {pattern: '('}"):                        inX + "schema: /pattern ",
		oneType("schema: {$ref: other.json}"):                    inX + "schema: ",
		oneType("schema: {$ref: 'https://example.com/x'}"):       inX + "schema: ",
		oneType("schema: {$ref: 'file:///etc/passwd'}"):          inX + "schema: ",
		oneType(`schema: {const: "\0"}`):                         inX + "schema: schema_violation: data/const holds",
		oneType("schema: {const: .inf}"):                         inX + "schema: line 5: .inf is no JSON value",
		oneType("schema: &a {not: *a}"):                          inX + "",
		oneType("example: 5"):                                    inX + "example: schema_violation: data must be a JSON object",
		oneType("example: {n: 1, n: 2}"):                         inX + `example: line 5: "n" is there twice`,
		oneType("schema: {required: [id]}"):                      inX + "example: is needed, because {} is not valid: schema_violation: data/id is required",
		oneType("schema: {type: string}"):                        inX + "example: is needed",
		oneType("schema: {required: [id]}, example: {}"):         inX + "example: schema_violation: data/id is required",
		oneType(`rooms: ["branch:{data.b}"]`):                    inX + "example: is needed, because {} is not valid: schema_violation: data/b is required",
		oneType(`rooms: ["branch:{data.b}"], example: {b: a b}`): inX + "example: invalid_room: ",
		oneType(`stream: "order:{data.id}", example: {id: 1.5}`): inX + "example: schema_violation: data/id must be",

		oneType("reply: {}"):                           `namespace /a: type x: reply: the namespace has no type ""`,
		oneType("reply: {type: z}"):                    `namespace /a: type x: reply: the namespace has no type "z"`,
		oneType("reply: {type: x}"):                    inX + "reply: a request cannot answer itself",
		oneType("reply: {type: y, in: 5s}"):            inX + `reply: line 5: there is no field "in"`,
		oneType("reply: {type: y, timeout: 30}"):       inX + `reply: timeout: "30" is not a duration`,
		oneType("reply: {type: y, timeout: -1s}"):      inX + `reply: timeout: "-1s" is not a duration`,
		oneType("reply: {type: y, when: {a: b}}"):      inX + "reply: when: want a list",
		oneType("reply: {type: y, when: {a: []}}"):     inX + "reply: when: a: the list is empty",
		oneType("reply: {type: y, when: {a: [null]}}"): inX + "reply: when: a: a value is text",
		oneType("reply: {type: y, when: [a]}"):         inX + "reply: when: ",
	} {
		_, err := catalog.Parse([]byte(text))
		require.Error(t, err, text)
		require.ErrorContains(t, err, want, text)
	}
}

func TestParseFillsInWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte("namespaces: {/b: {}, /a: {description: A, events: {y: {reply: {type: x}}, x: }}}"))
	require.NoError(t, err)
	require.Equal(t, []string{"/b", "/a"}, c.Namespaces())
	require.Equal(t, `{"namespaces":[{"name":"/b","description":"","events":[]},{"name":"/a","description":"A","events":[`+
		`{"type":"y","schemaVersion":1,"description":"","schema":{"type":"object"},"example":{},"publish":[],"rooms":[],"stream":null,`+
		`"reply":{"type":"x","timeoutMs":30000}},`+
		`{"type":"x","schemaVersion":1,"description":"","schema":{"type":"object"},"example":{},"publish":[],"rooms":[],"stream":null}]}]}`,
		string(c.JSON()))
}

func TestParseKeepsTheAuthorsOrderAndWords(t *testing.T) {
	t.Parallel()
	c, err := catalog.Parse([]byte(oneType(
		`schemaVersion: 3, description: "a < b", publish: [web], rooms: ["branch:{data.b.id}", "company:{companyId}"], stream: "s:{data.b.id}",` +
			` reply: {type: y, when: {ok: [true, 1, "1"]}, timeout: 1.5s, ack: true},` +
			` schema: {z: 1, type: object, properties: {b: &b {type: object}, a: *b}}, example: {b: {id: 7}, at: 2026-01-02, n: 1.50, none: null}`)))
	require.NoError(t, err)
	require.Contains(t, string(c.JSON()),
		`{"type":"x","schemaVersion":3,"description":"a < b","schema":{"z":1,"type":"object","properties":{"b":{"type":"object"},"a":{"type":"object"}}},`+
			`"example":{"b":{"id":7},"at":"2026-01-02","n":1.5,"none":null},"publish":["web"],"rooms":["branch:{data.b.id}","company:{companyId}"],`+
			`"stream":"s:{data.b.id}","reply":{"type":"y","when":{"ok":[true,1,"1"]},"timeoutMs":1500,"ack":true}}`)
}

func TestLoadNamesTheFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ours.yaml")
	_, err := catalog.Load(path)
	require.ErrorContains(t, err, path)

	require.NoError(t, os.WriteFile(path, []byte(oneType("schemaVersion: 0")), 0o600))
	_, err = catalog.Load(path)
	require.ErrorContains(t, err, path+": namespace /a: type x: schemaVersion")

	require.NoError(t, os.WriteFile(path, []byte(oneType("")), 0o600))
	c, err := catalog.Load(path)
	require.NoError(t, err)
	require.Equal(t, []string{"/a"}, c.Namespaces())
}
