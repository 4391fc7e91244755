package ws

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/problem"
)

func TestParse_SaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]struct {
		code problem.Code
		path string
		ref  string
	}{
		`{"type":"ping","ref":{}}`:                                             {problem.InvalidMessage, "ref", ""},
		`{"type":"ping","ref":[1]}`:                                            {problem.InvalidMessage, "ref", ""},
		`{"type":"ping","ref":"` + strings.Repeat("r", 300) + `"}`:             {problem.InvalidMessage, "ref", ""},
		`{"type":7,"ref":1}`:                                                   {problem.InvalidMessage, "type", "1"},
		`{"type":"publish","ref":"a","events":{}}`:                             {problem.InvalidMessage, "events", `"a"`},
		`{"type":"subscribe","subscribe":["/orders"],"ref":"later"}`:           {problem.InvalidMessage, "subscribe", `"later"`},
		`{"ref":2,"type":"subscribe","subscribe":[{"namespace":7}]}`:           {problem.InvalidMessage, "subscribe.namespace", "2"},
		`{"ref":3,"type":"unsubscribe","unsubscribe":[{"rooms":"branch:b7"}]}`: {problem.InvalidMessage, "unsubscribe.rooms", "3"},
		`{"ref":4,"type":"auth","token":` + strings.Repeat("9", 5000) + `}`:    {problem.InvalidMessage, "token", "4"},
		`{"ref":5}`:                            {problem.InvalidMessage, "", "5"},
		`null`:                                 {problem.InvalidMessage, "", ""},
		`"ping"`:                               {problem.InvalidMessage, "", ""},
		"{\"type\":\"ping\",\"ref\":\"\xff\"}": {problem.InvalidJSON, "", ""},
		`{"type":"ping",}`:                     {problem.InvalidJSON, "", ""},
		strings.Repeat("[", 20_000):            {problem.InvalidJSON, "", ""},
	} {
		m, err := parse([]byte(text))
		var p *problem.Error
		require.ErrorAs(t, err, &p, "%.80s", text)
		require.Equal(t, want.code, p.Code, "%.80s", text)
		path, _ := p.Fields["path"].(string)
		require.Equal(t, want.path, path, "%.80s", text)
		require.Less(t, len(p.Detail), 200, "%.80s", text)
		require.Equal(t, want.ref, string(m.Ref), "%.80s", text)
	}
}

// FuzzParse holds that whatever is taken for a message can be answered: with
// its ref in a text frame, which is JSON in UTF-8.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"type":"hello","token":"t","companyId":"c1","cursor":"1-7","subscribe":[{"namespace":"/orders","rooms":["branch:b7"]}],"client":{"name":"n"}}`,
		`{"type":"subscribe","ref":1,"subscribe":[{"namespace":"/orders","snapshot":true}]}`,
		`{"type":"unsubscribe","ref":"a","unsubscribe":[{"namespace":"/orders","rooms":null}]}`,
		`{"type":"publish","ref":null,"events":[{"data":{}},7,[]]}`,
		`{"type":"auth","ref":-1.5e3,"token":"\ud800"}`, `{"type":"ping"}`, `{"type":"ping","ref":"\u2028</script>"}`,
		`{"ref":{"type":"x"}}`, `{"type":"hello","consumer":"c"}`, "{\"ref\":\"\xff\"}", `{"Type":"ping","REF":1}`, `[`, `null`, ``, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parse(data)
		if err != nil {
			var p *problem.Error
			require.ErrorAs(t, err, &p)
			require.True(t, json.Valid(p.Message(map[string]any{"type": "error"})))
		}
		first, early := parseOpening(data)
		if err == nil {
			require.NoError(t, early)
			require.Equal(t, m.Ref, first.Ref)
			require.Equal(t, m.Token, first.Token)
			require.True(t, json.Valid(data) && utf8.Valid(data))
			require.NotEmpty(t, m.Type)
			_, _ = m.subscriptions()
		}
		answer := problem.New(problem.InvalidMessage, "…").Message(map[string]any{"type": "error", "ref": m.Ref})
		if len(m.Ref) > 0 {
			require.True(t, json.Valid(answer) && utf8.Valid(answer), "%q", answer)
		}
	})
}
