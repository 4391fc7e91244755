package catalog_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/access"
	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

func TestLookupNamesWhatThereIs(t *testing.T) {
	t.Parallel()
	_, err := catalog.Default().Lookup("/order", "newOrder")
	p := problem.From(err)
	require.Equal(t, problem.UnknownNamespace, p.Code)
	require.Equal(t, []string{"/printing-ws", "/orders", "/availability"}, p.Fields["allowed"])

	_, err = catalog.Default().Lookup("/orders", strings.Repeat("printer:test", 1000))
	p = problem.From(err)
	require.Equal(t, problem.UnknownType, p.Code)
	require.Equal(t, []string{"newOrder", "orderStatusUpdate", "orderCancelled", "driverUpdate"}, p.Fields["allowed"])
	require.Less(t, len(p.Detail), 300)
}

func TestMayPublishWithoutAList(t *testing.T) {
	t.Parallel()
	typ := parseX(t, "")
	require.True(t, typ.MayPublish(access.Service))
	require.True(t, typ.MayPublish(access.Admin))
	require.False(t, typ.MayPublish(access.Web))
	require.False(t, typ.MayPublish(access.Analyst))
}

func TestValidateSaysWhatIsWrongWhere(t *testing.T) {
	t.Parallel()
	typ := parseX(t, `
        example: {id: a, a: 1}
        schema:
          required: [id]
          properties:
            id: {type: [string, integer], pattern: "^[a-z]+$", maxLength: 64}
            status: {enum: [open, closed]}
            lines: {items: {properties: {quantity: {type: integer, minimum: 1}}}}
            a/b~: {type: boolean}
            either: {anyOf: [{type: string}, {properties: {to: {type: string}}, type: object}]}
            one: {oneOf: [{type: integer}, {minimum: 5}]}
            strict: {additionalProperties: false, type: object}
            never: false`)
	for data, want := range map[string][]jsonvalue.Violation{
		`{}`:                           {{Path: "/id", Message: "is required"}},
		`{"id":true}`:                  {{Path: "/id", Message: "must be integer or string, not boolean"}},
		`{"id":1.5}`:                   {{Path: "/id", Message: "must be integer or string, not number"}},
		`{"id":"A"}`:                   {{Path: "/id", Message: "must match the pattern ^[a-z]+$"}},
		`{"id":"a","status":"ajar"}`:   {{Path: "/status", Message: "must be one of 'open', 'closed'"}},
		`{"id":"a","a/b~":1}`:          {{Path: "/a~1b~0", Message: "must be boolean, not number"}},
		`{"id":"a","never":1}`:         {{Path: "/never", Message: "is not allowed"}},
		`{"id":"a","strict":{"x":1}}`:  {{Path: "/strict/x", Message: "is not a known field"}},
		`{"id":"a","one":7}`:           {{Path: "/one", Message: "fits more than one of the forms of which it must have one"}},
		`{"id":"a","either":{"to":5}}`: {{Path: "/either", Message: "fits none of the forms it may have: must be string, not object; or /to must be string, not number"}},
		`{"lines":[{},{"quantity":"2"},{"quantity":0}]}`: {
			{Path: "/id", Message: "is required"},
			{Path: "/lines/1/quantity", Message: "must be integer, not string"},
			{Path: "/lines/2/quantity", Message: "minimum: got 0, want 1"},
		},
	} {
		_, err := typ.Validate([]byte(data))
		p := problem.From(err)
		require.Equal(t, problem.SchemaViolation, p.Code, data)
		require.Equal(t, want, p.Fields["errors"], data)
	}
	_, err := typ.Validate([]byte(`[]`))
	require.Equal(t, problem.InvalidJSON, problem.From(err).Code)
}

func TestValidateIsBrief(t *testing.T) {
	t.Parallel()
	typ := parseX(t, "schema: {additionalProperties: {type: string, pattern: ^a}}")
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, `,"%d%s":"%s"`, i, strings.Repeat("k", 1000), strings.Repeat("v", 1000))
	}
	_, err := typ.Validate([]byte("{" + many.String()[1:] + "}"))
	p := problem.From(err)
	require.Len(t, p.Fields["errors"], 20)
	require.Less(t, len(p.JSON()), 20*400)
}

func TestDefaultsAreMadeOfTheData(t *testing.T) {
	t.Parallel()
	typ := parseX(t, `
        rooms: ["branch:{data.to.branch}", "company:{companyId}", "branch:{data.from}"]
        stream: "move:{companyId}/{data.id}"
        example: {id: 1, from: 1, to: {branch: 2}}`)
	for data, want := range map[string]struct{ rooms, stream string }{
		`{"id":"é 1","from":"a","to":{"branch":"b"}}`:            {"branch:b company:c9 branch:a", "move:c9/é 1"},
		`{"id":12345678901234567890,"from":1,"to":{"branch":1}}`: {"branch:1 company:c9", "move:c9/12345678901234567890"},
		`{"id":1e3,"from":7.0,"to":{"branch":-0}}`:               {"branch:0 company:c9 branch:7", "move:c9/1000"},
	} {
		v, err := typ.Validate([]byte(data))
		require.NoError(t, err)
		rooms, err := typ.RoomsFor("c9", v)
		require.NoError(t, err)
		require.Equal(t, want.rooms, strings.Join(rooms, " "))
		stream, err := typ.StreamFor("c9", v)
		require.NoError(t, err)
		require.Equal(t, want.stream, stream)
	}
}

