package eventlog_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/catalog"
	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

// templates is a catalogue of types that differ in their templates.
const templates = `
namespaces:
  /orders:
    events:
      plain:    {rooms: ["branch:b7"], stream: "order:1"}
      company:  {rooms: ["company:{companyId}", "branch:{data.a}"], stream: "{companyId}:{data.b}", example: {a: 1, b: 1}}
      nested:   {rooms: ["branch:{data.o.a}", "branch:{data.o.b}"], stream: "s-{data.o.o.a}:{data.a}-{data.a}", example: {a: 1, o: {a: 1, b: 1, o: {a: 1}}}}
      quoted:   {rooms: ["branch:x{data.it's}"], stream: "{data.$1}:{data.%}", example: {"it's": 1, $1: 1, "%": 1}}
      element:  {rooms: ["branch:{data.a.0}"], example: {a: {"0": 1}}}
      nowhere:  {stream: "order:{data.a}", example: {a: 1}}
`

// What SQL takes from a template, and what it refuses, is what the instances do
// with the same data; so is the form of the data and its size.
func TestSQL_AgreesWithTheInstances(t *testing.T) {
	t.Parallel()
	r := outboxRig(t)
	types, err := catalog.Parse([]byte(templates))
	require.NoError(t, err)
	mirror, err := types.Mirror()
	require.NoError(t, err)
	const limit = 1500
	require.NoError(t, r.log.MirrorCatalogue(t.Context(), mirror, limit))
	require.Equal(t, int64(len(types.All()[0].Types)), value[int64](t, r, "SELECT count(*) FROM tailroom.event_types"))

	compared, outcomes := 0, map[string]int{}
	for seed := range uint64(500) {
		g := generator{rand.New(rand.NewPCG(seed, 0))}
		var data string // as jsonb has it: 1e3 is 1000 then
		if r.pool.QueryRow(t.Context(), "SELECT $1::text::jsonb::text", g.object(0)).Scan(&data) != nil {
			continue // \u0000 and the like
		}
		compared++
		for _, typ := range types.All()[0].Types {
			want := byInstance(typ, data, limit)
			outcomes[strings.Fields(want)[0]]++
			require.Equal(t, want, r.bySQL(t, typ.Name, data), "seed %d: %s: %s", seed, typ.Name, data)
		}
	}
	require.Greater(t, compared, 300)
	for _, outcome := range []string{"[branch:", "invalid_room", "schema_violation", "too_large"} {
		found := false
		for o, n := range outcomes {
			found = found || strings.HasPrefix(o, outcome) && n > 5
		}
		require.True(t, found, "%s: the data is too uniform: %v", outcome, outcomes)
	}
}

// byInstance is the rooms and the stream that an instance finds for an event of
// company c1, or the code of its refusal.
func byInstance(typ *catalog.Type, data string, limit int) string {
	said := func(err error) string { return string(problem.From(err).Code) }
	if err := jsonvalue.Check([]byte(data), 1<<30); err != nil {
		return said(err)
	}
	if err := jsonvalue.Check([]byte(data), limit); err != nil {
		return said(err)
	}
	v, err := typ.Validate([]byte(data))
	if err != nil {
		return said(err)
	}
	stream, err := typ.StreamFor("c1", v) // SQL begins with it
	if err != nil {
		return said(err)
	}
	rooms, err := typ.RoomsFor("c1", v)
	if err != nil {
		return said(err)
	}
	return fmt.Sprint(rooms, stream)
}

// bySQL is the same.
func (r *rig) bySQL(t *testing.T, typ, data string) string {
	t.Helper()
	var rooms []string
	var stream *string
	err := r.pool.QueryRow(t.Context(), `SELECT d.rooms, d.stream FROM tailroom.drafted('c1', '/orders', $1, $2,
		rooms => NULL, stream => NULL, id => NULL, correlation_id => NULL, causation_id => NULL, actor => NULL, occurred_at => NULL, reply_by => NULL) d`,
		typ, data).Scan(&rooms, &stream)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		code, _, _ := strings.Cut(pg.Message, ":")
		require.Equal(t, map[string]string{"invalid_room": "TR012", "schema_violation": "TR013", "too_large": "TR014"}[code], pg.Code, pg.Message)
		return code
	}
	require.NoError(t, err)
	if stream == nil {
		stream = new(string)
	}
	return fmt.Sprint(rooms, *stream)
}

// generator makes JSON that is often right, and often nearly.
type generator struct{ *rand.Rand }

func (g generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g generator) object(depth int) string {
	var b bytes.Buffer
	for i, key := range []string{"a", "b", "o", "it's", "$1", "%"} {
		if i > 0 {
			b.WriteString(", ")
		}
		if g.IntN(30) == 0 {
			key += "?" // it is missing
		}
		fmt.Fprintf(&b, "%q: %s", key, g.value(key, depth))
	}
	return "{" + b.String() + "}"
}

func (g generator) value(key string, depth int) string {
	if key == "o" && depth < 3 && g.IntN(10) > 0 {
		return g.object(depth + 1)
	}
	switch g.IntN(40) {
	case 0:
		return g.one("null", "true", "[]", "{}", `["0"]`, `{"0": "7"}`, `{"0": 7.0}`, `[[1, 2], "a, b: c"]`)
	case 1:
		depth := 58 + g.IntN(10)
		return strings.Repeat("[", depth) + strings.Repeat("]", depth)
	case 2:
		return g.one("1e308", "1.8e308", "-1.7976931348623157e308", "1e309", "5e-324", "-1e-347", "-1e-348", "1e-348", "1e-349", "9"+strings.Repeat("0", 348)+".5")
	case 3:
		return `"` + strings.Repeat(g.one("x", `\"`, ": ", ", ", "é", `\\`), g.IntN(1500)) + `"`
	case 4:
		return g.one(`" "`, `""`, `"a:b"`, `"a_b"`, `"\u0000"`, `"\u0085"`, `"\n"`, `"\u00a0"`, `"\ufffd"`, `"😀"`, `"{data.a}"`, `"`+strings.Repeat("n", 63+g.IntN(3))+`"`)
	case 5:
		return g.one("1.5", "0.1", "-0", "-0.0", "0.0", "1e-1", "1e2", "100e-2", "1000.0", "9007199254740992.0", "9007199254740993.0",
			"9007199254740990.5", "-9007199254740992.00", "90071992547409930", "123456789012345678901234567890", "1.00000000000000000000001")
	default:
		return g.one(`"b7"`, `"B-9"`, "7", "-7", "10e1", "12.000")
	}
}
