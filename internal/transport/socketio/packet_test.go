package socketio

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParsePacket(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]packet{
		"0":                               {kind: kindConnect, namespace: "/"},
		`0{"token":"t"}`:                  {kind: kindConnect, namespace: "/", payload: []byte(`{"token":"t"}`)},
		"0/orders,":                       {kind: kindConnect, namespace: "/orders"},
		"0/orders":                        {kind: kindConnect, namespace: "/orders"},
		"01":                              {kind: kindConnect, namespace: "/", id: "1"},
		`0/orders,{"a":1}`:                {kind: kindConnect, namespace: "/orders", payload: []byte(`{"a":1}`)},
		"1/orders,":                       {kind: kindDisconnect, namespace: "/orders"},
		"1/orders":                        {kind: kindDisconnect, namespace: "/orders"},
		`2["a"]`:                          {kind: kindEvent, namespace: "/", payload: []byte(`["a"]`)},
		`2["error"]`:                      {kind: kindEvent, namespace: "/", payload: []byte(`["error"]`)},
		`2[-1.5,{}]`:                      {kind: kindEvent, namespace: "/", payload: []byte(`[-1.5,{}]`)},
		`2/orders,12["a",{"b":"/,1[\""}]`: {kind: kindEvent, namespace: "/orders", id: "12", payload: []byte(`["a",{"b":"/,1[\""}]`)},
		`20["a"]`:                         {kind: kindEvent, namespace: "/", id: "0", payload: []byte(`["a"]`)},
		`2007 [ "a" ]`:                    {kind: kindEvent, namespace: "/", id: "7", payload: []byte(` [ "a" ]`)},
		`3/orders,7[]`:                    {kind: kindAck, namespace: "/orders", id: "7", payload: []byte(`[]`)},
		`3[1]`:                            {kind: kindAck, namespace: "/", payload: []byte(`[1]`)},
		`4"why"`:                          {kind: kindConnectError, namespace: "/", payload: []byte(`"why"`)},
		`51-["a",{"_placeholder":true,"num":0}]`: {
			kind: kindBinaryEvent, attachments: 1, namespace: "/", payload: []byte(`["a",{"_placeholder":true,"num":0}]`),
		},
		`510-/orders,3["a"]`: {kind: kindBinaryEvent, attachments: 10, namespace: "/orders", id: "3", payload: []byte(`["a"]`)},
		`61-/orders,3[1]`:    {kind: kindBinaryAck, attachments: 1, namespace: "/orders", id: "3", payload: []byte(`[1]`)},
	} {
		p, err := parsePacket([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, p, text)
	}
}

func TestParsePacket_Refused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "7", "a", "-1", "\x00", "0[]", `0"a"`, "0null", "0{", "0{}{}", "0/orders,null", "1{}", "1/orders,[]", "2", "2/orders", "2/orders,",
		"2{}", "2[]", "2[null]", `2[["a"]]`, "2[true]", `2[{"a":1}]`, `2["connect"]`, `2["connect_error"]`, `2["disconnect"]`, `2["disconnecting"]`,
		`2["newListener"]`, `2["removeListener"]`, `2["co\u006enect"]`, `2["a"`, `2["a"]]`, `2"a"`, "3", "3{}", "3/orders,1", "4", "4[]", "41",
		`5["a"]`, `5-["a"]`, `51-[{"_placeholder":true,"num":0}]`, `50-["a"]`, `511-["a"]`, `51["a"]`, "51-", "61-", "61-{}",
		"2" + strings.Repeat("1", 21) + `["a"]`, "0/" + strings.Repeat("a", maxName), "2[\"\xff\"]", "0/\xff,", "0/a\x1eb,",
	} {
		_, err := parsePacket([]byte(text))
		require.ErrorIs(t, err, errPacket, "%.100q", text)
	}
}

func TestArguments_OfALongList(t *testing.T) {
	t.Parallel()
	p, err := parsePacket([]byte(`2["a",{"b":[1,2]}` + strings.Repeat(",0", 100_000) + `]`))
	require.NoError(t, err)
	require.Equal(t, []json.RawMessage{[]byte(`"a"`), []byte(`{"b":[1,2]}`), []byte(`0`)}, p.arguments(3))
}

// What is a packet, is the same one when it is written and read again.
func FuzzParsePacket(f *testing.F) {
	for _, text := range []string{
		"0", `0/orders,{"token":"t"}`, "1/orders,", `2/orders,12["a",{"b":"/,1[\""}]`, "3/orders,7[]", `4{"message":"no"}`,
		`52-/orders,3["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, "61-3[1]", `2["connect"]`, "2[]", "9",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parsePacket(text)
		if err != nil {
			require.ErrorIs(t, err, errPacket)
			return
		}
		var written []byte
		if p.binary() {
			written = append(appendJSON([]byte{'0' + byte(p.kind)}, p.attachments), '-')
			written = append(written, appendHeader(nil, 0, p.namespace, p.id)[1:]...)
		} else {
			written = appendHeader(nil, p.kind, p.namespace, p.id)
		}
		again, err := parsePacket(append(written, p.payload...))
		require.NoError(t, err, "%q", written)
		require.Equal(t, p, again)
		if p.kind == kindEvent || p.kind == kindBinaryEvent {
			require.NotContains(t, reserved, nameOf(p))
		}
	})
}

func nameOf(p packet) string { return text(p.arguments(1)[0]) }