func TestDefaultsRefuseUnsuitableData(t *testing.T) {
	t.Parallel()
	typ := parseX(t, `
        rooms: ["branch:{data.to.branch}"]
        stream: "order:{data.id}"
        example: {id: 1, to: {branch: 2}}`)
	room := func(v catalog.Value) error { _, err := typ.RoomsFor("c1", v); return err }
	stream := func(v catalog.Value) error { _, err := typ.StreamFor("c1", v); return err }
	for _, c := range []struct {
		address func(catalog.Value) error
		data    string
		code    problem.Code
		path    string
		says    string
	}{
		{room, `{}`, problem.SchemaViolation, "/to/branch", "is required, because the event is addressed by branch:{data.to.branch}, unless rooms are named"},
		{room, `{"to":7}`, problem.SchemaViolation, "/to/branch", "is required"},
		{room, `{"to":{"branch":null}}`, problem.SchemaViolation, "/to/branch", "is required"},
		{room, `{"to":{"branch":true}}`, problem.SchemaViolation, "/to/branch", "must be a string or an integer"},
		{room, `{"to":{"branch":1.5}}`, problem.SchemaViolation, "/to/branch", "must be a string or an integer"},
		{room, `{"to":{"branch":1e300}}`, problem.SchemaViolation, "/to/branch", "must be a string or an integer"},
		{room, `{"to":{"branch":""}}`, problem.InvalidRoom, "data/to/branch", ""},
		{room, `{"to":{"branch":"a b"}}`, problem.InvalidRoom, "data/to/branch", ""},
		{room, `{"to":{"branch":"` + strings.Repeat("9", 65) + `"}}`, problem.InvalidRoom, "data/to/branch", ""},
		{stream, `{}`, problem.SchemaViolation, "/id", "is required, because the event is addressed by order:{data.id}, unless a stream is named"},
		{stream, `{"id":[]}`, problem.SchemaViolation, "/id", "must be a string or an integer"},
		{stream, `{"id":""}`, problem.SchemaViolation, "/id", "gives no stream in order:{data.id}"},
		{stream, `{"id":"a\nb"}`, problem.SchemaViolation, "/id", "gives no stream in order:{data.id}"},
		{stream, `{"id":"` + strings.Repeat("x", 195) + `"}`, problem.SchemaViolation, "/id", "gives no stream in order:{data.id}"},
	} {
		v, err := typ.Validate([]byte(c.data))
		require.NoError(t, err)
		p := problem.From(c.address(v))
		require.Equal(t, c.code, p.Code, c.data)
		if c.code == problem.InvalidRoom {
			require.Equal(t, c.path, p.Fields["path"])
			continue
		}
		violations := p.Fields["errors"].([]jsonvalue.Violation)
		require.Len(t, violations, 1)
		require.Equal(t, c.path, violations[0].Path)
		require.Contains(t, violations[0].Message, c.says)
	}
}

func TestNoDefaults(t *testing.T) {
	t.Parallel()
	typ := parseX(t, "")
	v, err := typ.Validate([]byte(`{}`))
	require.NoError(t, err)
	_, err = typ.RoomsFor("c1", v)
	require.Equal(t, problem.InvalidRoom, problem.From(err).Code)
	stream, err := typ.StreamFor("c1", v)
	require.NoError(t, err)
	require.Empty(t, stream)
}

func TestReplyMetBy(t *testing.T) {
	t.Parallel()
	unconditional := parseX(t, "reply: {type: y}").Reply
	require.True(t, unconditional.MetBy([]byte(`{}`)))
	r := parseX(t, "reply: {type: y, when: {status: [done, 5, true], by: [me]}}").Reply
	for data, met := range map[string]bool{
		`{"status":"done","by":"me"}`:   true,
		`{"status":5.0,"by":"me"}`:      true,
		`{"status":true,"by":"me"}`:     true,
		`{"status":"done","by":"you"}`:  false,
		`{"status":"done"}`:             false,
		`{"status":"5","by":"me"}`:      false,
		`{"status":["done"],"by":"me"}`: false,
		`{"status":null,"by":"me"}`:     false,
		`[]`:                            false,
	} {
		require.Equal(t, met, r.MetBy([]byte(data)), data)
	}
}

func BenchmarkJudge(b *testing.B) {
	typ, err := catalog.Default().Lookup("/orders", "newOrder")
	require.NoError(b, err)
	for name, data := range map[string][]byte{
		"small": []byte(`{"orderId":"1042","branchId":"b7","total":1250}`),
		"full":  typ.Example,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				v, _ := typ.Validate(data)
				_, _ = typ.RoomsFor("c1", v)
				if _, err := typ.StreamFor("c1", v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// parseX returns the type x of oneType, whose fields are in flow style on one
// line or in block style on lines of their own.
func parseX(t *testing.T, fields string) *catalog.Type {
	t.Helper()
	text := oneType(fields)
	if strings.HasPrefix(fields, "\n") {
		text = "namespaces:\n  /a:\n    events:\n      y:\n      x:" + fields + "\n"
	}
	c, err := catalog.Parse([]byte(text))
	require.NoError(t, err)
	return lookup(t, c, "/a", "x")
}

func lookup(t *testing.T, c *catalog.Catalog, namespace, name string) *catalog.Type {
	t.Helper()
	typ, err := c.Lookup(namespace, name)
	require.NoError(t, err)
	return typ
}

// allowed is what Lookup says there is.
func allowed(t *testing.T, c *catalog.Catalog, namespace string) any {
	t.Helper()
	_, err := c.Lookup(namespace, "none such")
	return problem.From(err).Fields["allowed"]
}
