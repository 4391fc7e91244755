package jsonvalue_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/tailroom/tailroom/internal/jsonvalue"
	"github.com/tailroom/tailroom/internal/problem"
)

const anySize = 1 << 30

func TestCheckTakesWhatPostgresTakes(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		`{}`,
		" {\t\"a\" :\r\n[ 1 , 2.50 , -0 , 1E+2 , true , false , null , \"\" , { } , [ ] ] } ",
		`{"":"","é":"\u00e9\"\\\/\b\f\n\r\t"}`,
		`{"emoji":"😀 \ud83d\ude00"}`,
		`{"not a NUL":"\\u0000"}`,
		`{"n":1.7976931348623157e308}`,
		`{"n":5e-324}`,
		`{"n":-0.000e-300}`,
		`{"n":` + strings.Repeat("9", 308) + `}`,
		`{"a":1,"a":2}`,
		`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`,
	} {
		require.NoError(t, jsonvalue.Check([]byte(data), anySize), data)
	}
}

func TestCheckRefusesWhatIsNotJSON(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		``, ` `, `{`, `}`, `{}}`, `{} {}`, `{]`, `[}`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a" 1}`, `{a:1}`, `{1:1}`, `{'a':1}`,
		`[1,]`, `[,1]`, `[1 2]`, `nul`, `True`, `NaN`, `Infinity`, "\xef\xbb\xbf{}",
		`{"n":01}`, `{"n":-}`, `{"n":+1}`, `{"n":.5}`, `{"n":1.}`, `{"n":1.e5}`, `{"n":1e}`, `{"n":1e+}`, `{"n":0x10}`, `{"n":1_000}`,
		`{"a":"`, `{"a":"\`, `{"a":"\x41"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\U0041"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}",
		"{\"a\":\"\xff\"}", "{\"a\":\"\xc3\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"a\":\"\xc0\x80\"}", "{\"a\":\"\xf4\x90\x80\x80\"}", "{\"\xff\":1}",
		`{"a":"\u0000","b":}`, `{"a":1e400`,
	} {
		require.Equal(t, problem.InvalidJSON, refusal(t, data, anySize).Code, "%q", data)
	}
}

func TestCheckNamesThePlaceOfWhatJSONBCannotHold(t *testing.T) {
	t.Parallel()
	for data, path := range map[string]string{
		`[]`: "", `"text"`: "", `7`: "", `null`: "",
		`{"a":"x\u0000y"}`:                           "/a",
		`{"a":{"\u0000":1}}`:                         "/a",
		`{"\u0000":1}`:                               "",
		`{"a":"\ud800"}`:                             "/a",
		`{"a":"\udc00\ud800"}`:                       "/a",
		`{"a":"\ud800\u0041"}`:                       "/a",
		`{"a":"\ud800\n"}`:                           "/a",
		`{"a":[{"\ud83d":1}]}`:                       "/a/0",
		`{"lines":[{},{"a/b~c":[0,"\udfff"]}]}`:      "/lines/1/a~1b~0c/1",
		`{"\u00e9":1e400}`:                           "/é",
		`{"n":-1e400}`:                               "/n",
		`{"n":1.8e308}`:                              "/n",
		`{"n":1e131071}`:                             "/n",
		`{"n":1e99999999999999999999}`:               "/n",
		`{"n":0e99999999999999999999}`:               "/n",
		`{"n":1e-400}`:                               "/n",
		`{"n":1e-99999999999999999999}`:              "/n",
		`{"n":` + strings.Repeat("9", 310) + `}`:     "/n",
		`{"n":0.` + strings.Repeat("1", 349) + `}`:   "/n",
		`{"n":1` + strings.Repeat("0", 1000) + `}`:   "/n",
		`{"first":1e400,"second":"\u0000"}`:          "/first",
		`{"a":` + strings.Repeat("[", 100_000):       "/a" + strings.Repeat("/0", 63),
		`{"` + strings.Repeat("é", 500) + `":1e400}`: "/" + strings.Repeat("é", 149) + "…",
	} {
		p := refusal(t, data, anySize)
		require.Equal(t, problem.SchemaViolation, p.Code, "%.80s", data)
		violations := p.Fields["errors"].([]jsonvalue.Violation)
		require.Len(t, violations, 1)
		require.Equal(t, path, violations[0].Path, "%.80s", data)
		require.NotEmpty(t, violations[0].Message)
	}
}

func TestCheckMeasuresWhatWillBeDelivered(t *testing.T) {
	t.Parallel()
	for data, delivered := range map[string]string{
		"{ \"a\" : [ 1 ,\n2 ] }":             `{"a":[1,2]}`,
		`{"a":"\u0041\/\u00e9\ud83d\ude00"}`: `{"a":"A/é😀"}`,
		`{"a":"\u0022\u005c\u000a\u0001"}`:   `{"a":"\"\\\n\u0001"}`,
		`{"a":"\u007f"}`:                     "{\"a\":\"\x7f\"}",
		`{"\u0041":null}`:                    `{"A":null}`,
		`{"n":1e20}`:                         `{"n":100000000000000000000}`,
		`{"n":-1.50e1}`:                      `{"n":-15.0}`,
		`{"n":123E-5}`:                       `{"n":0.00123}`,
		`{"n":0.50}`:                         `{"n":0.50}`,
		`{"n":[12e0,0.001e2]}`:               `{"n":[12,0.1]}`,
	} {
		size := len(delivered)
		require.NoError(t, jsonvalue.Check([]byte(data), size), data)
		p := refusal(t, data, size-1)
		require.Equal(t, problem.TooLarge, p.Code, data)
		require.Equal(t, size-1, p.Fields["limit"])
	}
}

func refusal(t *testing.T, data string, limit int) *problem.Error {
	t.Helper()
	err := jsonvalue.Check([]byte(data), limit)
	require.Error(t, err, "%.80q", data)
	p, ok := errors.AsType[*problem.Error](err)
	require.True(t, ok)
	return p
}
